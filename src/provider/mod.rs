//! Talks to one OpenID provider: holds its metadata and keys, verifies what it signed, says who was proved.
//! Knows nothing of routes, requests or caches; what it proved is a [`jwt::Verified`], made nowhere else.

pub mod assertion;
pub mod claims;
pub mod discovery;
#[cfg(test)]
pub(crate) mod fake;
mod http;
pub mod identity;
pub mod introspection;
pub mod jwt;
pub mod keys;
pub mod remote;
pub mod settings;
pub mod token_endpoint;
pub mod verdict;

use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::jwt::{Refusal, Unverified};
use crate::provider::keys::KeySet;
use crate::provider::settings::Settings;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// What a fetch of keys on demand brought.
#[derive(Clone)]
pub enum Fetched {
    Keys(Arc<KeySet>),
    /// Too soon after the last one: the keys at hand are all there is.
    Closed,
    Unavailable,
}

/// Whose token asks for keys that are not at hand. Each has a window of its own, so that strangers keep nobody else's closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Anybody's.
    Stranger,
    /// One that the provider itself has just handed out.
    Own,
}

/// The provider, as the rooms above see it.
#[async_trait]
pub trait Provider: Send + Sync {
    fn settings(&self) -> &Settings;

    /// The keys at hand; `None` until they have been fetched once.
    fn keys(&self) -> Option<Arc<KeySet>>;

    /// Where the provider's endpoints are; `None` until that has been read once.
    fn metadata(&self) -> Option<Arc<Metadata>>;

    /// Exchanges a code for tokens (RFC 6749, 4.1.3, with the verifier of RFC 7636).
    async fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Tokens, GrantError>;

    /// Spends a refresh token (RFC 6749, 6).
    async fn refresh(&self, token: &Secret) -> Result<Tokens, GrantError>;

    /// What the provider says of the person behind an access token (OpenID Connect Core 1.0, 5.3), not verified yet.
    async fn userinfo(&self, token: &Secret) -> Result<UserInfo, GrantError>;

    /// What the provider says of an opaque token (RFC 7662, 2).
    async fn introspect(&self, token: &Secret) -> Result<Claims, GrantError>;

    /// Tells the provider that a refresh token is not needed any more (RFC 7009); whether it heard is not known.
    async fn revoke(&self, token: &Secret);

    /// Fetches the keys because those at hand do not verify a token. At most one fetch in 30 s, for the provider's own tokens
    /// in 5 s, shared by all who wait; the fetch at start does not count.
    async fn fetch_keys(&self, demand: Demand) -> Fetched;
}

/// An answer of UserInfo.
#[derive(Clone, Debug)]
pub enum UserInfo {
    Plain(Claims),
    /// A JWT.
    Signed(Secret),
}

/// Why UserInfo says nothing of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUserInfo {
    /// It speaks of somebody else, or its signature is not the provider's.
    Forged,
    /// The provider has nothing to say, and asking again does not help.
    Refused,
    Unavailable,
}

/// What a grant brought.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: Secret,
    pub id: Option<Secret>,
    pub refresh: Option<Secret>,
    /// How long the access token lives, where the provider says so.
    pub lives: Option<Duration>,
}

/// Why a grant brought nothing: told by the error's code, never by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The code or token is not good (any more).
    Denied,
    /// `invalid_request`: of a refresh token Dex says so where it was spent.
    InvalidRequest,
    /// The provider wants to see the person.
    NeedsPerson,
    /// A 400 without an error's code: of a refresh token glewlwyd says so where it is dead.
    Unnamed,
    /// The provider understood, and says no for another cause; asking again does not help.
    Refused,
    /// The provider could not be asked, or could not tell.
    Unavailable,
}

/// Why a token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotVerified {
    Refused(Refusal),
    /// The provider's keys cannot be had.
    Unavailable,
}

/// Verifies what the provider itself has just handed out, with the keys at hand, and once more where it may have newer ones.
/// Where these may not be fetched so soon, nobody can tell: its own word is not refused for want of a key.
pub async fn verify_own<T>(
    provider: &dyn Provider,
    verify: impl Fn(&KeySet) -> Result<T, Refusal>,
) -> Result<T, NotVerified> {
    if let Some(decided) = verify_at_hand(provider, &verify) {
        return decided;
    }
    match provider.fetch_keys(Demand::Own).await {
        Fetched::Keys(keys) => verify(&keys).map_err(|refusal| match refusal {
            // What it signs with it has not published yet.
            Refusal::UnknownKey => NotVerified::Unavailable,
            refusal => NotVerified::Refused(refusal),
        }),
        Fetched::Closed | Fetched::Unavailable => Err(NotVerified::Unavailable),
    }
}

/// Verifies with the keys at hand; `None`: keys that must be fetched may decide.
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

/// Fetches the keys, and verifies with what that brings.
pub async fn verify_with_fetched<T>(
    provider: &dyn Provider,
    verify: impl Fn(&KeySet) -> Result<T, Refusal>,
) -> Result<T, NotVerified> {
    match provider.fetch_keys(Demand::Stranger).await {
        Fetched::Keys(keys) => verify(&keys).map_err(NotVerified::Refused),
        Fetched::Closed => Err(NotVerified::Refused(Refusal::UnknownKey)),
        // A key of that name is at hand, and did not sign it: a stranger's word for another is not worth more than that.
        Fetched::Unavailable => match provider.keys().map(|keys| verify(&keys)) {
            Some(Err(Refusal::BadSignature)) => Err(NotVerified::Refused(Refusal::UnknownKey)),
            _ => Err(NotVerified::Unavailable),
        },
    }
}

/// What UserInfo says of this person.
pub async fn userinfo_about(provider: &dyn Provider, access: &Secret, subject: &str) -> Result<Claims, NoUserInfo> {
    let told = match provider.userinfo(access).await {
        Ok(UserInfo::Plain(claims)) => claims,
        Ok(UserInfo::Signed(jwt)) => {
            let settings = provider.settings();
            let read = |keys: &KeySet| Unverified::read(jwt.expose())?.verify_userinfo(keys, settings);
            verify_own(provider, read).await.map_err(|error| match error {
                NotVerified::Refused(_) => NoUserInfo::Forged,
                NotVerified::Unavailable => NoUserInfo::Unavailable,
            })?
        }
        Err(GrantError::Unavailable) => return Err(NoUserInfo::Unavailable),
        Err(_) => return Err(NoUserInfo::Refused),
    };
    // OpenID Connect Core 1.0, 5.3.2: else it must not be used.
    let same = told.get("sub").and_then(serde_json::Value::as_str) == Some(subject);
    if same { Ok(told) } else { Err(NoUserInfo::Forged) }
}
