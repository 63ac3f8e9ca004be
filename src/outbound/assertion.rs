//! Signed assertions of who is calling (RFC 7519), for apps that trust no header.

use crate::kit::cache::{self, Cache};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::TokenDigest;
use crate::kit::entropy::{Entropy, Ids};
use crate::kit::setting::Wait;
use crate::outbound::signing_keys::SigningKeys;
use crate::provider::identity::Identity;
use crate::store::kv::Unavailable;
use data_encoding::BASE64URL_NOPAD;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, Header};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How assertions are signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Assertion")]
pub struct Settings {
    /// The `iss` of assertions; absent: the origin of the route.
    pub issuer: Option<String>,
    /// How long one key signs, at least 1s; keys overlap by the longest `ttl`.
    pub rotate: RotateEvery,
}

/// A second at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Wait", into = "Wait")]
#[schemars(with = "Wait")]
pub struct RotateEvery(Duration);

/// Makes assertions, each once for a while.
pub struct Assertions {
    keys: Arc<SigningKeys>,
    clock: Arc<dyn Clock>,
    ids: Ids,
    /// Each with the id of its key.
    made: Cache<TokenDigest, (HeaderValue, Arc<str>)>,
    /// Held while one is made, so that of two requests with one credential the second finds it.
    making: Mutex<()>,
}

/// What an assertion says, beside its times.
#[derive(Serialize)]
pub struct Statement<'a> {
    #[serde(rename = "iss")]
    pub issuer: &'a str,
    #[serde(rename = "aud")]
    pub audience: &'a str,
    #[serde(rename = "sub")]
    pub subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(flatten)]
    statement: &'a Statement<'a>,
    iat: i64,
    exp: i64,
    jti: String,
}

/// As many as sessions and tokens are remembered; each half its life at most.
type Made = cache::Settings<100_000, 86_400>;

impl Default for Settings {
    fn default() -> Self {
        Settings { issuer: None, rotate: RotateEvery(Duration::from_secs(30 * 86_400)) }
    }
}

impl TryFrom<Wait> for RotateEvery {
    type Error = &'static str;
    fn try_from(every: Wait) -> Result<Self, Self::Error> {
        if *every >= Duration::from_secs(1) { Ok(RotateEvery(*every)) } else { Err("must be at least 1s") }
    }
}

impl From<RotateEvery> for Wait {
    fn from(every: RotateEvery) -> Self {
        every.0.into()
    }
}

impl RotateEvery {
    pub fn period(self) -> Duration {
        self.0
    }
}

impl Assertions {
    pub fn new(keys: Arc<SigningKeys>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Assertions { keys, clock, ids: Ids::new(entropy), made: Cache::new(&Made::default()), making: Mutex::new(()) }
    }

    /// The assertion for a credential, which lives for `ttl` from when it was made; a new one after half of it. `place`:
    /// the digest of the credential and of all that shapes the statement.
    pub async fn of(
        &self,
        place: TokenDigest,
        statement: &Statement<'_>,
        ttl: Duration,
    ) -> Result<HeaderValue, Unavailable> {
        let keys = self.keys.current().await?;
        let find = |now| self.made.find(&place, now).filter(|(_, key)| keys.has(key)).map(|(made, _)| made);
        if let Some(made) = find(self.clock.now()) {
            return Ok(made);
        }
        let _making = self.making.lock();
        let now = self.clock.now();
        if let Some(made) = find(now) {
            return Ok(made);
        }
        let (id, key) = keys.signing(now).ok_or(Unavailable)?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        let claims = Claims {
            statement,
            iat: now.seconds(),
            exp: Timestamp::from_seconds(now.seconds()).plus(ttl).seconds(),
            jti: BASE64URL_NOPAD.encode(&self.ids.next()),
        };
        let signed = jsonwebtoken::encode(&header, &claims, key).map_err(|_| Unavailable)?;
        let mut value = HeaderValue::try_from(signed).map_err(|_| Unavailable)?;
        value.set_sensitive(true);
        self.made.keep(place, (value.clone(), id.into()), now.plus(ttl / 2), self.made.begin(), now);
        Ok(value)
    }

    pub fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }
}

impl<'a> Statement<'a> {
    pub fn of(who: &'a Identity, issuer: &'a str, audience: &'a str, groups: Vec<&'a str>) -> Self {
        let (email, name, preferred_username) = (who.email.as_deref(), who.name.as_deref(), who.username.as_deref());
        Statement { issuer, audience, subject: &who.user, email, name, preferred_username, groups }
    }
}
