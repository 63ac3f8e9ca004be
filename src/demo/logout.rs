//! The end of a session at the provider: asked for by a relying party's page (RP-Initiated Logout 1.0) or by the
//! handle, and told to the clients (Back-Channel Logout 1.0). It must not know how sessions began.

use std::time::Duration;

use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use url::Url;

use super::authorize::{SESSION_COOKIE, browser_session};
use super::endpoints::Call;
use super::pages;
use super::state::{BrowserSession, Client, State};
use super::tokens::IssueOptions;

/// A client that does not answer must not keep the person waiting.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client answered to its logout token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutDelivery {
    pub client_id: String,
    pub uri: String,
    /// None: no answer.
    pub status: Option<u16>,
}

/// Ends the session that the ID token names, else the browser's own, without asking the person once more: this is a
/// development provider. Answers when the clients have been told.
pub(super) async fn end_session(state: &State, call: &Call) -> Response {
    let param = |name| call.query.get(name).or_else(|| call.form.get(name));
    let hint = param("id_token_hint").and_then(|hint| state.ledger.lock().id_tokens.get(hint).cloned());
    let client_id = hint.as_ref().map(|hint| hint.client_id.as_str()).or(param("client_id"));
    let next = match param("post_logout_redirect_uri") {
        Some(uri) => match registered_return(state, client_id, uri, param("state")) {
            Some(next) => Some(next),
            None => return pages::refusal(StatusCode::BAD_REQUEST, "The post_logout_redirect_uri is not registered."),
        },
        None => None,
    };
    let sid = hint.map(|hint| hint.sid).or_else(|| browser_session(state, &call.headers).map(|(_, own)| own.sid));
    if let Some(sid) = sid {
        let tokens = state.faults.lock().logout_revokes_tokens;
        let ended = state.ledger.lock().end_sessions(|session| session.sid == sid, tokens);
        for session in ended {
            tell_clients(state, &session).await;
        }
    }
    let mut response = next.map_or_else(pages::signed_out, |next| Redirect::to(next.as_str()).into_response());
    let gone = format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    if let Ok(value) = HeaderValue::try_from(gone) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

/// Ends all of a user's sessions and tells every client that wants to hear, with a logout token that names no `sid`.
pub(super) async fn backchannel_logout(state: &State, user: &str) -> Vec<LogoutDelivery> {
    let tokens = state.faults.lock().logout_revokes_tokens;
    state.ledger.lock().end_sessions(|session| session.user == user, tokens);
    let clients = state.clients.lock().clone();
    let mut deliveries = Vec::new();
    for client in clients {
        deliveries.extend(deliver(state, &client, user, None).await);
    }
    deliveries
}

async fn tell_clients(state: &State, session: &BrowserSession) {
    for client_id in &session.client_ids {
        if let Some(client) = state.client(client_id) {
            deliver(state, &client, &session.user, Some(&session.sid)).await;
        }
    }
}

async fn deliver(state: &State, client: &Client, user: &str, sid: Option<&str>) -> Option<LogoutDelivery> {
    let uri = client.backchannel_logout_uri.clone()?;
    let options = IssueOptions { audience: client.client_id.clone().into(), ..IssueOptions::default() };
    let claims = state.user_claims(user);
    let token = state.logout_token(claims.get("sub").and_then(|sub| sub.as_str()), sid, &options);
    let status = post(&uri, &token).await.ok();
    Some(LogoutDelivery { client_id: client.client_id.clone(), uri, status })
}

/// Logout tokens go to loopback or to a test's own listener over plain HTTP: no certificate is trusted.
async fn post(uri: &str, logout_token: &str) -> reqwest::Result<u16> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DELIVERY_TIMEOUT)
        .build()?;
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", logout_token).finish();
    let request = client.post(uri).header("content-type", "application/x-www-form-urlencoded").body(form);
    Ok(request.send().await?.status().as_u16())
}

fn registered_return(state: &State, client_id: Option<&str>, uri: &str, token: Option<&str>) -> Option<Url> {
    let client = state.client(client_id?)?;
    let registered = client.post_logout_redirect_uris.iter().any(|registered| registered == uri);
    let mut url = Url::parse(uri).ok().filter(|_| registered)?;
    if let Some(token) = token {
        url.query_pairs_mut().append_pair("state", token);
    }
    Some(url)
}
