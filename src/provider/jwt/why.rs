//! Why a token was refused, for operators: which check, what it expected, what the token has. It decides nothing, and is
//! asked only after a refusal.

use crate::kit::clock::Timestamp;
use crate::provider::jwt::{
    OF_ID_TOKENS, Refusal, Unverified, is_access_token, is_access_token_type, shows_access, time,
};
use crate::provider::settings::Settings;
use crate::telemetry::record::cut;
use serde_json::Value;
use std::time::Duration;

/// The longest text of a token that is repeated, in bytes.
const LONGEST: usize = 120;

impl Unverified<'_> {
    /// Of a bearer token whose issuer is none of these.
    pub fn why_no_issuer<'a>(&self, known: impl Iterator<Item = &'a Settings>) -> String {
        let expected =
            known.map(|own| own.bearer_issuer.as_ref().map_or(own.issuer.as_str(), |issuer| issuer.as_str()));
        mismatch("iss", &list(expected), &shown(self.claims().get("iss")))
    }

    /// Of a bearer token.
    pub fn why_no_bearer(&self, settings: &Settings, resources: &[String], refusal: Refusal, now: Timestamp) -> String {
        if let Some(why) = self.why(settings, refusal, now) {
            return why;
        }
        let claims = self.claims();
        if refusal == Refusal::WrongAudience {
            let accepted = settings.accepted_audiences().unwrap_or_default().iter().chain(resources);
            return mismatch("aud", &list(accepted), &shown(claims.get("aud")));
        }
        let typ = self.header.typ.as_deref();
        let is_at_jwt = typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"));
        if !is_access_token_type(typ) {
            return mismatch("typ in the header", "none, JWT or at+jwt", typ.unwrap_or_default());
        }
        if !settings.is_bearer_issuer_of(claims) {
            let expected = settings.bearer_issuer.as_ref().map_or(settings.issuer.as_str(), |issuer| issuer.as_str());
            return mismatch("iss", expected, &shown(claims.get("iss")));
        }
        if claims.contains_key("events") {
            return "events: is that of a logout token".into();
        }
        if settings.claims.user.text(claims).is_none() {
            return format!("{}: the mapped `user` claim is absent or no text", settings.claims.user.as_str());
        }
        if !is_access_token(claims, is_at_jwt, settings) {
            let of_id_token = OF_ID_TOKENS.iter().find(|name| claims.contains_key(**name)).copied();
            return format!(
                "it is no access token: it has {}",
                of_id_token.map_or_else(|| format!("typ {}", shown(claims.get("typ"))), str::to_owned)
            );
        }
        if !is_at_jwt && !shows_access(claims, settings) {
            return "nothing in it says that it is an access token (scope, scp, client_id, cid, typ: Bearer); if the provider's are such, name their aud in `audiences`".into();
        }
        "it cannot be read as a bearer token".into()
    }

    /// Of an ID token, or a logout token.
    pub fn why_no_own_token(
        &self,
        settings: &Settings,
        nonce: Option<&str>,
        refusal: Refusal,
        now: Timestamp,
    ) -> String {
        if let Some(why) = self.why(settings, refusal, now) {
            return why;
        }
        let claims = self.claims();
        if refusal == Refusal::WrongAudience {
            let other_party = claims.get("azp").filter(|azp| azp.as_str() != Some(settings.client_id.as_str()));
            return match other_party {
                Some(azp) => mismatch("azp", settings.client_id.as_str(), &shown(Some(azp))),
                None => mismatch("aud", settings.client_id.as_str(), &shown(claims.get("aud"))),
            };
        }
        if !settings.is_issuer_of(claims) {
            return mismatch("iss", settings.issuer.as_str(), &shown(claims.get("iss")));
        }
        for name in ["sub", "iat"] {
            if !claims.contains_key(name) {
                return format!("{name}: is absent");
            }
        }
        if nonce.is_some() && claims.get("nonce").and_then(Value::as_str) != nonce {
            return "nonce: is not that of this login".into();
        }
        "a claim that must be there is absent or of another type".into()
    }

    /// What every kind of token has in common.
    fn why(&self, settings: &Settings, refusal: Refusal, now: Timestamp) -> Option<String> {
        let claims = self.claims();
        let key = self
            .header
            .kid
            .as_deref()
            .map_or_else(|| "without a kid".into(), |kid| format!("kid {}", cut(kid, LONGEST)));
        Some(match refusal {
            Refusal::UnknownKey => format!("{key}: is not among the provider's keys"),
            Refusal::BadSignature => format!("signature: was not made by the provider's key, {key}"),
            Refusal::Expired => match time(claims.get("exp")) {
                Some(exp) => ended(exp, *settings.clock_skew, now),
                None => "exp: is absent or no number".into(),
            },
            Refusal::NotYet(from) => {
                let name = if time(claims.get("nbf")).is_some_and(|nbf| nbf > now) { "nbf" } else { "iat" };
                let ahead = now.until(from).as_secs() + settings.clock_skew.as_secs();
                format!("{name}: is {ahead} s in the future, by this machine's clock")
            }
            Refusal::WrongAudience => return None,
            Refusal::Invalid => {
                let algorithm = self.header.alg;
                if !algorithm.is_some_and(|algorithm| settings.algorithms.contains(algorithm)) {
                    let accepted = settings.algorithms.0.iter().map(|algorithm| format!("{algorithm:?}"));
                    let got = algorithm.map_or_else(|| "none".into(), |algorithm| format!("{algorithm:?}"));
                    return Some(mismatch("alg", &list(accepted), &got));
                }
                if self.header.crit.is_some() {
                    return Some("crit: no extension is supported".into());
                }
                if claims.get("exp").is_none() && !claims.contains_key("events") {
                    return Some("exp: is absent".into());
                }
                return None;
            }
        })
    }
}

fn ended(exp: Timestamp, skew: Duration, now: Timestamp) -> String {
    let ago = exp.until(now).as_secs();
    format!("exp: was {ago} s ago by this machine's clock, beyond clock_skew ({} s)", skew.as_secs())
}

fn mismatch(check: &str, expected: &str, got: &str) -> String {
    format!("{check}: expected {expected}, got {got}")
}

fn list(all: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.as_ref().to_owned()).collect();
    match all.as_slice() {
        [only] => only.clone(),
        _ => format!("one of {}", all.join(", ")),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "none".into(),
        Some(Value::String(text)) => cut(text, LONGEST),
        Some(other) => cut(&other.to_string(), LONGEST),
    }
}
