//! The token endpoint: who the client is, and what its code or refresh token is exchanged for (RFC 6749, RFC 7636).
//! It must not know what stands in the tokens.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio::time::Instant;

use axum::response::Response;

use super::endpoints::{Call, OAuthError, json_response};
use super::resources::live_access_token;
use super::state::{Client, CodeGrant, Grant, State};

const BASIC: &str = "Basic realm=\"development provider\"";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) fn token(state: &State, call: &Call) -> Result<Response, OAuthError> {
    let client = authenticated_client(state, call)?;
    let response = match call.form.get("grant_type") {
        Some("authorization_code") => exchange_code(state, &client, call)?,
        Some("refresh_token") => refresh(state, &client, call)?,
        Some("client_credentials") if client.client_secret.is_some() => {
            state.client_credentials_response(&client.client_id, call.form.get("scope").unwrap_or_default())
        }
        Some("client_credentials") => {
            return Err(OAuthError::new("unauthorized_client", "only for clients with a secret"));
        }
        Some(TOKEN_EXCHANGE) => exchange_token(state, &client, call)?,
        Some(_) => return Err(OAuthError::new("unsupported_grant_type", "no such grant type here")),
        None => return Err(OAuthError::new("invalid_request", "grant_type is missing")),
    };
    Ok(json_response(StatusCode::OK, &response))
}

/// The client, by exactly one method of authentication (RFC 6749 2.3, RFC 7523 2.2).
pub(super) fn authenticated_client(state: &State, call: &Call) -> Result<Client, OAuthError> {
    let basic = call.headers.get(AUTHORIZATION).is_some();
    let assertion = call.form.get("client_assertion");
    let secret = call.form.get("client_secret");
    if usize::from(basic) + usize::from(assertion.is_some()) + usize::from(secret.is_some()) > 1 {
        return Err(OAuthError::new("invalid_request", "more than one way of client authentication"));
    }
    if basic {
        let (client_id, secret) = basic_credentials(call).ok_or_else(refused)?;
        return client_with_secret(state, &client_id, &secret);
    }
    if let Some(assertion) = assertion {
        // Not verified: the clients of this provider register no keys. What the gateway puts there is its own tests'
        // affair, by the log of calls.
        let sound = call.form.get("client_assertion_type") == Some(JWT_BEARER);
        let client_id = assertion_subject(assertion).filter(|_| sound).ok_or_else(refused)?;
        return state.client(&client_id).ok_or_else(refused);
    }
    let client_id = call.form.get("client_id").ok_or_else(refused)?;
    match secret {
        Some(secret) => client_with_secret(state, client_id, secret),
        None => state.client(client_id).filter(|client| client.client_secret.is_none()).ok_or_else(refused),
    }
}

fn exchange_code(state: &State, client: &Client, call: &Call) -> Result<Value, OAuthError> {
    let code = call.form.get("code").ok_or_else(|| OAuthError::new("invalid_request", "code is missing"))?;
    let spent = {
        let mut ledger = state.ledger.lock();
        let found = ledger.codes.get_mut(code).ok_or_else(|| invalid_grant("the code is unknown"))?;
        let before = found.clone();
        // Whatever comes of it: a code has one try.
        found.spent = true;
        if before.spent {
            // RFC 6749 4.1.2: somebody has a copy of the code, so all that it brought ends.
            ledger.revoke_family(&before.grant.family);
            return Err(invalid_grant("the code was used before"));
        }
        before
    };
    check_code(&spent, client, call)?;
    Ok(state.token_response(&spent.grant, Some(&spent.nonce), false))
}

fn check_code(code: &CodeGrant, client: &Client, call: &Call) -> Result<(), OAuthError> {
    if code.grant.client_id != client.client_id {
        return Err(invalid_grant("the code is another client's"));
    }
    if Instant::now() > code.expires {
        return Err(invalid_grant("the code has expired"));
    }
    if call.form.get("redirect_uri") != Some(code.redirect_uri.as_str()) {
        return Err(invalid_grant("redirect_uri is not that of the authorization request"));
    }
    let verifier = call.form.get("code_verifier").unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    if BASE64URL_NOPAD.encode(digest.as_ref()) != code.code_challenge {
        return Err(invalid_grant("code_verifier does not fit the code_challenge"));
    }
    Ok(())
}

fn refresh(state: &State, client: &Client, call: &Call) -> Result<Value, OAuthError> {
    let (rotates, reuse_revokes, error) = {
        let faults = state.faults.lock();
        (faults.rotate_refresh_tokens, faults.reuse_revokes_family, faults.refresh_error.clone())
    };
    if let Some(error) = error {
        return Err(OAuthError::new(&error, "a fault that was asked for"));
    }
    let token =
        call.form.get("refresh_token").ok_or_else(|| OAuthError::new("invalid_request", "refresh_token is missing"))?;
    let grant = spend_refresh_token(state, client, token, rotates, reuse_revokes)?;
    Ok(state.token_response(&narrowed(grant, call.form.get("scope"))?, None, true))
}

/// Under one lock from the look to the mark: of two who bring the same token, one is the second.
fn spend_refresh_token(
    state: &State,
    client: &Client,
    token: &str,
    rotates: bool,
    reuse_revokes: bool,
) -> Result<Grant, OAuthError> {
    let mut ledger = state.ledger.lock();
    let found = ledger
        .refresh_tokens
        .get_mut(token)
        .filter(|found| found.grant.client_id == client.client_id)
        .ok_or_else(|| invalid_grant("the refresh token is unknown"))?;
    let grant = found.grant.clone();
    if found.rotated {
        if reuse_revokes {
            ledger.revoke_family(&grant.family);
        }
        return Err(invalid_grant("the refresh token was rotated"));
    }
    found.rotated = rotates;
    Ok(grant)
}

/// RFC 6749 6: a refresh may ask for less than was granted, never for more.
fn narrowed(grant: Grant, scope: Option<&str>) -> Result<Grant, OAuthError> {
    let Some(scope) = scope else { return Ok(grant) };
    let granted: Vec<&str> = grant.scope.split(' ').collect();
    if scope.split(' ').any(|wanted| !granted.contains(&wanted)) {
        return Err(OAuthError::new("invalid_scope", "more than was granted"));
    }
    Ok(Grant { scope: scope.to_owned(), ..grant })
}

/// RFC 8693 2.1: another audience for whom the subject's token names.
fn exchange_token(state: &State, client: &Client, call: &Call) -> Result<Value, OAuthError> {
    let is_access = call.form.get("subject_token_type") == Some(ACCESS_TOKEN_TYPE);
    let token = call.form.get("subject_token").filter(|_| is_access);
    let token =
        token.ok_or_else(|| OAuthError::new("invalid_request", "no subject_token of a type that counts here"))?;
    let subject =
        live_access_token(state, token).ok_or_else(|| OAuthError::new("invalid_request", "the token is not good"))?;
    let audience = call.form.get("audience").unwrap_or(&client.client_id);
    Ok(state.exchange_response(&subject.user, audience, &client.client_id, call.form.get("scope").unwrap_or_default()))
}

fn client_with_secret(state: &State, client_id: &str, secret: &str) -> Result<Client, OAuthError> {
    let client = state.client(client_id).ok_or_else(refused)?;
    if client.client_secret.as_deref() == Some(secret) { Ok(client) } else { Err(refused()) }
}

/// RFC 6749 2.3.1: both halves are form-encoded before they are joined.
fn basic_credentials(call: &Call) -> Option<(String, String)> {
    let mut fields = call.headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let joined = String::from_utf8(BASE64.decode(encoded.trim().as_bytes()).ok()?).ok()?;
    let (client_id, secret) = joined.split_once(':')?;
    Some((form_decoded(client_id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    let pair = format!("v={text}");
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn assertion_subject(assertion: &str) -> Option<String> {
    let payload = BASE64URL_NOPAD.decode(assertion.split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

fn invalid_grant(description: &'static str) -> OAuthError {
    OAuthError::new("invalid_grant", description)
}

fn refused() -> OAuthError {
    OAuthError::unauthorized("invalid_client", "unknown client, or wrong credentials", BASIC)
}
