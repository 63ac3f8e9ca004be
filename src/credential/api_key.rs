//! API keys: what a key looks like, what is known of one, and whom it stands for. Must not know where keys are kept, nor of
//! requests and limits.

pub mod keyring;
mod store;
#[cfg(test)]
mod tests;

use crate::kit::digest::TokenDigest;
use crate::kit::entropy::Entropy;
use crate::kit::secret::Secret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// A whole key, `dwk_<id>_<secret>`: shown once, when it is made. The secret is 256 bits in base64url.
#[derive(Debug)]
pub struct ApiKey(Secret);

/// Names a key, and is no secret: 12 of `a` to `z` and `0` to `9`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; ID]);

/// SHA-256 of a whole key, written as 64 hex digits in lower case; compared in constant time.
#[derive(Clone, Copy, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest([u8; 32]);

/// What somebody presented: a key by its form; nobody was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    pub id: KeyId,
    pub digest: KeyDigest,
}

/// What is known of a key. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: KeyId,
    pub digest: KeyDigest,
    #[serde(default)]
    pub name: Option<String>,
    pub user: String,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Names of routes; None = all.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// None = it stands in the configuration.
    #[serde(default)]
    pub created: Option<i64>,
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// To within a minute; of stored keys alone.
    #[serde(default)]
    pub last_used: Option<i64>,
}

/// Whom a key stands for: what an identity is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person<'a> {
    pub user: &'a str,
    pub email: Option<&'a str>,
    pub groups: &'a [String],
    pub scopes: &'a [String],
}

const LEAD: &str = "dwk_";
const ID: usize = 12;
const SECRET: usize = 32;
/// The lead, the id, a `_`, and 32 bytes in base64url.
const LENGTH: usize = 60;

impl ApiKey {
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let (mut id, mut secret) = ([0; ID / 2], Zeroizing::new([0; SECRET]));
        entropy.fill(&mut id);
        entropy.fill(secret.as_mut());
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(secret.as_ref()));
        ApiKey(format!("{LEAD}{}_{}", HEXLOWER.encode(&id), *secret).into())
    }

    /// Anything that is not exactly a key is none.
    pub fn parse(text: &str) -> Option<Presented> {
        let rest = text.strip_prefix(LEAD).filter(|_| text.len() == LENGTH)?;
        let (id, secret) = rest.split_at_checked(ID)?;
        Zeroizing::new(BASE64URL_NOPAD.decode(secret.strip_prefix('_')?.as_bytes()).ok()?);
        Some(Presented { id: KeyId::parse(id)?, digest: KeyDigest::of(text) })
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl KeyId {
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; ID] = text.as_bytes().try_into().ok()?;
        id.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).then_some(KeyId(id))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // its only maker takes nothing but ASCII
    }
}

impl KeyDigest {
    pub fn of(key: &str) -> Self {
        KeyDigest(*TokenDigest::of(key.as_bytes()).bytes())
    }

    pub fn parse(hex: &str) -> Option<Self> {
        Some(KeyDigest(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?))
    }

    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl Record {
    pub fn person(&self) -> Person<'_> {
        let email = self.email.as_deref();
        Person { user: &self.user, email, groups: &self.groups, scopes: &self.scopes }
    }

    /// Whether the key counts on a route of this name.
    pub fn is_for(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|name| name == route))
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().get(..8).unwrap_or_default()) // as much as logs show of any credential
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.as_str().into()
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        KeyId::parse(&text).ok_or("an id of 12 characters, a to z and 0 to 9")
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        digest.hex()
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        KeyDigest::parse(&text).ok_or("a SHA-256 of 64 hex digits in lower case")
    }
}
