//! API keys: their format, their record, and the user they stand for. Must not know where keys are stored, nor of
//! requests and rate limits.

pub mod keyring;
mod store;
#[cfg(test)]
mod tests;

use crate::kit::digest::TokenDigest;
use crate::kit::entropy::Entropy;
use crate::kit::secret::Secret;
use crate::kit::setting::{Rule, Text, rule};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};
use zeroize::Zeroizing;

/// A whole key, `dwk_<id>_<secret>`: shown once, when it is created. The secret is 256 bits in base64url.
#[derive(Debug)]
pub struct ApiKey(Secret);

/// Identifies a key, and is not secret: 12 of `a` to `z` and `0` to `9`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeyId([u8; ID]);

/// SHA-256 of a whole key, written as 64 hex digits in lower case; compared in constant time.
#[derive(Clone, Copy, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeyDigest([u8; 32]);

/// A presented key: well-formed, not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    pub id: KeyId,
    pub digest: KeyDigest,
}

/// The record of a key. Times are Unix seconds.
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
    /// None: the key is in the configuration.
    #[serde(default)]
    pub created: Option<i64>,
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// To within a minute; for stored keys only.
    #[serde(default)]
    pub last_used: Option<i64>,
}

/// A key that is kept in the configuration, as `doorward api-key` prints it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configured {
    /// The key's id.
    pub id: KeyId,
    /// SHA-256 of the whole key, in hex.
    pub digest: KeyDigest,
    /// The user it stands for.
    pub user: PlainText,
    #[serde(default)]
    pub email: Option<PlainText>,
    /// The groups of that user.
    #[serde(default)]
    pub groups: Vec<PlainText>,
    /// The scopes that the key has.
    #[serde(default)]
    pub scopes: Vec<PlainText>,
    /// The names of the routes that accept it; absent: all that accept API keys.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// When it expires, such as 2030-01-31T12:00:00Z; absent: never.
    #[serde(default)]
    pub expires_at: Option<ExpiresAt>,
}

/// A string that is not empty and has no control characters.
pub type PlainText = Text<PlainTextRule>;

/// A point in time, in Unix seconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ExpiresAt(i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainTextRule;

impl Rule for PlainTextRule {
    fn check(text: &str) -> Result<(), String> {
        rule(!text.chars().any(char::is_control), || "must have no control characters".into())?;
        rule(!text.trim().is_empty(), || "must be a text that is not empty".into())
    }
}

impl TryFrom<String> for ExpiresAt {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let since_epoch = humantime::parse_rfc3339_weak(&text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let seconds = since_epoch.and_then(|since| i64::try_from(since.as_secs()).ok());
        seconds.map(ExpiresAt).ok_or_else(|| format!("`{text}` is not a time; write one such as 2030-01-31T12:00:00Z"))
    }
}

impl From<ExpiresAt> for String {
    fn from(at: ExpiresAt) -> Self {
        let since_epoch = Duration::from_secs(at.0.unsigned_abs()); // a time before it is not read
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
    }
}

impl From<&Configured> for Record {
    fn from(own: &Configured) -> Self {
        let texts = |list: &[PlainText]| list.iter().map(|text| text.text().clone()).collect();
        Record {
            id: own.id,
            digest: own.digest,
            name: None,
            user: own.user.text().clone(),
            email: own.email.as_ref().map(|email| email.text().clone()),
            groups: texts(&own.groups),
            scopes: texts(&own.scopes),
            routes: own.routes.clone(),
            created: None,
            expires_at: own.expires_at.map(|at| at.0),
            last_used: None,
        }
    }
}

/// The user a key stands for; the source of an identity.
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
/// The prefix, the id, a `_`, and 32 bytes in base64url.
const LENGTH: usize = 60;

impl ApiKey {
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let (mut id, mut secret) = ([0; ID / 2], Zeroizing::new([0; SECRET]));
        entropy.fill(&mut id);
        entropy.fill(secret.as_mut());
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(secret.as_ref()));
        ApiKey(format!("{LEAD}{}_{}", HEXLOWER.encode(&id), *secret).into())
    }

    /// None unless the text has exactly the form of a key.
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
        std::str::from_utf8(&self.0).unwrap_or_default() // only `parse` makes one, and it accepts ASCII only
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

    /// Whether the key is valid on a route of this name.
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
        KeyId::parse(&text).ok_or("is not the id of a key; write it as `doorward api-key` prints it")
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
        KeyDigest::parse(&text).ok_or("is not a SHA-256 in hex; write it as `doorward api-key` prints it")
    }
}
