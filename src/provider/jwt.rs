//! Judges a signed token (RFC 7519, RFC 8725): which key, a good signature, and the times, issuer and audience
//! that every token must have. jsonwebtoken verifies the signature; what it leaves open (`crit`, `typ`, `iat`,
//! odd types of `exp`) is judged here, so that one reading of the claims decides.

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

/// A token taken apart, nothing verified.
pub struct Unverified<'a> {
    header: Header,
    claims: Claims,
    message: &'a [u8],
    signature: &'a str,
}

/// Claims that the provider vouches for. Only a good signature makes one.
pub struct Verified {
    claims: Claims,
    expires: Timestamp,
    standing: Arc<KeyLiveness>,
}

/// Three parts, the first base64url of a JSON object with `alg`: a JWT, however empty or broken the rest.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    Jwt,
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
    /// Signed with a key that is not at hand: fetching the keys anew may help.
    UnknownKey,
    /// Not signed with the key of that name that is at hand. The provider may have made another of the same name.
    BadSignature,
}

#[derive(Deserialize)]
struct Header {
    alg: Option<Algorithm>,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// The largest `exp`, `nbf` or `iat` that is a time: beyond 2^53 a JSON number is no exact integer any more.
const LATEST: f64 = 9_007_199_254_740_992.0;

/// Claims that only ID tokens carry (OpenID Connect Core 1.0, 3.1.3.6, 3.3.2.11; Financial-grade API).
const OF_ID_TOKENS: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

pub fn shape(token: &str) -> Shape {
    let mut parts = token.split('.');
    let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Shape::Opaque;
    };
    match decode::<Claims>(head) {
        Some(header) if header.contains_key("alg") => Shape::Jwt,
        _ => Shape::Opaque,
    }
}

impl<'a> Unverified<'a> {
    pub fn read(token: &'a str) -> Result<Self, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Invalid)?;
        let (head, claims) = message.split_once('.').ok_or(Refusal::Invalid)?;
        Ok(Unverified {
            header: decode(head).ok_or(Refusal::Invalid)?,
            claims: decode(claims).ok_or(Refusal::Invalid)?,
            message: message.as_bytes(),
            signature,
        })
    }

    /// What it claims; what picks the provider that is to verify it.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The `exp` that it claims; what nobody verified is good for scheduling alone.
    pub fn expires(&self) -> Option<Timestamp> {
        time(self.claims.get("exp"))
    }

    /// Verifies the token as one that a program presents to an API.
    pub fn verify_bearer(self, keys: &KeySet, settings: &Settings, now: Timestamp) -> Result<Verified, Refusal> {
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
        verified.in_time(settings.clock_skew, now)?;
        match audience(claims, &settings.audiences) {
            true => Ok(verified),
            false => Err(Refusal::WrongAudience),
        }
    }

    /// Judges the token as an ID token, whole (OpenID Connect Core 1.0, 3.1.3.7). `nonce`: of the login that asked for
    /// it; `None` for a refreshed one (12.2), which may be without.
    pub fn verify_id_token(
        self,
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
        verified.in_time(settings.clock_skew, now)?;
        let ours = Audiences::Client(settings.client_id.clone());
        let other_party = |azp: &Value| azp.as_str() != Some(&settings.client_id);
        if !audience(claims, &ours) || claims.get("azp").is_some_and(other_party) {
            return Err(Refusal::WrongAudience);
        }
        let sent = claims.get("nonce").and_then(Value::as_str);
        if claims.contains_key("events") || !claims.contains_key("iat") || (nonce.is_some() && sent != nonce) {
            return Err(Refusal::Invalid);
        }
        Ok(verified)
    }

    /// Judges an answer of UserInfo that came as a JWT (OpenID Connect Core 1.0, 5.3.2). It is no token: it has no end, and
    /// issuer and audience where the provider writes them.
    pub fn verify_userinfo(self, keys: &KeySet, settings: &Settings) -> Result<Claims, Refusal> {
        let other_issuer = self.claims.contains_key("iss") && !settings.is_issuer_of(&self.claims);
        let ours = Audiences::Client(settings.client_id.clone());
        if other_issuer || (self.claims.contains_key("aud") && !audience(&self.claims, &ours)) {
            return Err(Refusal::Invalid);
        }
        self.verify_signature(keys, settings)?;
        Ok(self.claims)
    }

    /// The signature, and that there is an end.
    fn verify(self, keys: &KeySet, settings: &Settings) -> Result<Verified, Refusal> {
        let standing = self.verify_signature(keys, settings)?;
        let expires = time(self.claims.get("exp")).ok_or(Refusal::Invalid)?;
        Ok(Verified { expires, standing, claims: self.claims })
    }

    /// The standing of the key that it fits.
    fn verify_signature(&self, keys: &KeySet, settings: &Settings) -> Result<Arc<KeyLiveness>, Refusal> {
        let algorithm = self.header.alg.filter(|a| settings.algorithms.contains(a)).ok_or(Refusal::Invalid)?;
        if self.header.crit.is_some() {
            return Err(Refusal::Invalid); // no extension is understood here (RFC 7515, 4.1.11)
        }
        let key = match keys.select(self.header.kid.as_deref(), algorithm) {
            Selected::Key(key) => key,
            Selected::Unfit => return Err(Refusal::Invalid),
            Selected::Unknown => return Err(Refusal::UnknownKey),
        };
        match jsonwebtoken::crypto::verify(self.signature, self.message, key.decoding(), algorithm) {
            Ok(true) => Ok(key.standing().clone()),
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

    /// Of the key that verified it.
    pub fn standing(&self) -> &Arc<KeyLiveness> {
        &self.standing
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

/// Not a token of another use that its claims give away. Some providers put a nonce into access tokens, which then say in
/// another way what they are.
pub(super) fn is_access_token(claims: &Claims, is_at_jwt: bool, settings: &Settings) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let kind = text("typ");
    let is_named = is_at_jwt || kind == Some("Bearer");
    let of_id_token = kind == Some("ID")
        || text("token_use") == Some("id")
        || (!is_named && OF_ID_TOKENS.iter().any(|name| claims.contains_key(*name)));
    !matches!(kind, Some("Refresh" | "Logout")) && (!of_id_token || settings.bearer_id_tokens)
}

/// Where the accepted audience is the client itself, an ID token would do as well: a refreshed one has often neither nonce nor
/// hash. An access token has something that no ID token has.
fn shows_access(claims: &Claims, settings: &Settings) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    settings.bearer_id_tokens
        || !matches!(settings.audiences, Audiences::Client(_))
        || text("typ") == Some("Bearer")
        || text("token_use") == Some("access")
        || ["scope", "scp", "client_id", "cid"].iter().any(|name| claims.contains_key(*name))
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

/// A text or a list of texts, one of them ours; any other type is no audience.
pub(super) fn audience(claims: &Claims, accepted: &Audiences) -> bool {
    let Some(accepted) = accepted.accepted() else {
        return true;
    };
    let ours = |aud: &Value| aud.as_str().is_some_and(|aud| accepted.iter().any(|ours| ours == aud));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(ours),
        Some(one) => ours(one),
        None => false,
    }
}

#[cfg(test)]
mod tests;
