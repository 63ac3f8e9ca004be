//! The client of one OpenID provider: holds its metadata and keys, verifies what it signed, and builds identities.
//! Knows nothing of routes, requests or caches; only this module makes a [`jwt::Verified`].

pub mod assertion;
pub mod claims;
pub mod discovery;
#[cfg(test)]
pub(crate) mod fake;
mod first_look;
pub(crate) mod http;
pub mod identity;
pub mod introspection;
pub mod jwt;
pub mod keys;
pub mod remote;
mod setting_values;
pub mod settings;
pub mod token_endpoint;
mod trouble;
pub mod verdict;

use crate::kit::clock::Timestamp;
use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::jwt::{Refusal, Unverified};
use crate::provider::keys::KeySet;
use crate::provider::settings::Settings;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// The result of a key fetch on demand.
#[derive(Clone)]
pub enum Fetched {
    Keys(Arc<KeySet>),
    /// Too soon after the last fetch: the known keys decide.
    Closed,
    Unavailable,
}

/// Whose token needs unknown keys. Each kind has its own fetch window, so that strangers cannot close the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Presented by anyone.
    Stranger,
    /// Just issued by the provider itself.
    Own,
}

/// The provider, as the other modules use it.
#[async_trait]
pub trait Provider: Send + Sync {
    fn settings(&self) -> &Settings;

    /// The known keys; `None` until they have been fetched once.
    fn keys(&self) -> Option<Arc<KeySet>>;

    /// The provider's clock less ours, in seconds; `None` if it never told the time.
    fn clock_skew(&self) -> Option<i64> {
        None
    }

    /// The provider's metadata, with its endpoints; `None` until it has been read once.
    fn metadata(&self) -> Option<Arc<Metadata>>;

    /// Exchanges a code for tokens (RFC 6749, 4.1.3, with the verifier of RFC 7636).
    async fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Tokens, CallFailed>;

    /// Spends a refresh token (RFC 6749, 6).
    async fn refresh(&self, token: &Secret) -> Result<Tokens, CallFailed>;

    /// A token for the gateway's own client (RFC 6749, 4.4).
    async fn client_token(&self, scope: &str, audience: Option<&str>) -> Result<Tokens, CallFailed>;

    /// A token for another service, in exchange for a user's access token (RFC 8693, 2.1).
    async fn exchange_token(&self, subject: &Secret, scope: &str, audience: Option<&str>)
    -> Result<Tokens, CallFailed>;

    /// The UserInfo claims for an access token (OpenID Connect Core 1.0, 5.3), not verified yet.
    async fn userinfo(&self, token: &Secret) -> Result<UserInfo, CallFailed>;

    /// The introspection response for an opaque token (RFC 7662, 2).
    async fn introspect(&self, token: &Secret) -> Result<Claims, CallFailed>;

    /// Revokes a refresh token (RFC 7009), best effort.
    async fn revoke(&self, token: &Secret);

    /// Fetches the keys because the known ones do not verify a token. At most one fetch in 30 s, for the provider's own
    /// tokens in 5 s, shared by all waiting requests; the fetch at start does not count.
    async fn fetch_keys(&self, demand: Demand) -> Fetched;
}

/// A UserInfo response.
#[derive(Clone, Debug)]
pub enum UserInfo {
    Plain(Claims),
    /// A JWT.
    Signed(Secret),
}

/// Why UserInfo yields no claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUserInfo {
    /// It is about another subject, or its signature is not the provider's.
    Forged,
    /// The provider refuses to answer, and asking again does not help.
    Refused,
    Unavailable,
}

/// The tokens of a grant.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: Secret,
    pub id: Option<Secret>,
    pub refresh: Option<Secret>,
    /// The access token's lifetime, if the provider states it.
    pub lives: Option<Duration>,
}

/// Assumed lifetime of an access token if neither the provider nor the token states one.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);

impl Tokens {
    /// How long the access token lives.
    pub fn life(&self, now: Timestamp) -> Duration {
        let own = || Unverified::read(self.access.expose()).ok()?.expires();
        self.lives.filter(|lives| !lives.is_zero()).or_else(|| own().map(|exp| now.until(exp))).unwrap_or(UNTOLD_LIFE)
    }
}

/// Why a grant failed: determined by the error code, never by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The code or token is not valid (any more).
    Denied,
    /// `invalid_request`: Dex's answer to a spent refresh token.
    InvalidRequest,
    /// The provider requires user interaction.
    NeedsPerson,
    /// A 400 without an error code: glewlwyd's answer to a dead refresh token.
    Unnamed,
    /// The provider refuses for another reason; asking again does not help.
    Refused,
    /// The provider is unavailable, or cannot answer now.
    Unavailable,
}

/// A call that brought nothing: what its caller does about it, and why, for operators.
#[derive(Clone, Debug)]
pub struct CallFailed {
    pub error: GrantError,
    /// The provider's `error` and what it says of it, or what went wrong on the way. No credential.
    pub why: String,
}

impl From<GrantError> for CallFailed {
    fn from(error: GrantError) -> Self {
        CallFailed { error, why: format!("{error:?}") }
    }
}

impl CallFailed {
    pub fn unavailable(why: impl Into<String>) -> Self {
        CallFailed { error: GrantError::Unavailable, why: why.into() }
    }

    pub fn refused(why: impl Into<String>) -> Self {
        CallFailed { error: GrantError::Refused, why: why.into() }
    }
}

/// Why a token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotVerified {
    Refused(Refusal),
    /// The provider's keys are unavailable.
    Unavailable,
}

/// Verifies a token just issued by the provider, with the known keys, and again if newer ones may exist. If those must
/// not be fetched so soon, the result is Unavailable: its own token is not refused for lack of a key.
pub async fn verify_own<T>(
    provider: &dyn Provider,
    verify: impl Fn(&KeySet) -> Result<T, Refusal>,
) -> Result<T, NotVerified> {
    if let Some(decided) = verify_at_hand(provider, &verify) {
        return decided;
    }
    match provider.fetch_keys(Demand::Own).await {
        Fetched::Keys(keys) => verify(&keys).map_err(|refusal| match refusal {
            // The provider has not published its signing key yet.
            Refusal::UnknownKey => NotVerified::Unavailable,
            refusal => NotVerified::Refused(refusal),
        }),
        Fetched::Closed | Fetched::Unavailable => Err(NotVerified::Unavailable),
    }
}

/// Verifies with the known keys; `None`: keys that must be fetched may decide.
pub fn verify_at_hand<T>(
    provider: &dyn Provider,
    verify: impl Fn(&KeySet) -> Result<T, Refusal>,
) -> Option<Result<T, NotVerified>> {
    match provider.keys().map(|keys| verify(&keys)) {
        Some(Ok(verified)) => Some(Ok(verified)),
        Some(Err(Refusal::UnknownKey | Refusal::BadSignature)) | None => None,
        Some(Err(refusal)) => Some(Err(NotVerified::Refused(refusal))),
    }
}

/// Fetches the keys, and verifies with them.
pub async fn verify_with_fetched<T>(
    provider: &dyn Provider,
    verify: impl Fn(&KeySet) -> Result<T, Refusal>,
) -> Result<T, NotVerified> {
    match provider.fetch_keys(Demand::Stranger).await {
        Fetched::Keys(keys) => verify(&keys).map_err(NotVerified::Refused),
        Fetched::Closed => Err(NotVerified::Refused(Refusal::UnknownKey)),
        // A known key with that `kid` did not sign it: refused, as a stranger's token must not report an outage.
        Fetched::Unavailable => match provider.keys().map(|keys| verify(&keys)) {
            Some(Err(Refusal::BadSignature)) => Err(NotVerified::Refused(Refusal::UnknownKey)),
            _ => Err(NotVerified::Unavailable),
        },
    }
}

/// The UserInfo claims of this subject.
pub async fn userinfo_about(provider: &dyn Provider, access: &Secret, subject: &str) -> Result<Claims, NoUserInfo> {
    let told = match provider.userinfo(access).await {
        Ok(UserInfo::Plain(claims)) => claims,
        Ok(UserInfo::Signed(jwt)) => {
            let settings = provider.settings();
            let token = Unverified::read(jwt.expose()).map_err(|_| NoUserInfo::Forged)?;
            let read = |keys: &KeySet| token.verify_userinfo(keys, settings);
            verify_own(provider, read).await.map_err(|error| match error {
                NotVerified::Refused(_) => NoUserInfo::Forged,
                NotVerified::Unavailable => NoUserInfo::Unavailable,
            })?
        }
        Err(CallFailed { error: GrantError::Unavailable, .. }) => return Err(NoUserInfo::Unavailable),
        Err(_) => return Err(NoUserInfo::Refused),
    };
    // OpenID Connect Core 1.0, 5.3.2: with another `sub` it must not be used.
    let same = told.get("sub").and_then(serde_json::Value::as_str) == Some(subject);
    if same { Ok(told) } else { Err(NoUserInfo::Forged) }
}
