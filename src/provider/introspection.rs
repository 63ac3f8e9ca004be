//! Judges what a provider says of an opaque token (RFC 7662, 2.2).

use crate::kit::clock::Timestamp;
use crate::provider::claims::Claims;
use crate::provider::identity::Identity;
use crate::provider::jwt::{Refusal, audience, begun, is_access_token, time};
use crate::provider::{Audiences, Settings};
use serde_json::Value;
use std::sync::Arc;

/// Whom an active token stands for.
#[derive(Clone, Debug)]
pub struct Introspected {
    pub identity: Arc<Identity>,
    /// The token's own end, where the provider says it.
    pub expires: Option<Timestamp>,
}

/// What is wrong with a token that the provider spoke of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The provider does not vouch for it (any more).
    Inactive,
    Refused(Refusal),
}

/// # Errors
/// Why the token does not count here.
pub fn judge(mut claims: Claims, settings: &Settings, now: Timestamp) -> Result<Introspected, Wrong> {
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err(Wrong::Inactive);
    }
    // As they are optional, some providers send null for what they do not say.
    claims.retain(|_, value| !value.is_null());
    let claims = &claims;
    let invalid = Wrong::Refused(Refusal::Invalid);
    let of_other_issuer = claims.get("iss").is_some_and(|iss| iss.as_str() != Some(&settings.issuer));
    let has_subject = matches!(claims.get("sub"), Some(Value::String(sub)) if !sub.is_empty());
    if of_other_issuer || !has_subject || is_refresh_token(claims) || !is_access_token(claims, settings) {
        return Err(invalid);
    }
    let expires = match claims.get("exp") {
        None => None,
        exp => Some(time(exp).ok_or(invalid)?),
    };
    if expires.is_some_and(|exp| now >= exp.plus(settings.clock_skew)) {
        return Err(Wrong::Refused(Refusal::Expired));
    }
    begun(claims, settings.clock_skew, now).map_err(Wrong::Refused)?;
    if !is_for_us(claims, &settings.audiences) {
        return Err(Wrong::Refused(Refusal::WrongAudience));
    }
    let identity = Identity::of_introspection(claims, settings).map_err(|_| invalid)?;
    Ok(Introspected { identity: Arc::new(identity), expires })
}

/// `aud`, or without it the client that the token was made for.
fn is_for_us(claims: &Claims, accepted: &Audiences) -> bool {
    match (claims.get("aud"), accepted) {
        (None, Audiences::OneOf(ours)) => {
            claims.get("client_id").and_then(Value::as_str).is_some_and(|id| ours.iter().any(|our| our == id))
        }
        _ => audience(claims, accepted),
    }
}

fn is_refresh_token(claims: &Claims) -> bool {
    let says_so =
        |name| claims.get(name).and_then(Value::as_str).is_some_and(|kind| kind.to_lowercase().starts_with("refresh"));
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
            judge(claims.as_object().unwrap().clone(), &settings("https://id.test"), Timestamp::from_seconds(NOW));
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
}
