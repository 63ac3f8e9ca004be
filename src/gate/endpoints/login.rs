//! `/start` and `/callback`: a login begun and ended.

use crate::caller::rate_limit::Account;
use crate::gate::decision::{Audit, Reply, Why};
use crate::gate::endpoints::parameters::{Parameters, origin_of, redirect};
use crate::gate::gate::{Endpoints, Gate};
use crate::gate::host::Host;
use crate::gate::html::Message;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::Refusal;
use crate::gate::request::{Body, RequestHead};
use crate::gate::sign_in::Beginning;
use crate::login::callback::{self, Arrival, Failed, Failure};
use crate::login::cookie::SameSite;
use crate::login::relying_party::RelyingParty;
use crate::login::signed_in::any_session;
use crate::store::kv::Unavailable;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use http::{Method, StatusCode, header};
use std::sync::Arc;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

/// What is done where the target's route has several providers and none is named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) enum Undecided {
    First,
    Asked,
}

/// What `/start` and `/sign_in` lead to; the target is a checked return URL.
pub(in crate::gate) enum Login {
    Of {
        site: Arc<RelyingParty>,
        target: String,
    },
    /// Users choose.
    Choice {
        sites: Vec<Arc<RelyingParty>>,
        target: String,
    },
}

impl Gate {
    pub(super) async fn start_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
        undecided: Undecided,
    ) -> Result<Reply, Refusal> {
        let (site, wanted) = match self.login_for(sites, query, head, audit, undecided)? {
            Login::Choice { sites, target } => return Ok(self.endpoints.choice(&sites, &target, audit)),
            Login::Of { site, target } => (site, target),
        };
        if let Some(cause) = self.endpoints.in_vain(&site, head.headers) {
            // A user with a session may sign in again and again.
            match any_session(std::slice::from_ref(&site), head.headers, &self.endpoints.sessions).await {
                Some(Ok(_)) => {}
                Some(Err(Unavailable)) => return Err(Refusal::of(Reason::StoreUnavailable)),
                None => return Err(self.endpoints.stop_loop(&site, cause, audit)),
            }
        }
        let origin = origin_of(&site, audit);
        let target = self.endpoints.return_urls.checked(&wanted, &origin);
        let hint = query.get("login_hint").filter(|hint| !hint.is_empty() && hint.len() <= LONGEST_HINT);
        let beginning = Beginning { site: &site, origin: &origin, target, hint, reason: Reason::LoginRequired };
        self.endpoints.begin_login(beginning, head.headers, audit)
    }

    /// The login that a request for `/start` or `/sign_in` begins.
    pub(in crate::gate) fn login_for(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &Audit,
        undecided: Undecided,
    ) -> Result<Login, Refusal> {
        // nginx and ingress-nginx send the return URL in this header, a third party in a parameter.
        let told = || head.headers.get("x-auth-request-redirect").and_then(|value| value.to_str().ok());
        let wanted = query.get("rd").or(query.get("target_link_uri")).or_else(told).unwrap_or("/");
        let own = origin_of(site_here(sites, audit).ok_or(Refusal::of(Reason::BadRequest))?, audit);
        // The target route's settings apply if its login can end on this host.
        let target = self.endpoints.return_urls.checked(wanted, &own);
        let mut there = self.sites_of(&target, sites, audit);
        there.retain(|site| site.redirect_uri.is_some() || origin_of(site, audit) == own);
        // OpenID Connect Core 1.0, 4: a third party names the provider by its issuer.
        let named = |site: &&Arc<RelyingParty>| match (query.get("provider"), query.get("iss")) {
            (Some(name), _) => site.provider() == name,
            (None, Some(issuer)) => site.realm.provider.settings().is_response_issuer(issuer),
            (None, None) => true,
        };
        let is_undecided = query.get("provider").or(query.get("iss")).is_none() && there.len() > 1;
        if is_undecided && undecided == Undecided::Asked {
            return Ok(Login::Choice { sites: there, target });
        }
        let site = there.iter().chain(sites).find(named).ok_or(Refusal::of(Reason::BadRequest))?.clone();
        Ok(Login::Of { site, target })
    }

    /// The relying parties of a target's route whose realms this host serves: their settings apply to the login.
    fn sites_of(&self, target: &str, sites: &[Arc<RelyingParty>], audit: &Audit) -> Vec<Arc<RelyingParty>> {
        let route = || {
            let url = Url::parse(&origin_of(site_here(sites, audit)?, audit)).ok()?.join(target).ok()?;
            let host = Host::parse(&url[url::Position::BeforeHost..url::Position::AfterPort]).ok()?;
            self.routes.find(Some(&host), &Method::GET, url.path().as_bytes())
        };
        let own = route().map(|route| route.access.sites()).unwrap_or_default();
        let is_served = |site: &&Arc<RelyingParty>| sites.iter().any(|known| Arc::ptr_eq(&known.realm, &site.realm));
        own.iter().filter(is_served).cloned().collect()
    }

    pub(super) async fn callback_page(
        &self,
        sites: &[Arc<RelyingParty>],
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let form = match head.body {
            Body::Whole(body) => body,
            _ => path.query().trim_start_matches('?').as_bytes(),
        };
        let answer = callback::Answer::parse(form);
        let client = audit.client;
        let arrival = Arrival {
            sites,
            path: path.as_str(),
            headers: head.headers,
            sessions: &self.endpoints.sessions,
            sites_of: &|target| self.sites_of(target, sites, audit),
            account: &|limit| Account { limiter: &self.authenticator.limiter, limit, client }.reserve(),
            give_back: &|reservation| self.authenticator.limiter.give_back(reservation, Instant::now()),
        };
        match arrival.end(&answer).await {
            Ok((site, done)) => {
                let (provider, user) = (site.provider(), &done.identity.user);
                tracing::info!(
                    event = "login", request_id = %audit.request_id, provider, %user, client = %audit.client,
                    "a user has signed in"
                );
                audit.identity = Some(done.identity.clone());
                let origin = origin_of(&site, audit);
                let target = self.endpoints.return_urls.checked(&done.target, &origin);
                let mut reply = match site.cookie.same_site {
                    // Browsers do not send a `SameSite=Strict` cookie with a redirect that another site started.
                    SameSite::Strict => {
                        self.endpoints.html.say(&Message::GoingOn { target: &target }, &audit.request_id)
                    }
                    _ => redirect(&target, audit),
                };
                reply.headers.extend(done.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
                Ok(reply)
            }
            Err(Failed { failure, why, target, provider }) => {
                tracing::warn!(
                    event = "login_failed", request_id = %audit.request_id, provider = provider.as_deref(),
                    client = %audit.client, reason = failure.word(), why, "a login has failed"
                );
                audit.why = Why::of(why);
                audit.meant_for.clone_from(&target);
                // A user who is signed in already is redirected instead.
                if let Some(Ok((site, session))) = any_session(sites, head.headers, &self.endpoints.sessions).await {
                    let target =
                        self.endpoints.return_urls.checked(target.as_deref().unwrap_or("/"), &origin_of(&site, audit));
                    // Check the target route's limits: otherwise that route would start a login again at once.
                    let there = self.sites_of(&target, sites, audit);
                    let there = there.iter().find(|there| Arc::ptr_eq(&there.realm, &site.realm));
                    let limits = there.map_or(site.limits, |there| there.limits);
                    if session.is_within(limits, self.endpoints.sessions.now()) {
                        return Ok(redirect(&target, audit));
                    }
                }
                // An unknown state has no reservation yet: charge it now.
                let limit = sites.first().filter(|_| target.is_none()).map(|site| &site.limit);
                let charged = limit
                    .map_or(Ok(()), |limit| Account { limiter: &self.authenticator.limiter, limit, client }.charge());
                Err(charged.map_or_else(Refusal::limited, |()| of_failure(failure)))
            }
        }
    }
}

impl Endpoints {
    /// The page on which users choose a provider.
    fn choice(&self, sites: &[Arc<RelyingParty>], target: &str, audit: &mut Audit) -> Reply {
        audit.outcome = Outcome::own_page;
        let way = |site: &Arc<RelyingParty>| {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("provider", site.provider())
                .append_pair("rd", target)
                .finish();
            let label = site.realm.provider.settings().label.as_deref();
            (label.unwrap_or(site.provider()).to_owned(), format!("{}/start?{query}", self.path))
        };
        let ways: Vec<(String, String)> = sites.iter().map(way).collect();
        self.html.say(&Message::Choose { ways: &ways }, &audit.request_id)
    }
}

/// The relying party whose origin has the request's port, else the first.
fn site_here<'s>(sites: &'s [Arc<RelyingParty>], audit: &Audit) -> Option<&'s Arc<RelyingParty>> {
    let port = audit.host.as_ref().and_then(Host::port);
    let has_port = |site: &&Arc<RelyingParty>| {
        Url::parse(&origin_of(site, audit))
            .is_ok_and(|origin| origin.port() == port || origin.port_or_known_default() == port)
    };
    sites.iter().find(has_port).or(sites.first())
}

/// The longest `login_hint` that is passed on.
const LONGEST_HINT: usize = 1024;

fn of_failure(failure: Failure) -> Refusal {
    let failed = |status| Refusal { status, ..Refusal::of(Reason::LoginFailed) };
    match failure {
        Failure::State(cause) => Refusal { cause: Some(cause), ..Refusal::of(Reason::StateMismatch) },
        Failure::Rejected => failed(StatusCode::BAD_REQUEST),
        Failure::Limited(wait) => Refusal::limited(wait),
        Failure::NeedsPerson => failed(StatusCode::UNAUTHORIZED),
        Failure::Denied => failed(StatusCode::FORBIDDEN),
        Failure::Broken => failed(StatusCode::BAD_GATEWAY),
        Failure::Nobody => Refusal::of(Reason::Forbidden),
        Failure::ProviderUnavailable => Refusal::of(Reason::ProviderUnavailable),
        Failure::StoreUnavailable => Refusal::of(Reason::StoreUnavailable),
    }
}
