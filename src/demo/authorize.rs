//! The authorization endpoint and its login form (OpenID Connect Core 3.1.2, RFC 7636, RFC 9207): from a request to a
//! code, by way of a person. It is strict where a client should be good: PKCE, state and nonce are required. It must
//! not know how a code is exchanged.

use std::time::Duration;

use axum::response::{IntoResponse, Redirect, Response};
use http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;

use super::endpoints::{Call, Params};
use super::keys::{override_members, random_hex};
use super::pages;
use super::state::{BrowserSession, CodeGrant, Grant, State};
use super::tokens::unix_now;

pub(super) const SESSION_COOKIE: &str = "demo_provider";
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// The length of a SHA-256 in base64url.
const CHALLENGE_LENGTH: usize = 43;

/// A request that may be granted once somebody is signed in.
struct AuthorizationRequest {
    target: Box<Target>,
    client_id: String,
    redirect_uri: String,
    scope: String,
    nonce: String,
    code_challenge: String,
    prompt: Prompt,
    /// Seconds since the person last typed a password.
    max_age: Option<i64>,
    login_hint: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prompt {
    Unless,
    Never,
    Always,
}

/// Where the response goes, once client and redirect URI are known to belong together.
struct Target {
    redirect_uri: Url,
    state: String,
    form_post: bool,
}

enum Refusal {
    /// Nobody to send the browser back to: told to the person.
    Untrusted(&'static str),
    /// Target, error, description.
    Sent(Box<Target>, &'static str, &'static str),
}

pub(super) fn authorize(state: &State, call: &Call) -> Response {
    let request = match AuthorizationRequest::read(state, &call.query) {
        Ok(request) => request,
        Err(refusal) => return refusal.into_response(state),
    };
    match browser_session(state, &call.headers).filter(|(_, session)| request.is_met_by(session)) {
        Some((cookie, _)) => grant_code(state, &request, &cookie),
        None if request.prompt == Prompt::Never => {
            request.target.error(state, "login_required", "nobody is signed in at the provider")
        }
        None => login_page(state, StatusCode::OK, &call.query, &request.login_hint, None),
    }
}

/// The form's fields: `request` (the authorization request's parameters, as in a query), `username`, `password`.
pub(super) fn login(state: &State, call: &Call) -> Response {
    if !origin_is_own(&call.headers) {
        return pages::refusal(StatusCode::FORBIDDEN, "The form was sent from another site.");
    }
    let query = Params::parse(call.form.get("request").unwrap_or_default().as_bytes());
    let request = match AuthorizationRequest::read(state, &query) {
        Ok(request) => request,
        Err(refusal) => return refusal.into_response(state),
    };
    let username = call.form.get("username").unwrap_or_default();
    if !state.password_is_right(username, call.form.get("password").unwrap_or_default()) {
        let error = Some("This user name and password do not belong together.");
        return login_page(state, StatusCode::FORBIDDEN, &query, username, error);
    }
    let cookie = state.open_session(username);
    let mut response = grant_code(state, &request, &cookie);
    let field = format!("{SESSION_COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax");
    if let Ok(value) = HeaderValue::try_from(field) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

/// The browser's cookie and what it stands for.
pub(super) fn browser_session(state: &State, headers: &HeaderMap) -> Option<(String, BrowserSession)> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let ledger = state.ledger.lock();
    let mut known = pairs
        .filter(|(name, _)| *name == SESSION_COOKIE)
        .filter_map(|(_, value)| ledger.sessions.get(value).map(|session| (value.to_owned(), session.clone())));
    known.next()
}

impl State {
    /// The value of the cookie that carries the new session.
    pub(super) fn open_session(&self, user: &str) -> String {
        let cookie = random_hex::<24>();
        let session = BrowserSession {
            user: user.to_owned(),
            sid: random_hex::<12>(),
            auth_time: unix_now(),
            client_ids: Vec::new(),
        };
        self.ledger.lock().sessions.insert(cookie.clone(), session);
        cookie
    }
}

impl AuthorizationRequest {
    fn read(state: &State, params: &Params) -> Result<Self, Refusal> {
        let target = Box::new(Target::read(state, params)?);
        if params.get("response_type") != Some("code") {
            return Err(Refusal::Sent(target, "unsupported_response_type", "only code"));
        }
        let Some(client_id) = params.get("client_id") else { return Err(Refusal::Untrusted("No client_id.")) };
        let scope = params.get("scope").unwrap_or_default();
        if !scope.split(' ').any(|word| word == "openid") {
            return Err(Refusal::Sent(target, "invalid_scope", "openid is missing"));
        }
        if params.get("request").is_some() || params.get("request_uri").is_some() {
            return Err(Refusal::Sent(target, "request_not_supported", "no request objects here"));
        }
        let challenge = params.get("code_challenge").unwrap_or_default();
        if params.get("code_challenge_method") != Some("S256") || challenge.len() != CHALLENGE_LENGTH {
            return Err(Refusal::Sent(target, "invalid_request", "PKCE with S256 is required"));
        }
        let nonce = params.get("nonce").unwrap_or_default();
        if nonce.is_empty() || target.state.is_empty() {
            return Err(Refusal::Sent(target, "invalid_request", "state and nonce are required"));
        }
        let prompts: Vec<&str> = params.get("prompt").unwrap_or_default().split(' ').collect();
        let prompt = match (prompts.contains(&"none"), prompts.len()) {
            (true, 1) => Prompt::Never,
            (true, _) => return Err(Refusal::Sent(target, "invalid_request", "prompt=none stands alone")),
            (false, _) if prompts.contains(&"login") => Prompt::Always,
            (false, _) => Prompt::Unless,
        };
        Ok(Self {
            target,
            client_id: client_id.to_owned(),
            redirect_uri: params.get("redirect_uri").unwrap_or_default().to_owned(),
            scope: scope.to_owned(),
            nonce: nonce.to_owned(),
            code_challenge: challenge.to_owned(),
            prompt,
            max_age: params.get("max_age").and_then(|seconds| seconds.parse().ok()),
            login_hint: params.get("login_hint").unwrap_or_default().to_owned(),
        })
    }

    fn is_met_by(&self, session: &BrowserSession) -> bool {
        let age = unix_now().saturating_sub(session.auth_time);
        self.prompt != Prompt::Always && self.max_age.is_none_or(|max_age| age <= max_age)
    }
}

impl Target {
    fn read(state: &State, params: &Params) -> Result<Self, Refusal> {
        let client = params
            .get("client_id")
            .and_then(|client_id| state.client(client_id))
            .ok_or(Refusal::Untrusted("No client with this client_id is registered."))?;
        let redirect_uri = params
            .get("redirect_uri")
            .filter(|wanted| client.redirect_uris.iter().any(|registered| registered == wanted))
            .and_then(|uri| Url::parse(uri).ok())
            .ok_or(Refusal::Untrusted("The redirect_uri is not registered for this client."))?;
        let form_post = match params.get("response_mode") {
            None | Some("query") => false,
            Some("form_post") => true,
            Some(_) => return Err(Refusal::Untrusted("The response_mode must be query or form_post.")),
        };
        Ok(Self { redirect_uri, state: params.get("state").unwrap_or_default().to_owned(), form_post })
    }

    fn error(&self, state: &State, error: &str, description: &str) -> Response {
        self.response(state, &[("error", error), ("error_description", description)])
    }

    fn response(&self, state: &State, params: &[(&str, &str)]) -> Response {
        let mut members: Map<String, Value> = params
            .iter()
            .copied()
            .chain([("state", self.state.as_str()), ("iss", state.issuer.as_str())])
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        override_members(&mut members, &state.faults.lock().authorization_response);
        let pairs = members.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        if self.form_post {
            return pages::form_post(self.redirect_uri.as_str(), pairs);
        }
        let mut uri = self.redirect_uri.clone();
        uri.query_pairs_mut().extend_pairs(pairs);
        // 303: a password that came by POST must not be sent on (RFC 9700 4.12).
        Redirect::to(uri.as_str()).into_response()
    }
}

impl Refusal {
    fn into_response(self, state: &State) -> Response {
        match self {
            Self::Untrusted(reason) => pages::refusal(StatusCode::BAD_REQUEST, reason),
            Self::Sent(target, error, description) => target.error(state, error, description),
        }
    }
}

fn grant_code(state: &State, request: &AuthorizationRequest, cookie: &str) -> Response {
    let code = random_hex::<24>();
    {
        let mut ledger = state.ledger.lock();
        let Some(session) = ledger.sessions.get_mut(cookie) else {
            // Ended between the look and now, by a logout beside this request.
            drop(ledger);
            return request.target.error(state, "login_required", "the session has just ended");
        };
        if !session.client_ids.contains(&request.client_id) {
            session.client_ids.push(request.client_id.clone());
        }
        let grant = Grant {
            client_id: request.client_id.clone(),
            user: session.user.clone(),
            scope: request.scope.clone(),
            sid: session.sid.clone(),
            auth_time: session.auth_time,
            family: random_hex::<12>(),
        };
        let grant = CodeGrant {
            grant,
            redirect_uri: request.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            expires: Instant::now() + CODE_LIFETIME,
            spent: false,
        };
        ledger.codes.insert(code.clone(), grant);
    }
    request.target.response(state, &[("code", &code)])
}

fn login_page(state: &State, status: StatusCode, query: &Params, username: &str, error: Option<&str>) -> Response {
    let names: Vec<String> = state.users.lock().iter().map(|user| user.name.clone()).collect();
    pages::login(status, &query.encoded(), username, &names, error)
}

/// A browser says where a form stood; programs say nothing.
fn origin_is_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    origin.to_str().is_ok_and(|origin| origin == format!("http://{host}"))
}
