//! The provider's front: which endpoint a request is for, what may not come in at all, the faults, and the two
//! documents that need no caller (discovery and keys). It must not know what the other endpoints decide.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::faults::{Endpoint, Faults};
use super::keys::{SigningAlgorithm, override_members};
use super::state::State;
use super::{authorize, logout, resources, token};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const MAX_BODY: usize = 64 * 1024;
/// The size of the answer that is too large: 100 chunks of 1 MiB.
const HUGE_CHUNK: usize = 1024 * 1024;
const HUGE_CHUNKS: usize = 100;

/// A request, read and taken apart.
pub(super) struct Call {
    pub(super) headers: HeaderMap,
    pub(super) query: Params,
    pub(super) form: Params,
}

#[derive(Default)]
pub(super) struct Params(Vec<(String, String)>);

/// An error response of OAuth (RFC 6749 5.2).
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) description: &'static str,
    /// The value of `WWW-Authenticate`, on a 401.
    pub(super) challenge: Option<&'static str>,
}

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new().fallback(serve).with_state(state)
}

impl Params {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// A parameter without a value counts as absent (RFC 6749 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// As in a query.
    pub(super) fn encoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    fn repeats(&self) -> bool {
        self.0.iter().enumerate().any(|(at, (name, _))| self.0.iter().skip(at + 1).any(|(other, _)| other == name))
    }
}

impl OAuthError {
    pub(super) fn new(error: &str, description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.to_owned(), description, challenge: None }
    }

    pub(super) fn unauthorized(error: &str, description: &'static str, challenge: &'static str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, error: error.to_owned(), description, challenge: Some(challenge) }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = json_response(self.status, &body);
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static(challenge));
        }
        response
    }
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.to_string()).into_response()
}

async fn serve(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    if !host_is_loopback(request.headers(), state.port) {
        // Another name that resolves to this machine: a foreign page reading what is meant for the person here.
        return (StatusCode::MISDIRECTED_REQUEST, "this provider answers on loopback names only\n").into_response();
    }
    let Some((endpoint, methods)) = endpoint_at(request.uri().path()) else {
        return (StatusCode::NOT_FOUND, "no such endpoint; see /.well-known/openid-configuration\n").into_response();
    };
    if !methods.contains(request.method()) {
        let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, allow)]).into_response();
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let form = if is_form(&parts.headers) { Params::parse(&body) } else { Params::default() };
    let params = query.0.iter().chain(&form.0).cloned().collect();
    state.calls.lock().add(endpoint, params);
    respond(&state, endpoint, Call { headers: parts.headers, query, form }).await
}

async fn respond(state: &State, endpoint: Endpoint, call: Call) -> Response {
    let faults = state.faults.lock().clone();
    pause(faults.delay.get(&endpoint)).await;
    if let Some(response) = faulty_response(&faults, endpoint).await {
        return response;
    }
    let response = if call.query.repeats() || call.form.repeats() {
        OAuthError::new("invalid_request", "a parameter stands twice").into_response()
    } else {
        work(state, endpoint, &call).await
    };
    pause(faults.reply_delay.get(&endpoint)).await;
    response
}

async fn work(state: &State, endpoint: Endpoint, call: &Call) -> Response {
    match endpoint {
        Endpoint::Discovery => json_response(StatusCode::OK, &discovery(state)),
        Endpoint::Jwks => json_response(StatusCode::OK, &jwks(state)),
        Endpoint::Authorize => authorize::authorize(state, call),
        Endpoint::Login => authorize::login(state, call),
        Endpoint::Token => token::token(state, call).into_response(),
        Endpoint::Introspect => resources::introspect(state, call).into_response(),
        Endpoint::Revoke => resources::revoke(state, call).into_response(),
        Endpoint::UserInfo => resources::userinfo(state, call).into_response(),
        Endpoint::EndSession => logout::end_session(state, call).await,
    }
}

async fn pause(duration: Option<&Duration>) {
    if let Some(duration) = duration {
        tokio::time::sleep(*duration).await;
    }
}

async fn faulty_response(faults: &Faults, endpoint: Endpoint) -> Option<Response> {
    if faults.hang.contains(&endpoint) {
        std::future::pending::<()>().await;
    }
    if let Some(status) = faults.status.get(&endpoint) {
        return Some(StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response());
    }
    if let Some((status, kind, body)) = faults.reply.get(&endpoint) {
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Some((status, [(CONTENT_TYPE, *kind)], body.clone()).into_response());
    }
    if faults.huge.contains(&endpoint) {
        // Valid JSON as far as anybody reads; without a length, so that only counting shows how much it is.
        let start = stream::iter([Bytes::from_static(br#"{"padding":""#)]);
        let padding = stream::iter(std::iter::repeat_n(Bytes::from(vec![b'a'; HUGE_CHUNK]), HUGE_CHUNKS));
        let body = Body::from_stream(start.chain(padding).map(Ok::<_, std::convert::Infallible>));
        return Some(([(CONTENT_TYPE, "application/json")], body).into_response());
    }
    if faults.malformed.contains(&endpoint) {
        return Some(([(CONTENT_TYPE, "application/json")], r#"{"malformed": tru"#).into_response());
    }
    None
}

/// OpenID Connect Discovery 1.0, section 3.
fn discovery(state: &State) -> Value {
    let issuer = &state.issuer;
    let algorithms = SigningAlgorithm::ALL.map(SigningAlgorithm::name);
    let client_authentication = ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"];
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "end_session_endpoint": format!("{issuer}/end_session"),
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", EXCHANGE],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
        "token_endpoint_auth_methods_supported": client_authentication,
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login"],
        "claims_supported": ["sub", "name", "preferred_username", "email", "email_verified", "groups"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    });
    if let Some(members) = document.as_object_mut() {
        override_members(members, &state.faults.lock().discovery);
    }
    document
}

fn jwks(state: &State) -> Value {
    let mut keys = state.keys.read().public_jwks();
    keys.extend(state.extra_jwks.lock().iter().cloned());
    json!({ "keys": keys })
}

fn endpoint_at(path: &str) -> Option<(Endpoint, &'static [Method])> {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    const BOTH: &[Method] = &[Method::GET, Method::POST];
    Some(match path {
        "/.well-known/openid-configuration" => (Endpoint::Discovery, GET),
        "/jwks" => (Endpoint::Jwks, GET),
        "/authorize" => (Endpoint::Authorize, GET),
        "/login" => (Endpoint::Login, POST),
        "/token" => (Endpoint::Token, POST),
        "/introspect" => (Endpoint::Introspect, POST),
        "/revoke" => (Endpoint::Revoke, POST),
        "/userinfo" => (Endpoint::UserInfo, BOTH),
        "/end_session" => (Endpoint::EndSession, BOTH),
        _ => return None,
    })
}

/// Host must name this machine itself, with the provider's own port.
fn host_is_loopback(headers: &HeaderMap, port: u16) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let name = host.to_str().ok().and_then(|host| host.strip_suffix(&format!(":{port}")));
    matches!(name, Some("127.0.0.1" | "localhost" | "[::1]"))
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
