//! The gateway as a client of the provider: its credentials on each call, and the provider's answers read with the
//! leniency that providers need (RFC 6749, 2.3 and 5).

use crate::kit::clock::Clock;
use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::http::Http;
use crate::provider::{ClientAuth, GrantError, Settings, Tokens, UserInfo};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    id_token: Option<String>,
    refresh_token: Option<String>,
    #[serde(default, deserialize_with = "number_or_text")]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

/// A client assertion's life (RFC 7523, 3): long enough for a slow clock, too short to be worth stealing.
const ASSERTION_SECONDS: i64 = 60;

pub(super) async fn grant(
    http: &Http,
    endpoint: &Url,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    form: &[(&str, &str)],
) -> Result<Tokens, GrantError> {
    let body = post(http, endpoint, settings, clock, form).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| GrantError::Refused)?;
    Ok(Tokens {
        access: answer.access_token.into(),
        id: answer.id_token.map(Secret::from),
        refresh: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::from),
        lives: answer.expires_in.map(Duration::from_secs),
    })
}

pub(super) async fn userinfo(http: &Http, endpoint: &Url, token: &Secret) -> Result<UserInfo, GrantError> {
    let request = http.request(Method::GET, endpoint).bearer_auth(token.expose());
    match http.send(request.header("accept", "application/json, application/jwt;q=0.9")).await {
        Ok((StatusCode::OK, answer)) if answer.is_jwt => {
            let jwt = String::from_utf8(answer.body).map_err(|_| GrantError::Refused)?;
            Ok(UserInfo::Signed(jwt.trim().to_owned().into()))
        }
        Ok((StatusCode::OK, answer)) => {
            serde_json::from_slice(&answer.body).map(UserInfo::Plain).map_err(|_| GrantError::Refused)
        }
        Ok((StatusCode::TOO_MANY_REQUESTS, _)) | Err(_) => Err(GrantError::Unavailable),
        Ok((status, _)) if status.is_server_error() => Err(GrantError::Unavailable),
        Ok(_) => Err(GrantError::Refused),
    }
}

/// What the provider says of a token (RFC 7662). A refusal that speaks of the token says that it is not active.
pub(super) async fn introspect(
    http: &Http,
    endpoint: &Url,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    token: &Secret,
) -> Result<Claims, GrantError> {
    let form = [("token", token.expose().as_str()), ("token_type_hint", "access_token")];
    match call(http, endpoint, settings, clock, &form).await? {
        (status, body) if status.is_success() => serde_json::from_slice(&body).map_err(|_| GrantError::Unavailable),
        (status, body) if speaks_of_token(status, &body) => {
            Ok(Claims::from_iter([("active".to_owned(), serde_json::Value::Bool(false))]))
        }
        _ => Err(GrantError::Unavailable),
    }
}

/// Posts a form with the client's credentials; the answer's body where it is good.
pub(super) async fn post(
    http: &Http,
    endpoint: &Url,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    form: &[(&str, &str)],
) -> Result<Vec<u8>, GrantError> {
    match call(http, endpoint, settings, clock, form).await? {
        (status, body) if status.is_success() => Ok(body),
        (status, body) => Err(refusal(status, &body)),
    }
}

async fn call(
    http: &Http,
    endpoint: &Url,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    form: &[(&str, &str)],
) -> Result<(StatusCode, Vec<u8>), GrantError> {
    let request = http.request(Method::POST, endpoint);
    let request = authenticated(request, endpoint, settings, clock, form).ok_or(GrantError::Refused)?;
    match http.send(request).await {
        Ok((status, answer)) => Ok((status, answer.body)),
        Err(problem) => {
            tracing::debug!(provider = %settings.name, %problem, "the provider does not answer");
            Err(GrantError::Unavailable)
        }
    }
}

/// The form with what proves who sends it; nothing where that cannot be made.
fn authenticated(
    request: RequestBuilder,
    endpoint: &Url,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    form: &[(&str, &str)],
) -> Option<RequestBuilder> {
    let id = settings.client_id.as_str();
    let mut request =
        request.header("accept", "application/json").header("content-type", "application/x-www-form-urlencoded");
    let mut fields = Serializer::new(String::new());
    fields.extend_pairs(form);
    match &settings.client_auth {
        ClientAuth::Basic(secret) => {
            // Both are form-encoded before (RFC 6749, 2.3.1).
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(id), Some(encoded(secret.expose())));
        }
        ClientAuth::Post(secret) => {
            fields.extend_pairs([("client_id", id), ("client_secret", secret.expose())]);
        }
        ClientAuth::None => {
            fields.append_pair("client_id", id);
        }
        ClientAuth::PrivateKeyJwt(key) => {
            let assertion = assertion(key, settings, endpoint, clock)?;
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            fields.extend_pairs([("client_id", id), ("client_assertion_type", kind), ("client_assertion", &assertion)]);
        }
    }
    Some(request.body(fields.finish()))
}

fn error_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error).ok()
}

/// By the error's code.
fn refusal(status: StatusCode, body: &[u8]) -> GrantError {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return GrantError::Unavailable;
    }
    match error_code(body).as_deref() {
        Some("invalid_grant") => GrantError::Denied,
        Some("invalid_request") => GrantError::InvalidRequest,
        // OpenID Connect Core 1.0, 3.1.2.6.
        Some("interaction_required" | "login_required" | "consent_required" | "account_selection_required") => {
            GrantError::NeedsPerson
        }
        Some("temporarily_unavailable" | "server_error" | "slow_down") => GrantError::Unavailable,
        None if status == StatusCode::BAD_REQUEST => GrantError::Unnamed,
        Some(_) | None => GrantError::Refused,
    }
}

/// 401 and 403 speak of our own client.
fn speaks_of_token(status: StatusCode, body: &[u8]) -> bool {
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error()
        && !ours.contains(&status)
        && matches!(error_code(body).as_deref(), Some("unsupported_token_type" | "invalid_request"))
}

/// RFC 7523, 2.2.
fn assertion(pem: &Secret, settings: &Settings, endpoint: &Url, clock: &Arc<dyn Clock>) -> Option<String> {
    let bytes = pem.expose().as_bytes();
    let keys = [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(bytes)),
        (Algorithm::ES256, EncodingKey::from_ec_pem(bytes)),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(bytes)),
    ];
    let (algorithm, key) = keys.into_iter().find_map(|(algorithm, key)| Some((algorithm, key.ok()?)))?;
    let now = clock.now().seconds();
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).ok()?;
    let claims = json!({
        "iss": settings.client_id, "sub": settings.client_id, "aud": endpoint.as_str(), "iat": now, "exp": now + ASSERTION_SECONDS,
        "jti": data_encoding::BASE64URL_NOPAD.encode(&id),
    });
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).ok()
}

/// Some providers write `expires_in` as text.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64));
    Ok(number.or_else(|| value.as_str()?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_by_their_code() {
        let check = |status: u16, body: &str, expected| {
            assert_eq!(refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes()), expected, "{status} {body}");
        };
        check(400, r#"{"error": "invalid_grant"}"#, GrantError::Denied);
        check(400, r#"{"error": "invalid_request"}"#, GrantError::InvalidRequest);
        for error in ["interaction_required", "login_required", "consent_required", "account_selection_required"] {
            check(400, &format!(r#"{{"error": "{error}"}}"#), GrantError::NeedsPerson);
        }
        check(401, r#"{"error": "invalid_client"}"#, GrantError::Refused);
        check(400, "invalid_grant", GrantError::Unnamed);
        check(400, "", GrantError::Unnamed);
        check(401, "", GrantError::Refused);
        check(403, r#"{"error": "invalid_code"}"#, GrantError::Refused);
        check(500, r#"{"error": "invalid_grant"}"#, GrantError::Unavailable);
        check(429, "", GrantError::Unavailable);
        check(400, r#"{"error": "temporarily_unavailable"}"#, GrantError::Unavailable);
    }

    #[test]
    fn some_refusals_of_an_introspection_speak_of_the_token() {
        let check = |status: u16, body: &str, expected| {
            assert_eq!(
                speaks_of_token(StatusCode::from_u16(status).unwrap(), body.as_bytes()),
                expected,
                "{status} {body}"
            );
        };
        check(400, r#"{"error": "unsupported_token_type"}"#, true);
        check(400, r#"{"error": "invalid_request"}"#, true);
        check(422, r#"{"error": "invalid_request"}"#, true);
        check(400, "", false);
        check(400, r#"{"error": "invalid_client"}"#, false);
        for status in [401, 403, 429, 500, 503] {
            check(status, r#"{"error": "invalid_request"}"#, false);
        }
    }

    #[test]
    fn lifetimes_come_in_many_shapes() {
        for (json, expected) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("3600.7", Some(3600)),
            ("null", None),
            ("-1", None),
            ("\"soon\"", None),
        ] {
            let answer: TokenAnswer =
                serde_json::from_str(&format!(r#"{{"access_token": "a", "expires_in": {json}}}"#)).unwrap();
            assert_eq!(answer.expires_in, expected, "{json}");
        }
        assert_eq!(serde_json::from_str::<TokenAnswer>(r#"{"access_token": "a"}"#).unwrap().expires_in, None);
    }
}
