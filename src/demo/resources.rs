//! What is asked about a token that exists: introspection (RFC 7662), revocation (RFC 7009), UserInfo (OpenID Connect
//! Core 5.3). It must not issue any.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use super::endpoints::{Call, OAuthError, json_response};
use super::keys::override_members;
use super::state::{AccessGrant, State};
use super::token::authenticated_client;
use super::tokens::unix_now;

const BEARER: &str = "Bearer realm=\"development provider\"";
const BEARER_INVALID: &str = "Bearer realm=\"development provider\", error=\"invalid_token\"";

pub(super) fn introspect(state: &State, call: &Call) -> Result<Response, OAuthError> {
    let client = authenticated_client(state, call)?;
    if client.client_secret.is_none() && call.form.get("client_assertion").is_none() {
        return Err(OAuthError::unauthorized("invalid_client", "introspection is for clients with a secret", BEARER));
    }
    let token = call.form.get("token").ok_or_else(|| OAuthError::new("invalid_request", "token is missing"))?;
    let answer = live_access_token(state, token)
        .map(|access| introspected_access_token(&access))
        .or_else(|| introspected_refresh_token(state, token))
        .unwrap_or_else(|| json!({"active": false}));
    Ok(json_response(StatusCode::OK, &answer))
}

pub(super) fn revoke(state: &State, call: &Call) -> Result<Response, OAuthError> {
    let client = authenticated_client(state, call)?;
    let token = call.form.get("token").ok_or_else(|| OAuthError::new("invalid_request", "token is missing"))?;
    let owned = {
        let ledger = state.ledger.lock();
        let refresh = ledger.refresh_tokens.get(token).map(|refresh| refresh.grant.client_id == client.client_id);
        let access = || ledger.access_tokens.get(token).map(|access| access.belongs_to(&client.client_id));
        refresh.or_else(access)
    };
    // RFC 7009 2.2: an unknown token is what was wanted. 2.1: another client's is refused.
    match owned {
        Some(false) => Err(OAuthError::new("unauthorized_client", "the token is another client's")),
        Some(true) => {
            state.revoke_token(token);
            Ok(StatusCode::OK.into_response())
        }
        None => Ok(StatusCode::OK.into_response()),
    }
}

pub(super) fn userinfo(state: &State, call: &Call) -> Result<Response, OAuthError> {
    let token =
        bearer_token(call).ok_or_else(|| OAuthError::unauthorized("invalid_token", "no bearer token", BEARER))?;
    let access = live_access_token(state, token)
        .ok_or_else(|| OAuthError::unauthorized("invalid_token", "unknown or expired", BEARER_INVALID))?;
    let mut claims = state.user_claims(&access.user);
    override_members(&mut claims, &state.faults.lock().userinfo_claims);
    Ok(json_response(StatusCode::OK, &Value::Object(claims)))
}

impl State {
    /// A refresh token takes all of its login with it, an access token only itself.
    pub(super) fn revoke_token(&self, token: &str) {
        let mut ledger = self.ledger.lock();
        match ledger.refresh_tokens.get(token).map(|refresh| refresh.grant.family.clone()) {
            Some(family) => ledger.revoke_family(&family),
            None => drop(ledger.access_tokens.remove(token)),
        }
    }
}

impl AccessGrant {
    fn belongs_to(&self, client_id: &str) -> bool {
        self.claims.get("client_id").and_then(Value::as_str) == Some(client_id)
    }

    fn is_live(&self) -> bool {
        self.claims.get("exp").and_then(Value::as_i64).is_none_or(|expires| unix_now() < expires)
    }
}

pub(super) fn live_access_token(state: &State, token: &str) -> Option<AccessGrant> {
    state.ledger.lock().access_tokens.get(token).filter(|access| access.is_live()).cloned()
}

fn introspected_access_token(access: &AccessGrant) -> Value {
    let mut answer = Map::from_iter([("active".to_owned(), true.into()), ("token_type".to_owned(), "Bearer".into())]);
    if let Some(username) = access.claims.get("preferred_username") {
        answer.insert("username".to_owned(), username.clone());
    }
    // Last, so that a token issued with an odd `token_type` is told with it.
    answer.extend(access.claims.clone());
    Value::Object(answer)
}

/// An active refresh token is no bearer token; RFC 7662 leaves telling them apart to the resource.
fn introspected_refresh_token(state: &State, token: &str) -> Option<Value> {
    let ledger = state.ledger.lock();
    let refresh = ledger.refresh_tokens.get(token).filter(|refresh| !refresh.rotated)?;
    Some(json!({
        "active": true,
        "token_use": "refresh_token",
        "sub": refresh.grant.user,
        "client_id": refresh.grant.client_id,
        "scope": refresh.grant.scope,
    }))
}

fn bearer_token(call: &Call) -> Option<&str> {
    let (scheme, token) = call.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
