//! Completes a login: the response must belong to a login that this browser started, the code is redeemed once, the ID
//! token is fully verified before any other request, and a new session is created under a new ticket.

use crate::caller::rate_limit::{self, Reservation};
use crate::kit::digest::TokenDigest;
use crate::login::cookie::named_like;
use crate::login::flow::{Flow, LIFE, id_of};
use crate::login::relying_party::RelyingParty;
use crate::provider::identity::Identity;
use crate::provider::jwt::{Unverified, Verified};
use crate::provider::keys::KeySet;
use crate::provider::settings::Automatic;
use crate::provider::{GrantError, NoUserInfo, NotVerified, Tokens, userinfo_about, verify_own};
use crate::session::record::{Cold, Hot};
use crate::session::sessions::{Login, Sessions};
use crate::session::ticket::Ticket;
use crate::store::kv::{Entry, Key, Space, Unavailable};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use url::{Url, form_urlencoded};

/// The provider's authorization response, from the query or the posted form.
#[derive(Debug, Default)]
pub struct Answer {
    pub state: Option<String>,
    pub code: Option<String>,
    pub error: Option<String>,
    pub issuer: Option<String>,
}

/// A successful login.
pub struct Done {
    pub target: String,
    pub cookies: Vec<HeaderValue>,
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The state is missing, unknown or used.
    State,
    /// The client was refused too often; when to retry.
    Limited(Duration),
    /// The provider rejected the code, or the response lacks one or fails a check.
    Rejected,
    /// The user, or the provider on their behalf, declined.
    Denied,
    /// The provider needs user interaction that the request did not allow.
    NeedsPerson,
    /// The provider's response is unusable: another error, or an invalid ID token.
    Broken,
    /// The identity has no mapped `user` claim.
    Nobody,
    ProviderUnavailable,
    StoreUnavailable,
}

/// A failure, and the login's target if known.
pub struct Failed {
    pub failure: Failure,
    pub target: Option<String>,
}

impl Answer {
    pub fn parse(form: &[u8]) -> Self {
        let mut answer = Answer::default();
        for (name, value) in form_urlencoded::parse(form) {
            let field = match &*name {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "error" => &mut answer.error,
                "iss" => &mut answer.issuer,
                _ => continue,
            };
            field.get_or_insert_with(|| value.into_owned());
        }
        answer
    }
}

/// A callback request and its context.
pub struct Arrival<'a> {
    /// All relying parties of this host.
    pub sites: &'a [Arc<RelyingParty>],
    /// The request's path.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub sessions: &'a Sessions,
    /// The relying parties of a target's route that are among this host's.
    pub sites_of: &'a (dyn Fn(&str) -> Vec<Arc<RelyingParty>> + Send + Sync),
    /// Reserves a refusal in this client's account under a rate limit.
    pub account: &'a (dyn Fn(&rate_limit::Settings) -> Result<Reservation, Duration> + Send + Sync),
    /// Gives a reservation back.
    pub give_back: &'a (dyn Fn(Reservation) + Send + Sync),
}

impl Arrival<'_> {
    /// Completes the login that this response belongs to.
    pub async fn end(&self, answer: &Answer) -> Result<(Arc<RelyingParty>, Done), Failed> {
        let unknown = Failed { failure: Failure::State, target: None };
        let Some(state) = answer.state.as_deref() else { return Err(unknown) };
        let Some((site, flow)) = self.find(state) else { return Err(unknown) };
        // The settings of the target's route, if it has the same realm.
        let mut there = (self.sites_of)(&flow.target).into_iter();
        let there = there.find(|there| Arc::ptr_eq(&there.realm, &site.realm));
        let site = there.unwrap_or_else(|| site.clone());
        let ended = self.paid(&site, &flow, answer).await;
        let result = ended.as_ref().map_or_else(|failure| failure.word(), |_| "ok");
        site.realm.metrics.logged_in(result);
        match ended {
            Ok(cookie) => {
                let cleared = site.cookie.clear_flow(&id_of(state), self.headers);
                let cookies = cookie.into_iter().chain(cleared).collect();
                Ok((site, Done { cookies, target: flow.target }))
            }
            Err(failure) => Err(Failed { failure, target: Some(flow.target) }),
        }
    }

    /// Reserves a refusal in the client's account before the provider is asked; gives it back if nothing was refused.
    async fn paid(&self, site: &RelyingParty, flow: &Flow, answer: &Answer) -> Result<Option<HeaderValue>, Failure> {
        let paid = (self.account)(&site.limit).map_err(Failure::Limited)?;
        let ended = end(site, flow, answer, self).await;
        if ended.as_ref().map_or_else(|failure| !failure.is_charged(), |_| true) {
            (self.give_back)(paid);
        }
        ended
    }

    /// The login with this state that this browser started.
    fn find(&self, state: &str) -> Option<(&Arc<RelyingParty>, Flow)> {
        let id = id_of(state);
        self.sites.iter().find_map(|site| {
            let flow = site.cookie.flow(&id, self.headers).iter().find_map(|value| {
                let flow = Flow::open(&site.realm.secrets, &site.cookie, value, self.sessions.now()).ok()?;
                let same = aws_lc_rs::constant_time::verify_slices_are_equal(flow.state().as_bytes(), state.as_bytes())
                    .is_ok();
                (same && flow.provider == site.provider()).then_some(flow)
            })?;
            Some((site, flow))
        })
    }
}

impl Failure {
    /// Whether it counts against the client: not if a dependency was unavailable, nor if the provider denied the user.
    fn is_charged(self) -> bool {
        match self {
            Failure::State | Failure::Rejected | Failure::NeedsPerson | Failure::Broken => true,
            Failure::Denied
            | Failure::Nobody
            | Failure::ProviderUnavailable
            | Failure::StoreUnavailable
            | Failure::Limited(_) => false,
        }
    }

    /// The word of its reason, for the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Failure::State => "state_mismatch",
            Failure::Limited(_) => "rate_limited",
            Failure::Rejected | Failure::Denied | Failure::NeedsPerson | Failure::Broken => "login_failed",
            Failure::Nobody => "forbidden",
            Failure::ProviderUnavailable => "provider_unavailable",
            Failure::StoreUnavailable => "store_unavailable",
        }
    }
}

/// Creates the session; its cookie.
async fn end(
    site: &RelyingParty,
    flow: &Flow,
    answer: &Answer,
    at: &Arrival<'_>,
) -> Result<Option<HeaderValue>, Failure> {
    let (provider, sessions) = (site.realm.provider.as_ref(), at.sessions);
    // RFC 9700, 4.4: a response on another provider's callback is from that provider.
    let is_own = !site.shares_jar || at.path.ends_with(&format!("/callback/{}", site.provider()));
    let comes_back = is_own && Url::parse(&flow.redirect_uri).is_ok_and(|uri| uri.path() == at.path);
    let promised = provider.metadata().is_some_and(|m| m.authorization_response_iss_parameter_supported);
    if !comes_back || (promised && answer.issuer.is_none()) {
        return Err(Failure::Rejected);
    }
    if answer.issuer.as_ref().is_some_and(|issuer| !provider.settings().is_response_issuer(issuer)) {
        return Err(Failure::Rejected); // RFC 9207
    }
    // An error is final: the state is not marked as used, and the provider is not asked.
    if let Some(error) = &answer.error {
        return Err(of_error(error));
    }
    let Some(code) = &answer.code else { return Err(Failure::Rejected) };
    let mark = Key::of(Space::Used, data_encoding::HEXLOWER.encode(TokenDigest::of(flow.state().as_bytes()).bytes()));
    match sessions.kv.put_new(&mark, Entry { generation: 0, value: Vec::new() }, LIFE).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure::State),
        Err(Unavailable) => return Err(Failure::StoreUnavailable),
    }
    let tokens = provider.exchange(code, &flow.verifier(), &flow.redirect_uri).await.map_err(|error| match error {
        GrantError::Denied => Failure::Rejected,
        GrantError::Unavailable => Failure::ProviderUnavailable,
        _ => Failure::Broken,
    })?;
    let login = prove(site, flow, tokens, sessions).await?;
    let lives = site.realm.ttl(login.hot.created, sessions.now()).min(site.limits.max_age);
    let cookie = sessions.create(&site.realm, login).await.map_err(|Unavailable| Failure::StoreUnavailable)?;
    forget_old(site, at.headers, sessions).await;
    Ok(site.cookie.set(cookie.expose(), lives))
}

fn of_error(error: &str) -> Failure {
    match error {
        "access_denied" => Failure::Denied,
        // OpenID Connect Core 1.0, 3.1.2.6.
        "login_required" | "interaction_required" | "consent_required" | "account_selection_required" => {
            Failure::NeedsPerson
        }
        "server_error" | "temporarily_unavailable" => Failure::ProviderUnavailable,
        _ => Failure::Broken,
    }
}

/// Establishes the identity: verifies the ID token, then asks UserInfo for missing claims.
async fn prove(site: &RelyingParty, flow: &Flow, tokens: Tokens, sessions: &Sessions) -> Result<Login, Failure> {
    let provider = site.realm.provider.as_ref();
    let settings = provider.settings();
    let id = tokens.id.as_ref().ok_or(Failure::Broken)?;
    let (nonce, now) = (flow.nonce(), sessions.now());
    let read = |keys: &KeySet| Unverified::read(id.expose())?.verify_id_token(keys, settings, Some(&nonce), now);
    let verified = verify_own(provider, read).await.map_err(|error| match error {
        NotVerified::Refused(_) => Failure::Broken,
        NotVerified::Unavailable => Failure::ProviderUnavailable,
    })?;
    let mut userinfo = None;
    if settings.userinfo == Automatic::Auto && Identity::lacks_claims(&verified, settings) {
        let subject = verified.claims().get("sub").and_then(Value::as_str).unwrap_or_default();
        userinfo = match userinfo_about(provider, &tokens.access, subject).await {
            Ok(claims) => Some(claims),
            Err(NoUserInfo::Forged) => return Err(Failure::Broken),
            Err(NoUserInfo::Refused) => None, // the ID token's claims must do
            // Otherwise the session would lack its groups for hours.
            Err(NoUserInfo::Unavailable) => return Err(Failure::ProviderUnavailable),
        };
    }
    let identity = Identity::of_login(&verified, userinfo.as_ref(), settings).map_err(|_| Failure::Nobody)?;
    if identity.groups_left_out {
        tracing::warn!(
            provider = %settings.name, user = %identity.user,
            "overage: the provider leaves the groups out, there are too many of them; map another claim, such as app roles"
        );
    }
    Ok(login(identity, &verified, tokens, now))
}

fn login(identity: Identity, verified: &Verified, tokens: Tokens, now: crate::kit::clock::Timestamp) -> Login {
    let text = |name: &str| verified.claims().get(name).and_then(Value::as_str).map(str::to_owned);
    let life = tokens.life(now);
    let hot = Hot {
        identity: Arc::new(identity),
        subject: text("sub").unwrap_or_default(), // a verified token has one
        created: now.millis(),
        seen: now.millis(),
        access_expires: now.plus(life).millis(),
        access_life: i64::try_from(life.as_millis()).unwrap_or(i64::MAX),
        has_refresh: tokens.refresh.is_some(),
        stale: None,
    };
    let own = |secret: &crate::kit::secret::Secret| secret.expose().clone();
    let cold = Cold {
        access: own(&tokens.access),
        id: tokens.id.as_ref().map(own),
        refresh: tokens.refresh.as_ref().map(own),
        refreshed: now.millis(),
        session_id: text("sid"),
    };
    Login { hot, cold }
}

/// Ends the sessions that the new one replaces.
async fn forget_old(site: &RelyingParty, headers: &HeaderMap, sessions: &Sessions) {
    for value in named_like(headers, &site.cookie.name, Ticket::is_like) {
        let _ = sessions.end(&site.realm, value).await; // on failure it expires by itself
    }
}
