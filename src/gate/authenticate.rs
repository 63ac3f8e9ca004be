//! Authenticates a request by an API key, a bearer token or a session, in this order; never by two of them.

mod browser;
pub(super) mod tokens;

use crate::caller::rate_limit::{Account, Limiter, Reservation};
use crate::caller::tarpit::Tarpit;
use crate::credential::api_key::ApiKey;
use crate::credential::api_key::keyring::{KeyVerdict, Keyring, Known};
use crate::credential::verifier::Verifier;
use crate::gate::decision::{Audit, SignedIn, Why};
use crate::gate::refusal::Refusal;
use crate::gate::route::Protected;
use crate::kit::digest::TokenDigest;
use crate::kit::recent::Recent;
use crate::provider::identity::Identity;
use crate::provider::verdict::{Cause, Rejection, Verdict};
use crate::session::sessions::Sessions;
use crate::telemetry::metrics::Credential;
use crate::telemetry::reason::Reason;
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::sync::Arc;

/// The credential in `Authorization`.
pub(super) enum Presented<'a> {
    Nothing,
    /// Not parsed yet: the cache is keyed by its raw bytes.
    Token(&'a [u8]),
    /// More than one field.
    Unusable,
}

pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(super) const OF_KEYS: &[u8] = b"dwk_";

/// What authenticates requests. None of it belongs to one configuration but the verifier.
pub struct Authenticator {
    pub verifier: Verifier,
    /// `None` if there is no secret to seal API keys with.
    pub keyring: Option<Arc<Keyring>>,
    pub limiter: Arc<Limiter>,
    pub tarpit: Arc<Tarpit>,
    pub sessions: Arc<Sessions>,
    /// The digests of bearer tokens that were found in the cache.
    pub recent: Recent<TokenDigest>,
}

/// What a request's credentials prove.
pub(super) enum Proved {
    Token(Arc<Identity>),
    Key(Arc<Known>),
    Session(SignedIn),
    Nobody(Reason),
}

impl Authenticator {
    pub(super) async fn authenticate(
        &self,
        protected: &Protected,
        headers: &HeaderMap,
        audit: &mut Audit,
    ) -> Result<Proved, Refusal> {
        let bearer = presented(headers);
        if let Some(key) = presented_key(protected, headers, &bearer) {
            audit.credential = Credential::api_key;
            return Box::pin(self.judge_key(protected, key, audit)).await;
        }
        let takes = protected.accepts_bearer;
        let token = match bearer {
            Presented::Token(token) if takes => Some(token),
            Presented::Unusable if takes || protected.accepts_api_key => None,
            _ => {
                if protected.sites.is_empty() {
                    return Ok(Proved::Nobody(Reason::LoginRequired));
                }
                return Box::pin(self.signed_in(&protected.sites, headers, audit)).await.map_err(Refusal::of);
            }
        };
        audit.credential = Credential::bearer;
        let account = self.account(protected, audit);
        let charged = |reason| account.charge().map_or_else(Refusal::limited, |()| Refusal::of(reason));
        let Some(token) = token else {
            audit.why = Why::of("the request has several Authorization fields, or one without a bearer token");
            return Err(charged(Reason::InvalidToken));
        };
        let recent = self.recent.find(token);
        let digest = recent.unwrap_or_else(|| TokenDigest::of(token));
        if let Some(identity) = self.verifier.recall(&protected.policy, digest) {
            if recent.is_none() {
                self.recent.keep(token, digest);
            }
            return Ok(Proved::Token(identity));
        }
        if recent.is_some() {
            self.recent.forget(token);
        }
        let Some(token) = token68(token) else {
            audit.why = Why::of("the token has a character that no bearer token has (RFC 6750, 2.1)");
            return Err(charged(Reason::InvalidToken));
        };
        if token.as_bytes().starts_with(OF_KEYS) {
            audit.why = Why::of("it is an API key; the route does not accept them");
            return Err(charged(Reason::UnknownToken)); // an API key must not be sent to a provider
        }
        // Boxed: keeps the large verification future out of the cache-hit path.
        match Box::pin(self.verifier.verify(&protected.policy, token, digest, &account)).await {
            Verdict::Valid(identity) => Ok(Proved::Token(identity)),
            Verdict::Rejected(Rejection { reason, why }) => {
                tracing::debug!(token = %digest.short(), reason = reason.word(), %why, "token refused");
                audit.why = Why::of(why);
                Err(Refusal::of(reason))
            }
            Verdict::Unavailable(cause) => Err(Refusal::of(cause.reason())),
            Verdict::Limited(wait) => Err(Refusal::limited(wait)),
        }
    }

    /// On rate-limited routes, refusals wait in the tarpit for good requests.
    pub(super) async fn give_way(&self, protected: &Protected, refusal: &Refusal, credential: Credential) {
        let is_counted = matches!(refusal.status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        let is_limited = matches!(credential, Credential::bearer | Credential::api_key) && protected.limit.enabled;
        if is_counted && is_limited {
            self.tarpit.turn().await;
        }
    }

    async fn judge_key(&self, protected: &Protected, key: &str, audit: &mut Audit) -> Result<Proved, Refusal> {
        let account = self.account(protected, audit);
        let mut refused = |reason, paid: Option<Reservation>| {
            let why = if reason == Reason::TokenExpired { "the API key has expired" } else { "no API key is like it" };
            audit.why = Why::of(why);
            tracing::debug!(key = %TokenDigest::of(key.as_bytes()).short(), reason = Reason::word(reason), "API key refused");
            match paid.map_or_else(|| account.charge(), |_| Ok(())) {
                Ok(()) => Err(Refusal::of(reason)),
                Err(wait) => Err(Refusal::limited(wait)),
            }
        };
        let (Some(keys), Some(key)) = (&self.keyring, ApiKey::parse(key)) else {
            return refused(Reason::UnknownToken, None);
        };
        let mut paid = None;
        let judged = match keys.recall(&key) {
            Some(judged) => judged,
            None => {
                let reserve = || {
                    paid = Some(account.reserve()?);
                    Ok(())
                };
                keys.look_up(&key, reserve).await.map_err(Refusal::limited)?
            }
        };
        match judged {
            KeyVerdict::Rejected(reason) => refused(reason, paid),
            KeyVerdict::Valid(known) => {
                account.give_back(paid);
                Ok(Proved::Key(known))
            }
            KeyVerdict::Unavailable => {
                account.give_back(paid);
                Err(Refusal::of(Cause::Store.reason()))
            }
        }
    }

    fn account<'a>(&'a self, protected: &'a Protected, audit: &Audit) -> Account<'a> {
        Account { limiter: &self.limiter, limit: &protected.limit, client: audit.client }
    }
}

/// An API key in its own header, or in place of a bearer token. Repeated fields count as none.
pub(super) fn presented_key<'a>(
    protected: &Protected,
    headers: &'a HeaderMap,
    bearer: &Presented<'a>,
) -> Option<&'a str> {
    if !protected.accepts_api_key {
        return None;
    }
    let mut values = headers.get_all(&X_API_KEY).iter();
    match (values.next(), values.next(), bearer) {
        // Bytes that no key contains become "", which is refused as an unknown key.
        (Some(only), None, _) => Some(only.to_str().unwrap_or_default()),
        (_, _, Presented::Token(token)) if token.starts_with(OF_KEYS) => Some(token68(token).unwrap_or_default()),
        _ => None,
    }
}

/// Whether `Authorization` must not reach the app: it is an API key, repeated, or a token not judged because a key was.
pub(super) fn holds_key(protected: &Protected, headers: &HeaderMap, judged: Credential) -> bool {
    protected.accepts_api_key
        && match presented(headers) {
            Presented::Nothing => false,
            Presented::Token(token) if token.starts_with(OF_KEYS) => true,
            Presented::Token(_) => protected.accepts_bearer && judged == Credential::api_key,
            Presented::Unusable => true,
        }
}

/// The identity of an API key.
pub(super) fn identity_of(key: &Known) -> Arc<Identity> {
    let identity = key.identity(|record| {
        let person = record.person();
        Identity::of_api_key(person.user, person.email, person.groups, person.scopes)
    });
    identity.clone()
}

/// RFC 6750, 2.1; the scheme is case-insensitive. Other schemes are for the app.
pub(super) fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Presented::Nothing,
        (Some(value), None) => value.as_bytes(),
        _ => return Presented::Unusable,
    };
    let (scheme, rest) = value.split_at(value.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Presented::Nothing;
    }
    Presented::Token(rest.trim_ascii())
}

/// RFC 9110, 11.2: the syntax of an RFC 6750 bearer token.
pub(super) fn token68(token: &[u8]) -> Option<&str> {
    let token = std::str::from_utf8(token).ok()?;
    let body = token.trim_end_matches('=');
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    (!body.is_empty() && body.bytes().all(good)).then_some(token)
}
