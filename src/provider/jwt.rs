//! Verifies a signed token (RFC 7519, RFC 8725): key selection, signature, and the times, issuer and audience that
//! every token must have. jsonwebtoken verifies the signature; what it leaves open (`crit`, `typ`, `iat`, odd types of
//! `exp`) is checked here, so that one reading of the claims decides.

use crate::kit::clock::Timestamp;
use crate::provider::claims::Claims;
use crate::provider::keys::{KeyLiveness, KeySet, Selected};
use crate::provider::settings::{Audiences, Settings};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A parsed token; nothing is verified.
pub struct Unverified<'a> {
    header: Header,
    claims: Arc<Claims>,
    message: &'a [u8],
    signature: &'a str,
}

/// Claims that the provider vouches for. Only made after verification of the signature.
pub struct Verified {
    claims: Arc<Claims>,
    expires: Timestamp,
    liveness: Arc<KeyLiveness>,
}

/// What a logout token says, once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutClaims {
    pub subject: Option<String>,
    pub session_id: Option<String>,
    /// `jti`: the token counts once.
    pub id: String,
    /// The clock skew included.
    pub expires: Timestamp,
}

/// What a token looks like. Three parts, the first base64url of a JSON object with `alg`, are a JWT, however broken the rest.
pub enum Shape<'a> {
    Jwt(Unverified<'a>),
    Broken,
    Opaque,
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Broken, forged, or not meant for this use.
    Invalid,
    /// Not valid yet; it may become valid at that time.
    NotYet(Timestamp),
    Expired,
    WrongAudience,
    /// Signed with an unknown key: fetching the keys again may help.
    UnknownKey,
    /// Not signed by the known key with that `kid`. The provider may have a new key with the same `kid`.
    BadSignature,
}

#[derive(Deserialize)]
struct Header {
    alg: Option<Algorithm>,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// The largest `exp`, `nbf` or `iat` taken as a float: beyond 2^53 it is not an exact integer any more.
const LATEST: f64 = 9_007_199_254_740_992.0;

/// OpenID Connect Back-Channel Logout 1.0, 2.4.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Of a logout token without `exp`: the specification recommends two minutes.
const LOGOUT_LIFE: Duration = Duration::from_secs(120);
/// However long one says it lives: its `jti` is remembered for so long.
const LONGEST_LOGOUT_LIFE: Duration = Duration::from_secs(3600);

/// Claims defined for ID tokens only (OpenID Connect Core 1.0, 3.1.3.6, 3.3.2.11; Financial-grade API).
const OF_ID_TOKENS: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

/// Parses a token once, whatever becomes of it.
pub fn shape(token: &str) -> Shape<'_> {
    let mut parts = token.split('.');
    let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Shape::Opaque;
    };
    let Ok(head) = BASE64URL_NOPAD.decode(head.as_bytes()) else { return Shape::Opaque };
    let header = serde_json::from_slice::<Header>(&head).ok().filter(|header| header.alg.is_some());
    match header {
        Some(header) => Unverified::with(header, token).map_or(Shape::Broken, Shape::Jwt),
        None if serde_json::from_slice::<Claims>(&head).is_ok_and(|head| head.contains_key("alg")) => Shape::Broken,
        None => Shape::Opaque,
    }
}

impl<'a> Unverified<'a> {
    pub fn read(token: &'a str) -> Result<Self, Refusal> {
        let header = token.split('.').next().and_then(decode).ok_or(Refusal::Invalid)?;
        Unverified::with(header, token).ok_or(Refusal::Invalid)
    }

    fn with(header: Header, token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, claims) = message.split_once('.')?;
        Some(Unverified { header, claims: Arc::new(decode(claims)?), message: message.as_bytes(), signature })
    }

    /// The unverified claims; they select the provider that is to verify the token.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The unverified `exp`; for scheduling only.
    pub fn expires(&self) -> Option<Timestamp> {
        time(self.claims.get("exp"))
    }

    /// Verifies the token as a bearer token that a program presents to an API. `resources`: what else its `aud` may be.
    pub fn verify_bearer(
        &self,
        keys: &KeySet,
        settings: &Settings,
        resources: &[String],
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        if !is_access_token_type(self.header.typ.as_deref()) || !settings.is_bearer_issuer_of(&self.claims) {
            return Err(Refusal::Invalid);
        }
        let is_at_jwt = self.header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"));
        let verified = self.verify(keys, settings)?;
        let claims = &verified.claims;
        if claims.contains_key("events")
            || settings.claims.user.text(claims).is_none()
            || !is_access_token(claims, is_at_jwt, settings)
            || !(is_at_jwt || shows_access(claims, settings))
        {
            return Err(Refusal::Invalid);
        }
        verified.in_time(*settings.clock_skew, now)?;
        match audience(claims, settings.accepted_audiences()) || audience(claims, Some(resources)) {
            true => Ok(verified),
            false => Err(Refusal::WrongAudience),
        }
    }

    /// Fully verifies the token as an ID token (OpenID Connect Core 1.0, 3.1.3.7). `nonce`: that of the login; `None`
    /// for a refreshed token (12.2), which may lack it.
    pub fn verify_id_token(
        &self,
        keys: &KeySet,
        settings: &Settings,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        if !settings.is_issuer_of(&self.claims) {
            return Err(Refusal::Invalid);
        }
        let verified = self.verify(keys, settings)?;
        let claims = &verified.claims;
        if !matches!(claims.get("sub"), Some(Value::String(sub)) if !sub.is_empty()) {
            return Err(Refusal::Invalid);
        }
        verified.in_time(*settings.clock_skew, now)?;
        let other_party = |azp: &Value| azp.as_str() != Some(settings.client_id.as_str());
        if !audience(claims, Some(settings.own_audience())) || claims.get("azp").is_some_and(other_party) {
            return Err(Refusal::WrongAudience);
        }
        let sent = claims.get("nonce").and_then(Value::as_str);
        if claims.contains_key("events") || !claims.contains_key("iat") || (nonce.is_some() && sent != nonce) {
            return Err(Refusal::Invalid);
        }
        Ok(verified)
    }

    /// Verifies a logout token (OpenID Connect Back-Channel Logout 1.0, 2.6). Providers differ in `typ`: absent, `JWT` or
    /// `logout+jwt` in the header, some in the claims; some leave `exp` out.
    pub fn verify_logout(&self, keys: &KeySet, settings: &Settings, now: Timestamp) -> Result<LogoutClaims, Refusal> {
        let is_logout = |typ: &str| {
            ["JWT", "logout+jwt", "application/logout+jwt"].iter().any(|good| typ.eq_ignore_ascii_case(good))
        };
        if !self.header.typ.as_deref().is_none_or(is_logout) || !settings.is_issuer_of(&self.claims) {
            return Err(Refusal::Invalid);
        }
        self.verify_signature(keys, settings)?;
        let claims = &*self.claims;
        if !audience(claims, Some(settings.own_audience())) {
            return Err(Refusal::WrongAudience);
        }
        let is_event = claims.get("events").and_then(|events| events.get(LOGOUT_EVENT)).is_some_and(Value::is_object);
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::Invalid),
        };
        let (subject, session_id, id) = (text("sub")?, text("sid")?, text("jti")?.ok_or(Refusal::Invalid)?);
        if !is_event || claims.contains_key("nonce") || (subject.is_none() && session_id.is_none()) {
            return Err(Refusal::Invalid);
        }
        begun(claims, *settings.clock_skew, now)?;
        let issued = time(claims.get("iat")).ok_or(Refusal::Invalid)?;
        let expires = match claims.get("exp") {
            None => issued.plus(LOGOUT_LIFE),
            Some(exp) => time(Some(exp)).ok_or(Refusal::Invalid)?.min(issued.plus(LONGEST_LOGOUT_LIFE)),
        };
        let expires = expires.plus(*settings.clock_skew);
        if now >= expires { Err(Refusal::Expired) } else { Ok(LogoutClaims { subject, session_id, id, expires }) }
    }

    /// Verifies a UserInfo response in JWT form (OpenID Connect Core 1.0, 5.3.2). It is not a token: it needs no
    /// expiry, and issuer and audience are checked if present.
    pub fn verify_userinfo(&self, keys: &KeySet, settings: &Settings) -> Result<Claims, Refusal> {
        let other_issuer = self.claims.contains_key("iss") && !settings.is_issuer_of(&self.claims);
        if other_issuer || (self.claims.contains_key("aud") && !audience(&self.claims, Some(settings.own_audience()))) {
            return Err(Refusal::Invalid);
        }
        self.verify_signature(keys, settings)?;
        Ok((*self.claims).clone())
    }

    /// Verifies the signature, and requires `exp`.
    fn verify(&self, keys: &KeySet, settings: &Settings) -> Result<Verified, Refusal> {
        let liveness = self.verify_signature(keys, settings)?;
        let expires = time(self.claims.get("exp")).ok_or(Refusal::Invalid)?;
        Ok(Verified { expires, liveness, claims: self.claims.clone() })
    }

    /// Verifies the signature; returns the liveness of the key.
    fn verify_signature(&self, keys: &KeySet, settings: &Settings) -> Result<Arc<KeyLiveness>, Refusal> {
        let algorithm = self.header.alg.filter(|a| settings.algorithms.contains(*a)).ok_or(Refusal::Invalid)?;
        if self.header.crit.is_some() {
            return Err(Refusal::Invalid); // no extension is supported (RFC 7515, 4.1.11)
        }
        let key = match keys.select(self.header.kid.as_deref(), algorithm) {
            Selected::Key(key) => key,
            Selected::Unfit => return Err(Refusal::Invalid),
            Selected::Unknown => return Err(Refusal::UnknownKey),
        };
        match jsonwebtoken::crypto::verify(self.signature, self.message, key.decoding(), algorithm) {
            Ok(true) => Ok(key.liveness().clone()),
            Ok(false) | Err(_) => Err(Refusal::BadSignature),
        }
    }
}

impl Verified {
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The token's own `exp`.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The liveness of the key that verified it.
    pub fn liveness(&self) -> &Arc<KeyLiveness> {
        &self.liveness
    }

    /// `exp`, `nbf` and `iat` against the clock, each with the skew.
    fn in_time(&self, skew: Duration, now: Timestamp) -> Result<(), Refusal> {
        if now >= self.expires.plus(skew) {
            return Err(Refusal::Expired);
        }
        begun(&self.claims, skew, now)
    }
}

/// `nbf` and `iat` against the clock, each with the skew.
pub(super) fn begun(claims: &Claims, skew: Duration, now: Timestamp) -> Result<(), Refusal> {
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name) {
            let from = time(Some(value)).ok_or(Refusal::Invalid)?.minus(skew);
            if from > now {
                return Err(Refusal::NotYet(from));
            }
        }
    }
    Ok(())
}

/// Whether the claims do not reveal a token of another kind. Some providers put a nonce into access tokens, which then
/// identify themselves in another way.
pub(super) fn is_access_token(claims: &Claims, is_at_jwt: bool, settings: &Settings) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let kind = text("typ");
    let is_named = is_at_jwt || kind == Some("Bearer");
    let is = |kind: Option<&str>, names: &[&str]| {
        kind.is_some_and(|kind| names.iter().any(|name| kind.eq_ignore_ascii_case(name)))
    };
    let of_id_token = is(kind, &["ID"])
        || is(text("token_use"), &["id"])
        || (!is_named && OF_ID_TOKENS.iter().any(|name| claims.contains_key(*name)));
    // `Offline`: Keycloak's refresh tokens that outlive the session.
    let is_other = is(kind, &["Refresh", "Offline", "Logout"]) || is(text("token_use"), &["refresh"]);
    !is_other && (!of_id_token || settings.bearer_id_tokens)
}

/// If the accepted audience is the client itself, an ID token would match as well: a refreshed one often has neither
/// nonce nor hash. So an access token must carry something that no ID token has.
fn shows_access(claims: &Claims, settings: &Settings) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    settings.bearer_id_tokens
        || !matches!(settings.audiences, Audiences::Client)
        || text("typ") == Some("Bearer")
        || text("token_use") == Some("access")
        || ["scope", "scp", "client_id", "cid"]
            .iter()
            .any(|name| claims.get(*name).is_some_and(|value| !value.is_null()))
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()
}

/// RFC 9068, 2.1 and 4; most providers write `JWT` or nothing.
fn is_access_token_type(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| ["JWT", "at+jwt", "application/at+jwt"].iter().any(|good| typ.eq_ignore_ascii_case(good)))
}

/// A NumericDate (RFC 7519, 2).
pub(super) fn time(value: Option<&Value>) -> Option<Timestamp> {
    let number = value?.as_number()?;
    if let Some(seconds) = number.as_i64() {
        return Some(Timestamp::from_seconds(seconds));
    }
    let seconds = number.as_f64().filter(|s| s.abs() <= LATEST)?;
    Some(Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// Whether `aud` is a string or a list of strings with an accepted one; any other type is not an audience.
pub(super) fn audience(claims: &Claims, accepted: Option<&[String]>) -> bool {
    let Some(accepted) = accepted else {
        return true;
    };
    let ours = |aud: &Value| aud.as_str().is_some_and(|aud| accepted.iter().any(|ours| ours == aud));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(ours),
        Some(one) => ours(one),
        None => false,
    }
}

mod why;

#[cfg(test)]
mod tests;
