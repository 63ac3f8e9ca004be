//! The gateway as a client of the provider: it authenticates each call, and reads the provider's answers with the
//! leniency that providers need (RFC 6749, 2.3 and 5).

use crate::kit::clock::Clock;
use crate::kit::http_client::CallError;
use crate::kit::secret::Secret;
use crate::provider::claims::Claims;
use crate::provider::discovery::Metadata;
use crate::provider::http::Http;
use crate::provider::settings::{ClientProof, Settings};
use crate::provider::{CallFailed, GrantError, Tokens, UserInfo};
use crate::telemetry::record::{LONGEST_WORD, cut};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Deserializer};
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
    error_description: Option<String>,
}

/// What a call to the provider needs.
pub(super) struct TokenEndpoint<'a> {
    pub(super) http: &'a Http,
    pub(super) settings: &'a Settings,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) metadata: &'a Metadata,
}

/// How much of a provider's description is repeated, in bytes.
pub const LONGEST_DESCRIPTION: usize = 200;

/// RFC 7521, 4.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) async fn grant(
    client: &TokenEndpoint<'_>,
    endpoint: &Url,
    form: &[(&str, &str)],
) -> Result<Tokens, CallFailed> {
    let body = post(client, endpoint, form).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body)
        .map_err(|problem| CallFailed::refused(format!("the token response cannot be read: {problem}")))?;
    Ok(Tokens {
        access: answer.access_token.into(),
        id: answer.id_token.map(Secret::from),
        refresh: answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::from),
        lives: answer.expires_in.map(Duration::from_secs),
    })
}

pub(super) async fn userinfo(http: &Http, endpoint: &Url, token: &Secret) -> Result<UserInfo, CallFailed> {
    let request = http.request(Method::GET, endpoint).bearer_auth(token.expose());
    match http.send(request.header("accept", "application/json, application/jwt;q=0.9")).await {
        Ok((StatusCode::OK, answer)) if answer.is_jwt => {
            let jwt = String::from_utf8(answer.body).map_err(|_| CallFailed::refused("the JWT is no text"))?;
            Ok(UserInfo::Signed(jwt.trim().to_owned().into()))
        }
        Ok((StatusCode::OK, answer)) => {
            let read = serde_json::from_slice(&answer.body).map(UserInfo::Plain);
            read.map_err(|problem| CallFailed::refused(format!("the response cannot be read: {problem}")))
        }
        Ok((status, answer)) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(CallFailed::unavailable(told(status, &answer.body)))
        }
        Ok((status, answer)) => Err(CallFailed::refused(told(status, &answer.body))),
        Err(problem) => Err(CallFailed::unavailable(problem.to_string())),
    }
}

/// Introspects a token (RFC 7662). A refusal that concerns the token means that it is not active.
pub(super) async fn introspect(
    client: &TokenEndpoint<'_>,
    endpoint: &Url,
    token: &Secret,
) -> Result<Claims, CallFailed> {
    let form = [("token", token.expose().as_str()), ("token_type_hint", "access_token")];
    match call(client, endpoint, &form).await? {
        (status, body) if status.is_success() => serde_json::from_slice(&body)
            .map_err(|problem| CallFailed::unavailable(format!("the response cannot be read: {problem}"))),
        (status, body) if speaks_of_token(status, &body) => {
            Ok(Claims::from_iter([("active".to_owned(), serde_json::Value::Bool(false))]))
        }
        (status, body) => Err(CallFailed::unavailable(told(status, &body))),
    }
}

/// Posts a form with the client's credentials; returns the body of a good answer.
pub(super) async fn post(
    client: &TokenEndpoint<'_>,
    endpoint: &Url,
    form: &[(&str, &str)],
) -> Result<Vec<u8>, CallFailed> {
    match call(client, endpoint, form).await? {
        (status, body) if status.is_success() => Ok(body),
        (status, body) => Err(CallFailed { error: refusal(status, &body), why: told(status, &body) }),
    }
}

async fn call(
    client: &TokenEndpoint<'_>,
    endpoint: &Url,
    form: &[(&str, &str)],
) -> Result<(StatusCode, Vec<u8>), CallFailed> {
    let settings = client.settings;
    let request = client.http.request(Method::POST, endpoint);
    let request = authenticated(request, client, form).await.map_err(|problem| {
        tracing::warn!(provider = %settings.name, problem, "the gateway cannot authenticate at the provider");
        CallFailed::refused(problem)
    })?;
    match client.http.send(request).await {
        Ok((status, answer)) => Ok((status, answer.body)),
        Err(problem) => {
            tracing::debug!(provider = %settings.name, %problem, "the provider does not answer");
            Err(failed(&problem))
        }
    }
}

/// An answer without an end makes no sense, as one that cannot be read; any other failure may pass.
fn failed(problem: &CallError) -> CallFailed {
    match problem {
        CallError::TooLarge => CallFailed::refused(problem.to_string()),
        CallError::Transport(_) | CallError::Status(_) => CallFailed::unavailable(problem.to_string()),
    }
}

/// Adds the form and the client's credentials.
async fn authenticated(
    request: RequestBuilder,
    client: &TokenEndpoint<'_>,
    form: &[(&str, &str)],
) -> Result<RequestBuilder, String> {
    let settings = client.settings;
    let id = settings.client_id.as_str();
    let proof_of_client = settings.client_proof().ok_or("the configuration lacks the client's secret or key")?;
    // Read each time: another program keeps the file fresh.
    let ready = match &proof_of_client {
        ClientProof::AssertionFile(file) => {
            let told = |problem: std::io::Error| format!("{}: {problem}", file.display());
            tokio::fs::read_to_string(file).await.map_err(told)?
        }
        _ => String::new(),
    };
    let mut request =
        request.header("accept", "application/json").header("content-type", "application/x-www-form-urlencoded");
    let mut fields = Serializer::new(String::new());
    fields.extend_pairs(form);
    match &proof_of_client {
        ClientProof::Basic(secret) => {
            // Id and secret are form-encoded first (RFC 6749, 2.3.1).
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(id), Some(encoded(secret.expose())));
        }
        ClientProof::Post(secret) => {
            fields.extend_pairs([("client_id", id), ("client_secret", secret.expose())]);
        }
        ClientProof::None => {
            fields.append_pair("client_id", id);
        }
        ClientProof::PrivateKey(key) => {
            let audience =
                client.metadata.assertion_audience.as_deref().ok_or("the provider names no token endpoint")?;
            let assertion = key.assertion(id, audience, client.clock).ok_or("the key cannot sign")?;
            proof(&mut fields, id, &assertion);
        }
        ClientProof::AssertionFile(_) => {
            proof(&mut fields, id, ready.trim());
        }
    }
    Ok(request.body(fields.finish()))
}

/// The provider's own words (RFC 6749, 5.2).
fn told(status: StatusCode, body: &[u8]) -> String {
    let status = status.as_u16();
    match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(ErrorAnswer { error, error_description: Some(said) }) => {
            format!("{} (status {status}): {}", cut(&error, LONGEST_WORD), cut(&said, LONGEST_DESCRIPTION))
        }
        Ok(ErrorAnswer { error, error_description: None }) => {
            format!("{} (status {status})", cut(&error, LONGEST_WORD))
        }
        Err(_) => format!("status {status}, without an error code"),
    }
}

fn error_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error).ok().filter(|error| !error.is_empty())
}

/// Determined by status and error code.
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

/// Whether a refusal concerns the token; 401 and 403 concern the gateway as a client.
fn speaks_of_token(status: StatusCode, body: &[u8]) -> bool {
    let ours = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error()
        && !ours.contains(&status)
        && matches!(error_code(body).as_deref(), Some("unsupported_token_type" | "invalid_request"))
}

fn proof(fields: &mut Serializer<'_, String>, id: &str, assertion: &str) {
    fields.extend_pairs([("client_id", id), ("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]);
}

/// Some providers send `expires_in` as a string.
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
