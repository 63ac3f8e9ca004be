//! The gateway's own pages.

pub mod forward_auth;

use crate::caller::address::Caller;
use crate::caller::rate_limit::Account;
use crate::gate::authenticate::browser::Beginning;
use crate::gate::decision::{Answer, Audit, Reply};
use crate::gate::endpoint::{Endpoint, MAX_BODY};
use crate::gate::gate::{Gate, METHODS};
use crate::gate::host::Host;
use crate::gate::html::Message;
use crate::gate::path::CanonicalPath;
use crate::gate::refusal::{Refusal, SIGN_IN, own_headers};
use crate::gate::request::{Body, RequestHead};
use crate::gate::route::{Access, Route};
use crate::login::callback::{self, Arrival, Failed, Failure};
use crate::login::cookie::{SameSite, named_like};
use crate::login::relying_party::RelyingParty;
use crate::login::sign_out::{remembered, sign_out};
use crate::session::session::Session;
use crate::session::sessions::Found;
use crate::session::ticket::Ticket;
use crate::store::kv::Away;
use crate::telemetry::metrics::{Credential, Outcome};
use crate::telemetry::reason::Reason;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

impl Gate {
    /// `found`: the route that another proxy asks about, for the marks of a refusal.
    pub(super) async fn own_page<'g>(
        &'g self,
        page: Endpoint,
        head: &RequestHead<'_>,
        path: &CanonicalPath<'_>,
        caller: &Caller,
        audit: &mut Audit,
        found: &mut Option<&'g Arc<Route>>,
    ) -> Result<Answer, Refusal> {
        if !page.knows(head.method) {
            return Err(Refusal::method_not_allowed(page.allow().unwrap_or(METHODS)));
        }
        if content_length(head.headers) > MAX_BODY || head.body == Body::TooLarge {
            return Err(Refusal::form(StatusCode::PAYLOAD_TOO_LARGE));
        }
        if head.body == Body::Broken {
            return Err(Refusal::of(Reason::BadRequest));
        }
        audit.outcome = Outcome::own_page;
        let sites = self.table.sites(audit.host.as_ref());
        let query = Parameters::of(path.query());
        let reply = match page {
            Endpoint::Auth => {
                let judged = self.judge_for_auth_request(&query, head, caller, audit, found).await;
                judged
                    .unwrap_or_else(|refusal| forward_auth::for_auth_request(self.refuse(refusal, head, audit, *found)))
            }
            Endpoint::Forward => self.judge_for_forward_auth(head, caller, audit, found).await?,
            Endpoint::Start => self.start_page(&sites, &query, head, audit)?,
            Endpoint::Callback(_) => self.callback_page(&sites, head, path, audit).await?,
            Endpoint::SignOut => self.sign_out_page(&sites, &query, head, audit).await?,
            Endpoint::SignedOut => self.signed_out_page(&sites, &query, audit),
            Endpoint::Userinfo => self.userinfo_page(&sites, &query, head, audit).await?,
            // No token that a provider could have sent for these is understood yet.
            Endpoint::BackchannelLogout | Endpoint::FrontchannelLogout => return Err(Refusal::of(Reason::BadRequest)),
        };
        Ok(Answer::Reply(Box::new(reply)))
    }

    fn start_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        // nginx and ingress-nginx tell by this header where the person was going; a third party by a parameter.
        let told = || head.headers.get("x-auth-request-redirect").and_then(|value| value.to_str().ok());
        let wanted = query.get("rd").or(query.get("target_link_uri")).or_else(told).unwrap_or("/");
        let first = sites.first().ok_or(Refusal::of(Reason::BadRequest))?;
        let own = self.origin(first, audit);
        // The settings of another place hold for the login where it can end here.
        let there = self
            .site_of(&self.return_urls.checked(wanted, &own), sites, audit)
            .filter(|site| site.redirect_uri.is_some() || self.origin(site, audit) == own);
        // OpenID Connect Core 1.0, 4: a third party names the provider by its issuer.
        let named = |site: &&Arc<RelyingParty>| match (query.get("provider"), query.get("iss")) {
            (Some(name), _) => site.provider() == name,
            (None, Some(issuer)) => site.realm.provider.settings().is_response_issuer(issuer),
            (None, None) => true,
        };
        let site = there.iter().chain(sites).find(named).ok_or(Refusal::of(Reason::BadRequest))?;
        let origin = self.origin(site, audit);
        let target = self.return_urls.checked(wanted, &origin);
        let hint = query.get("login_hint").filter(|hint| !hint.is_empty() && hint.len() <= LONGEST_HINT);
        let beginning = Beginning { site, origin: &origin, target, hint, reason: Reason::LoginRequired };
        self.begin_login(beginning, head.headers, audit)
    }

    /// Where the people of a target sign in, if they may do so here as well: its route's settings hold for the login.
    fn site_of(&self, target: &str, sites: &[Arc<RelyingParty>], audit: &Audit) -> Option<Arc<RelyingParty>> {
        let own = self.origin(sites.first()?, audit);
        let url = Url::parse(&own).ok()?.join(target).ok()?;
        let host = Host::parse(&url[url::Position::BeforeHost..url::Position::AfterPort]).ok()?;
        let route = self.table.find(Some(&host), &Method::GET, url.path().as_bytes())?;
        let Access::Protected(protected) = &route.access else { return None };
        let site = protected.site.as_ref()?;
        sites.iter().any(|known| Arc::ptr_eq(&known.realm, &site.realm)).then(|| site.clone())
    }

    async fn callback_page(
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
            sessions: &self.sessions,
            site_of: &|target| self.site_of(target, sites, audit),
            account: &|limit| Account { limiter: &self.limiter, limit, client }.reserve(),
            give_back: &|reservation| self.limiter.give_back(reservation, Instant::now()),
        };
        match arrival.end(&answer).await {
            Ok((site, done)) => {
                let origin = self.origin(&site, audit);
                let target = self.return_urls.checked(&done.target, &origin);
                let mut reply = match site.cookie.same_site {
                    // A cookie that is for our own site alone is not sent with a redirect that another site began.
                    SameSite::Strict => self.pages.say(&Message::GoingOn { target: &target }, &audit.request_id),
                    _ => self.redirect(&target, audit),
                };
                reply.headers.extend(done.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
                Ok(reply)
            }
            Err(Failed { target, failure }) => {
                // Who is signed in already has no use for the failure.
                if let Some(Ok((site, session))) = self.any_session(sites, head.headers).await {
                    let target = self.return_urls.checked(target.as_deref().unwrap_or("/"), &self.origin(&site, audit));
                    // By the limits of where they are going: else they would come back from there at once.
                    let limits = self.site_of(&target, sites, audit).map_or(site.limits, |there| there.limits);
                    if session.is_within(limits, self.sessions.now()) {
                        return Ok(self.redirect(&target, audit));
                    }
                }
                // Of a state that nobody knows, no place was taken yet.
                let limit = sites.first().filter(|_| target.is_none()).map(|site| &site.limit);
                let charged = limit.map_or(Ok(()), |limit| Account { limiter: &self.limiter, limit, client }.charge());
                Err(charged.map_or_else(Refusal::limited, |()| of_failure(failure)))
            }
        }
    }

    async fn sign_out_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let site = sites.first().ok_or(Refusal::of(Reason::BadRequest))?;
        let origin = self.origin(site, audit);
        let posted = match head.body {
            Body::Whole(body) => Parameters::of(&String::from_utf8_lossy(body)),
            _ => Parameters::default(),
        };
        let target = self.return_urls.checked(posted.get("rd").or(query.get("rd")).unwrap_or(""), &origin);
        if *head.method == Method::POST {
            if !is_from(head.headers, &origin) {
                return Err(Refusal { status: StatusCode::FORBIDDEN, ..Refusal::of(Reason::BadRequest) });
            }
        } else if is_unasked(head.headers, &origin) {
            return Ok(self.pages.say(
                &Message::ReallySignOut { action: &format!("{}/sign_out", self.auth_path), target: &target },
                &audit.request_id,
            ));
        }
        let out = sign_out(sites, &origin, &target, head.headers, &self.sessions)
            .await
            .map_err(|Away| Refusal::of(Reason::StoreUnavailable))?;
        let mut reply = self.redirect(&out.location, audit);
        reply.headers.extend(out.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
        Ok(reply)
    }

    fn signed_out_page(&self, sites: &[Arc<RelyingParty>], query: &Parameters, audit: &mut Audit) -> Reply {
        let target = query.get("state").and_then(|state| remembered(sites, state)).filter(|target| target != "/");
        match (target, sites.first()) {
            (Some(target), Some(site)) => {
                let target = self.return_urls.checked(&target, &self.origin(site, audit));
                self.redirect(&target, audit)
            }
            _ => {
                let sign_in = self.start(sites);
                self.pages.say(&Message::SignedOut { sign_in: sign_in.as_deref() }, &audit.request_id)
            }
        }
    }

    /// Where a person signs in, if there is one place for it.
    fn start(&self, sites: &[Arc<RelyingParty>]) -> Option<String> {
        (sites.len() == 1).then(|| format!("{}/start", self.auth_path))
    }

    /// What a person who was refused can click on.
    pub(super) fn way_on(&self, refusal: &Refusal, target: &[u8], audit: &Audit) -> Option<(&'static str, String)> {
        match refusal.reason {
            Reason::LoginFailed | Reason::StateMismatch => {
                Some((SIGN_IN, self.start(&self.table.sites(audit.host.as_ref()))?))
            }
            // The session is kept; who does not want to wait for it begins another.
            Reason::ProviderUnavailable if audit.credential == Credential::session => {
                let start = self.start(&self.table.sites(audit.host.as_ref()))?;
                let target = audit.asked.as_ref().map_or(target, |(_, asked)| asked.as_bytes());
                let target: String = form_urlencoded::byte_serialize(target).collect();
                Some((SIGN_IN, format!("{start}?rd={target}")))
            }
            Reason::Forbidden if audit.credential == Credential::session => {
                Some(("Sign out", format!("{}/sign_out", self.auth_path)))
            }
            _ => None,
        }
    }

    async fn userinfo_page(
        &self,
        sites: &[Arc<RelyingParty>],
        query: &Parameters,
        head: &RequestHead<'_>,
        audit: &mut Audit,
    ) -> Result<Reply, Refusal> {
        let asked: Vec<Arc<RelyingParty>> = match query.get("provider") {
            Some(name) => sites.iter().filter(|site| site.provider() == name).cloned().collect(),
            None => sites.to_vec(),
        };
        let found = self.any_session(&asked, head.headers).await;
        let (site, session) =
            found.ok_or(Refusal::of(Reason::LoginRequired))?.map_err(|Away| Refusal::of(Reason::StoreUnavailable))?;
        let who = &session.hot.identity;
        let body = json!({
            "user": who.user, "email": who.email, "name": who.name, "username": who.username, "groups": who.groups,
            "expires_at": session.ends(site.limits),
        });
        audit.identity = Some(who.clone());
        let mut headers = own_headers(&audit.request_id);
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        Ok(Reply { status: StatusCode::OK, headers, body: body.to_string().into() })
    }

    /// The first session that counts under any of these sites; it is neither touched nor refreshed.
    async fn any_session(
        &self,
        sites: &[Arc<RelyingParty>],
        headers: &HeaderMap,
    ) -> Option<Result<(Arc<RelyingParty>, Arc<Session>), Away>> {
        let mut is_away = false;
        for site in sites {
            for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
                match self.sessions.find(&site.realm, value).await {
                    Found::Live(session) if session.is_within(site.limits, self.sessions.now()) => {
                        return Some(Ok((site.clone(), session)));
                    }
                    Found::Away => is_away = true,
                    Found::Live(_) | Found::Absent => {}
                }
            }
        }
        is_away.then_some(Err(Away))
    }

    fn origin(&self, site: &RelyingParty, audit: &Audit) -> String {
        site.origin.for_host(audit.host.as_ref().map(|host| host.name()).unwrap_or_default())
    }

    fn redirect(&self, location: &str, audit: &Audit) -> Reply {
        let mut headers = own_headers(&audit.request_id);
        let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
        headers.push((header::LOCATION, location));
        Reply { status: StatusCode::FOUND, headers, body: bytes::Bytes::new() }
    }
}

/// The parameters of a query or a form; of several with one name the first.
#[derive(Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn of(text: &str) -> Self {
        Parameters(form_urlencoded::parse(text.trim_start_matches('?').as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The longest `login_hint` that is passed on.
const LONGEST_HINT: usize = 1024;

fn of_failure(failure: Failure) -> Refusal {
    let failed = |status| Refusal { status, ..Refusal::of(Reason::LoginFailed) };
    match failure {
        Failure::State => Refusal::of(Reason::StateMismatch),
        Failure::Rejected => failed(StatusCode::BAD_REQUEST),
        Failure::Limited(wait) => Refusal::limited(wait),
        Failure::NeedsPerson => failed(StatusCode::UNAUTHORIZED),
        Failure::Denied => failed(StatusCode::FORBIDDEN),
        Failure::Broken => failed(StatusCode::BAD_GATEWAY),
        Failure::Nobody => Refusal::of(Reason::Forbidden),
        Failure::ProviderAway => Refusal::of(Reason::ProviderUnavailable),
        Failure::StoreAway => Refusal::of(Reason::StoreUnavailable),
    }
}

/// Another site's link or image, or a browser that reads ahead: nobody has asked for it here. A browser that does not say
/// where a request comes from may still name the page.
fn is_unasked(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let reads_ahead = |name: &&str| text(name).is_some_and(|v| v.to_ascii_lowercase().contains("prefetch"));
    if ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(reads_ahead) {
        return true;
    }
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let is_foreign = |page: &str| Url::parse(page).map_or(true, |url| url.origin().ascii_serialization() != origin);
    ["origin", "referer"].into_iter().filter_map(text).any(is_foreign)
}

/// A form of our own: its origin is ours, or none is told and nothing says that it is another's. Our pages send no referrer,
/// so that their forms have the origin `null`; a sandboxed page of another site has that, too, and is told apart by the browser.
fn is_from(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get(header::ORIGIN) {
        Some(sent) if sent == "null" => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
        Some(sent) => sent.as_bytes() == origin.as_bytes(),
        None => headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none"),
    }
}

fn content_length(headers: &HeaderMap) -> usize {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}
