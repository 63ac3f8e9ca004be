//! Completes a login: the response must belong to a login that this browser started, the code is redeemed once, the ID
//! token is fully verified before any other request, and a new session is created under a new ticket.

use crate::caller::rate_limit::{self, Reservation};
use crate::kit::digest::TokenDigest;
use crate::login::cookie::{named, named_like};
use crate::login::flow::{Flow, LIFE, NoFlow, id_of};
use crate::login::no_state::NoState;
use crate::login::relying_party::RelyingParty;
use crate::login::rounds;
use crate::login::signed_in::any_session;
use crate::provider::identity::Identity;
use crate::provider::jwt::{Unverified, Verified};
use crate::provider::keys::KeySet;
use crate::provider::settings::Automatic;
use crate::provider::token_endpoint::LONGEST_DESCRIPTION;
use crate::provider::{CallFailed, GrantError, NoUserInfo, NotVerified, Tokens, userinfo_about, verify_own};
use crate::session::record::{Cold, Hot};
use crate::session::sessions::{Login, Sessions};
use crate::session::ticket::Ticket;
use crate::store::kv::{Entry, Key, Space, Unavailable};
use crate::telemetry::record::{LONGEST_WORD, cut};
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
    pub description: Option<String>,
    pub issuer: Option<String>,
}

/// A successful login.
pub struct Done {
    pub target: String,
    pub identity: Arc<Identity>,
    pub cookies: Vec<HeaderValue>,
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The state is missing, unknown or used.
    State(NoState),
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

/// A failure, and the login's target and provider if known.
pub struct Failed {
    pub failure: Failure,
    /// For operators. No credential.
    pub why: String,
    pub target: Option<String>,
    pub provider: Option<Arc<str>>,
}

/// A failure, and why.
type Fault = (Failure, String);

fn fault(failure: Failure, why: impl Into<String>) -> Fault {
    (failure, why.into())
}

/// So many are read of an answer; no provider sends more.
const MOST_PARAMETERS: usize = 256;

impl Answer {
    pub fn parse(form: &[u8]) -> Self {
        let mut answer = Answer::default();
        for (name, value) in form_urlencoded::parse(form).take(MOST_PARAMETERS) {
            let field = match &*name {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "error" => &mut answer.error,
                "error_description" => &mut answer.description,
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
        let unknown = |cause: NoState| Failed {
            failure: Failure::State(cause),
            why: cause.words().into(),
            target: None,
            provider: None,
        };
        let state = answer.state.as_deref().ok_or_else(|| unknown(NoState::Absent))?;
        let (site, flow) = self.find(state).map_err(unknown)?;
        // The settings of the target's route, if it has the same realm.
        let mut there = (self.sites_of)(&flow.target).into_iter();
        let there = there.find(|there| Arc::ptr_eq(&there.realm, &site.realm));
        let site = there.unwrap_or_else(|| site.clone());
        let had_session = self.had_session(&site).await;
        let ended = self.paid(&site, &flow, answer).await;
        let result = ended.as_ref().map_or_else(|(failure, _)| failure.word(), |_| "ok");
        site.realm.metrics.logged_in(result);
        match ended {
            Ok((cookie, identity)) => {
                let cleared = site.cookie.clear_flow(&id_of(state), self.headers);
                let rounds = self.rounds(&site, had_session);
                let cookies = cookie.into_iter().chain(rounds).chain(cleared).collect();
                Ok((site, Done { cookies, target: flow.target, identity }))
            }
            Err((failure, why)) => {
                let provider = Some(site.realm.provider.settings().name.clone());
                Err(Failed { failure, why, target: Some(flow.target), provider })
            }
        }
    }

    /// Looked for only where it decides: in a browser that has just signed in.
    async fn had_session(&self, site: &Arc<RelyingParty>) -> bool {
        let has_just = named(self.headers, &site.cookie.rounds_name()).next().is_some();
        has_just && matches!(any_session(std::slice::from_ref(site), self.headers, self.sessions).await, Some(Ok(_)))
    }

    /// The cookie that counts this login.
    fn rounds(&self, site: &RelyingParty, had_session: bool) -> Option<HeaderValue> {
        let value = rounds::counted(&site.realm.secrets, &site.cookie, self.headers, had_session, self.sessions.now())?;
        site.cookie.set_rounds(&value, rounds::WITHIN, site.answers_by_form())
    }

    /// Reserves a refusal in the client's account before the provider is asked; gives it back if nothing was refused.
    async fn paid(&self, site: &RelyingParty, flow: &Flow, answer: &Answer) -> Result<SignedIn, Fault> {
        let limited = |wait| fault(Failure::Limited(wait), "too many answers of this client were refused");
        let paid = (self.account)(&site.limit).map_err(limited)?;
        let ended = end(site, flow, answer, self).await;
        if ended.as_ref().map_or_else(|(failure, _)| !failure.is_charged(), |_| true) {
            (self.give_back)(paid);
        }
        ended
    }

    /// The login with this state that this browser started.
    fn find(&self, state: &str) -> Result<(&Arc<RelyingParty>, Flow), NoState> {
        let (id, mut cause) = (id_of(state), NoState::NoCookie);
        for site in self.sites {
            for value in site.cookie.flow(&id, self.headers) {
                match Flow::open(&site.realm.secrets, &site.cookie, &value, self.sessions.now()) {
                    Ok(flow) if flow.is_of(state) && flow.provider == site.provider() => return Ok((site, flow)),
                    Ok(_) | Err(NoFlow::Sealed) if cause == NoState::NoCookie => cause = NoState::OtherSecret,
                    Ok(_) | Err(NoFlow::Sealed) => {}
                    Err(NoFlow::TooLate) => cause = NoState::TooLate,
                }
            }
        }
        Err(cause)
    }
}

impl Failure {
    /// Whether it counts against the client: not if a dependency was unavailable, nor if the provider denied the user.
    fn is_charged(self) -> bool {
        match self {
            Failure::State(_) | Failure::Rejected | Failure::NeedsPerson | Failure::Broken => true,
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
            Failure::State(_) => "state_mismatch",
            Failure::Limited(_) => "rate_limited",
            Failure::Rejected | Failure::Denied | Failure::NeedsPerson | Failure::Broken => "login_failed",
            Failure::Nobody => "forbidden",
            Failure::ProviderUnavailable => "provider_unavailable",
            Failure::StoreUnavailable => "store_unavailable",
        }
    }
}

/// The session's cookie, and who it is.
type SignedIn = (Option<HeaderValue>, Arc<Identity>);

/// Creates the session.
async fn end(site: &RelyingParty, flow: &Flow, answer: &Answer, at: &Arrival<'_>) -> Result<SignedIn, Fault> {
    let (provider, sessions) = (site.realm.provider.as_ref(), at.sessions);
    // RFC 9700, 4.4: a response on another provider's callback is from that provider.
    let is_own = !site.shares_jar || at.path.ends_with(&format!("/callback/{}", site.provider()));
    let comes_back = is_own && Url::parse(&flow.redirect_uri).is_ok_and(|uri| uri.path() == at.path);
    let promised = provider.metadata().is_some_and(|m| m.authorization_response_iss_parameter_supported);
    if !comes_back {
        let why = format!("the answer came to another address than {}", flow.redirect_uri);
        return Err(fault(Failure::Rejected, why));
    }
    if promised && answer.issuer.is_none() {
        return Err(fault(Failure::Rejected, "iss: the provider's metadata promise it, and the answer has none"));
    }
    if let Some(issuer) = answer.issuer.as_ref().filter(|issuer| !provider.settings().is_response_issuer(issuer)) {
        let (expected, got) = (provider.settings().issuer.as_str(), cut(issuer, LONGEST_WORD));
        return Err(fault(Failure::Rejected, format!("iss: expected {expected}, got {got}"))); // RFC 9207
    }
    // An error is final: the state is not marked as used, and the provider is not asked.
    if let Some(error) = &answer.error {
        let said = answer.description.as_deref().map(|said| format!(": {}", cut(said, LONGEST_DESCRIPTION)));
        let why = format!("{}{}", cut(error, LONGEST_WORD), said.unwrap_or_default());
        return Err(fault(of_error(error), why));
    }
    let code = answer.code.as_ref().ok_or_else(|| fault(Failure::Rejected, "the answer has no code"))?;
    let mark = Key::of(Space::Used, data_encoding::HEXLOWER.encode(TokenDigest::of(flow.state().as_bytes()).bytes()));
    match sessions.kv.put_new(&mark, Entry { generation: 0, value: Vec::new() }, LIFE).await {
        Ok(true) => {}
        Ok(false) => return Err(fault(Failure::State(NoState::Used), NoState::Used.words())),
        Err(Unavailable) => return Err(fault(Failure::StoreUnavailable, "the store is unavailable")),
    }
    let granted = provider.exchange(code, &flow.verifier(), &flow.redirect_uri).await;
    let tokens = granted.map_err(|CallFailed { error, why }| match error {
        GrantError::Denied => (Failure::Rejected, why),
        GrantError::Unavailable => (Failure::ProviderUnavailable, why),
        _ => (Failure::Broken, why),
    })?;
    let login = prove(site, flow, tokens, sessions).await?;
    let lives = site.realm.ttl(login.hot.created, sessions.now()).min(site.limits.max_age);
    let identity = login.hot.identity.clone();
    let created = sessions.create(&site.realm, login).await;
    let cookie = created.map_err(|Unavailable| fault(Failure::StoreUnavailable, "the store is unavailable"))?;
    forget_old(site, at.headers, sessions).await;
    Ok((site.cookie.set(cookie.expose(), lives), identity))
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
async fn prove(site: &RelyingParty, flow: &Flow, tokens: Tokens, sessions: &Sessions) -> Result<Login, Fault> {
    let provider = site.realm.provider.as_ref();
    let settings = provider.settings();
    let no_token = || fault(Failure::Broken, "the token response has no id_token; is `openid` among the scopes?");
    let id = tokens.id.as_ref().ok_or_else(no_token)?;
    let (nonce, now) = (flow.nonce(), sessions.now());
    let read = |keys: &KeySet| Unverified::read(id.expose())?.verify_id_token(keys, settings, Some(&nonce), now);
    let verified = verify_own(provider, read).await.map_err(|error| match error {
        NotVerified::Refused(refusal) => {
            let why = Unverified::read(id.expose())
                .map_or("it is no JWT".into(), |token| token.why_no_own_token(settings, Some(&nonce), refusal, now));
            (Failure::Broken, format!("ID token: {why}"))
        }
        NotVerified::Unavailable => {
            fault(Failure::ProviderUnavailable, "the keys that verify the ID token cannot be had")
        }
    })?;
    let mut userinfo = None;
    if settings.userinfo == Automatic::Auto && Identity::lacks_claims(&verified, settings) {
        let subject = verified.claims().get("sub").and_then(Value::as_str).unwrap_or_default();
        userinfo = match userinfo_about(provider, &tokens.access, subject).await {
            Ok(claims) => Some(claims),
            Err(NoUserInfo::Forged) => {
                return Err(fault(Failure::Broken, "UserInfo is about another `sub`, or is forged"));
            }
            Err(NoUserInfo::Refused) => None, // the ID token's claims must do
            // Otherwise the session would lack its groups for hours.
            Err(NoUserInfo::Unavailable) => return Err(fault(Failure::ProviderUnavailable, "UserInfo is unavailable")),
        };
    }
    let identity = Identity::of_login(&verified, userinfo.as_ref(), settings).map_err(|_| {
        let claim = settings.claims.user.as_str();
        fault(Failure::Nobody, format!("{claim}: the mapped `user` claim is absent or no text"))
    })?;
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
