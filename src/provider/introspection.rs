//! Evaluates the introspection response for an opaque token (RFC 7662, 2.2).

use crate::kit::clock::Timestamp;
use crate::provider::claims::Claims;
use crate::provider::identity::Identity;
use crate::provider::jwt::{Refusal, audience, begun, is_access_token, time};
use crate::provider::settings::Settings;
use serde_json::Value;
use std::sync::Arc;

/// The identity of an active token.
#[derive(Clone, Debug)]
pub struct Introspected {
    pub identity: Arc<Identity>,
    /// The token's own expiry, if the provider states it.
    pub expires: Option<Timestamp>,
}

/// Why an introspected token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The provider does not vouch for it (any more).
    Inactive,
    Refused(Refusal),
}

/// # Errors
/// Why the token is not accepted.
pub fn judge(
    mut claims: Claims,
    settings: &Settings,
    resources: &[String],
    now: Timestamp,
) -> Result<Introspected, Wrong> {
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err(Wrong::Inactive);
    }
    // All other fields are optional, and some providers send null for those they leave out.
    claims.retain(|_, value| !value.is_null());
    let claims = &claims;
    let invalid = Wrong::Refused(Refusal::Invalid);
    let of_other_issuer = claims.contains_key("iss") && !settings.is_bearer_issuer_of(claims);
    if of_other_issuer || is_refresh_token(claims) || !is_access_token(claims, false, settings) {
        return Err(invalid);
    }
    let expires = match claims.get("exp") {
        None => None,
        exp => Some(time(exp).ok_or(invalid)?),
    };
    if expires.is_some_and(|exp| now >= exp.plus(*settings.clock_skew)) {
        return Err(Wrong::Refused(Refusal::Expired));
    }
    begun(claims, *settings.clock_skew, now).map_err(Wrong::Refused)?;
    if !is_for_us(claims, settings.accepted_audiences()) && !audience(claims, Some(resources)) {
        return Err(Wrong::Refused(Refusal::WrongAudience));
    }
    let identity = Identity::of_introspection(claims, settings).map_err(|_| invalid)?;
    Ok(Introspected { identity: Arc::new(identity), expires })
}

/// Checks `aud`, or if it is absent or empty, the client to which the token was issued.
fn is_for_us(claims: &Claims, accepted: Option<&[String]>) -> bool {
    let is_empty = |aud: &Value| aud.as_str() == Some("");
    let names_nobody =
        claims.get("aud").is_none_or(|aud| is_empty(aud) || aud.as_array().is_some_and(|all| all.iter().all(is_empty)));
    match accepted {
        Some(ours) if names_nobody => {
            claims.get("client_id").and_then(Value::as_str).is_some_and(|id| ours.iter().any(|our| our == id))
        }
        _ => audience(claims, accepted),
    }
}

fn is_refresh_token(claims: &Claims) -> bool {
    let says_so = |name| {
        claims.get(name).and_then(Value::as_str).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("refresh"))
    };
    says_so("token_type") || says_so("token_use")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::{NOW, settings};
    use serde_json::json;

    fn check(changes: Value, expected: Result<&str, Wrong>) {
        let mut claims = json!({
            "active": true, "sub": "alice-1", "aud": "doorward", "scope": "a b", "exp": NOW + 60, "iat": NOW,
            "token_type": "Bearer",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let judged =
            judge(claims.as_object().unwrap().clone(), &settings("https://id.test"), &[], Timestamp::from_seconds(NOW));
        let user = judged.map(|good| good.identity.user.to_string());
        assert_eq!(user.as_deref().map_err(|wrong| *wrong), expected, "{changes}");
    }

    #[test]
    fn only_an_active_access_token_of_ours_counts() {
        let refused = |refusal| Err(Wrong::Refused(refusal));
        check(json!({}), Ok("alice-1"));
        check(json!({"aud": ["x", "doorward"], "iss": "https://id.test", "exp": null}), Ok("alice-1"));
        let nothing = json!({"exp": null, "nbf": null, "iat": null, "iss": null, "token_use": null});
        check(nothing, Ok("alice-1"));
        check(json!({"aud": null, "client_id": "doorward", "token_use": "access_token"}), Ok("alice-1"));
        for active in [json!(false), json!("true"), json!(1), json!(null)] {
            check(json!({ "active": active }), Err(Wrong::Inactive));
        }
        check(json!({"aud": null}), refused(Refusal::WrongAudience));
        check(json!({"aud": [], "client_id": "doorward"}), Ok("alice-1"));
        check(json!({"aud": [], "client_id": "other"}), refused(Refusal::WrongAudience));
        check(json!({"aud": "", "client_id": "doorward"}), Ok("alice-1"));
        check(json!({"aud": [""], "client_id": "doorward"}), Ok("alice-1"));
        check(json!({"aud": "", "client_id": "other"}), refused(Refusal::WrongAudience));
        check(json!({"aud": ["", "other"], "client_id": "doorward"}), refused(Refusal::WrongAudience));
        check(json!({"aud": null, "client_id": "other"}), refused(Refusal::WrongAudience));
        check(json!({"aud": "other", "client_id": "doorward"}), refused(Refusal::WrongAudience));
        check(json!({"exp": NOW - 60}), refused(Refusal::Expired));
        check(json!({"exp": "soon"}), refused(Refusal::Invalid));
        check(json!({"nbf": NOW + 61}), refused(Refusal::NotYet(Timestamp::from_seconds(NOW + 1))));
        for changes in [
            json!({"sub": null}),
            json!({"sub": ""}),
            json!({"iss": "https://other.test"}),
            json!({"token_type": "refresh_token"}),
            json!({"token_use": "Refresh"}),
            json!({"typ": "ID"}),
        ] {
            check(changes, refused(Refusal::Invalid));
        }
    }

    #[test]
    fn the_mapped_claim_says_who_it_is() {
        let mut by_client = settings("https://id.test");
        by_client.claims.user = crate::provider::claims::ClaimPath::new("client_id");
        let claims = json!({"active": true, "client_id": "doorward", "scope": "a"});
        let now = Timestamp::from_seconds(NOW);
        let judged = judge(claims.as_object().unwrap().clone(), &by_client, &[], now).unwrap();
        assert_eq!(&*judged.identity.user, "doorward");
        let nobody = judge(claims.as_object().unwrap().clone(), &settings("https://id.test"), &[], now);
        assert_eq!(nobody.unwrap_err(), Wrong::Refused(Refusal::Invalid));
    }
}
