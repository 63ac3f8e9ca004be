//! What the admin listener answers: health, metrics, the status page, the API. It handles requests and responses, not
//! sockets; the listener itself is in `edge`.

pub mod api;
mod chart;
mod pages;
mod sessions;
mod settings;
mod state;
mod status;

use crate::admin::pages::{HTML, JSON, Page, TEXT, not_found, only, problem};
use crate::admin::sessions::SESSIONS;
pub use crate::admin::settings::{AdminToken, HostName, Settings};
pub use crate::admin::state::{Admin, RouteLine, State, StoreNow};
use crate::gate::endpoint::{JWKS, JWKS_KEPT};
use crate::gate::host::Host;
use crate::gate::refusal::REQUEST_ID;
use crate::kit::secret::Secret;
use crate::provider::remote::RemoteProvider;
use crate::session::census::Census;
use crate::store::kv::Unavailable;
use crate::telemetry::decisions;
use crate::telemetry::metrics::Cache;
use crate::telemetry::requester::Requester;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A provider that has never answered keeps the gateway from being ready for at most this long.
const PROVIDER_GRACE: Duration = Duration::from_secs(60);
const DECISIONS: &str = "/api/v1/decisions";
const USUAL_DECISIONS: usize = 100;

/// How long a count of sessions is shown.
const CENSUS_TTL: Duration = Duration::from_secs(10);

impl Admin {
    /// A body of `None` was longer than the listener reads, or could not be read. The client's address is an extension.
    pub async fn respond(&self, request: Request<Option<Vec<u8>>>) -> Response<Vec<u8>> {
        let (head, body) = request.into_parts();
        let requester = self.requester(&head);
        let (status, kind, text) = self.answer(&head, body, &requester).await;
        let (method, body) = (head.method, text);
        let length = body.len();
        let allow = (status == StatusCode::METHOD_NOT_ALLOWED).then(|| HeaderValue::from_str(body.trim_end()).ok());
        let body = if method == Method::HEAD { Vec::new() } else { body.into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if kind == HTML {
            headers.insert(header::CONTENT_SECURITY_POLICY, status::policy());
        }
        headers.extend(HeaderValue::from_str(&requester.request_id).ok().map(|id| (REQUEST_ID, id)));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if status != StatusCode::NO_CONTENT {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 15.5.2: a 401 names the authentication scheme.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"admin\""));
        }
        if let Some(methods) = allow.flatten() {
            headers.insert(header::ALLOW, methods);
        }
        let is_kept = head.uri.path() == JWKS && status == StatusCode::OK;
        let kept = if is_kept { JWKS_KEPT } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn requester(&self, head: &Parts) -> Requester {
        let mut id = [0; 16];
        self.sessions.entropy.fill(&mut id);
        let client = head.extensions.get().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Requester { client, request_id: data_encoding::HEXLOWER.encode(&id) }
    }

    async fn answer(&self, head: &Parts, body: Option<Vec<u8>>, requester: &Requester) -> Page {
        if !is_own_host(&head.headers, &self.state.read().hosts) {
            return (StatusCode::FORBIDDEN, TEXT, "this host is not one of admin.hosts\n".into());
        }
        let path = head.uri.path();
        if path == JWKS {
            return self.jwks(&head.method).await;
        }
        if !path.starts_with("/api/") {
            return self.page(&head.method, path).await;
        }
        let mut fields = head.headers.get_all(header::AUTHORIZATION).iter();
        let authorization = match (fields.next(), fields.next()) {
            (Some(only), None) => Some(only.as_bytes()),
            _ => None,
        };
        if let Some(refused) = self.refused_by_token(authorization) {
            return refused;
        }
        let Some(body) = body else {
            return (StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too long\n".into());
        };
        if path == DECISIONS {
            return self.last_decisions(&head.method, head.uri.query());
        }
        if let Some(rest) = path.strip_prefix(SESSIONS) {
            let realms = self.state.read().realms.clone();
            let all = sessions::All { sessions: &self.sessions, realms: &realms, requester };
            return all.page(&head.method, rest, head.uri.query()).await;
        }
        let routes: Vec<String> = self.state.read().routes.iter().map(|route| route.name.clone()).collect();
        self.api.page(&head.method, path, &body, &routes, requester).await
    }

    async fn page(&self, method: &Method, path: &str) -> Page {
        let read = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/livez" | "/readyz" | "/metrics" | "/" if !read => only("GET, HEAD"),
            "/livez" => (StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => self.ready(),
            "/metrics" => self.measured(),
            "/" => self.status_page(self.ready().0, self.sessions_by_provider().await),
            _ => not_found(),
        }
    }

    /// The last requests that were not forwarded, the newest first.
    fn last_decisions(&self, method: &Method, query: Option<&str>) -> Page {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return only("GET, HEAD");
        }
        let count = match query.map(|query| query.strip_prefix("last=")) {
            None | Some(Some("")) => Some(USUAL_DECISIONS),
            Some(last) => last.and_then(|last| last.parse().ok()).filter(|last| (1..=decisions::MOST).contains(last)),
        };
        match count {
            Some(count) => (StatusCode::OK, JSON, Value::Array(self.access_log.decisions().last(count)).to_string()),
            None => problem(StatusCode::BAD_REQUEST, "the only parameter is `last`, from 1 to 1000"),
        }
    }

    /// The keys that sign assertions, for apps that reach this listener only.
    async fn jwks(&self, method: &Method) -> Page {
        let keys = self.state.read().signing_keys.clone();
        match (keys, method) {
            (None, _) => not_found(),
            (Some(keys), &(Method::GET | Method::HEAD)) => match keys.current().await {
                Ok(keys) => (StatusCode::OK, JSON, keys.jwks.clone()),
                Err(Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store is unavailable\n".into()),
            },
            (Some(_), _) => only("GET, HEAD"),
        }
    }

    /// Without a configured token the API answers 404.
    fn refused_by_token(&self, authorization: Option<&[u8]>) -> Option<Page> {
        match self.state.read().token.get() {
            Some(token) if is_token(authorization, token) => None,
            Some(_) => Some((StatusCode::UNAUTHORIZED, TEXT, "the admin token is needed\n".into())),
            None => Some(not_found()),
        }
    }

    fn awaited<'a>(&self, state: &'a State) -> impl Iterator<Item = &'a Arc<RemoteProvider>> {
        let waits = self.begun.elapsed() < PROVIDER_GRACE;
        state.providers.iter().filter(move |provider| waits && !provider.has_answered())
    }

    /// Whether every provider has answered once, or `PROVIDER_GRACE` is over.
    pub fn waits_for_no_provider(&self) -> bool {
        self.awaited(&self.state.read()).next().is_none()
    }

    fn ready(&self) -> Page {
        let state = self.state.read();
        let draining = self.connections.are_ending();
        let named = |p: &Arc<RemoteProvider>| format!("provider:{}", p.name());
        let store = (self.store)();
        let mut waiting: Vec<String> = self.awaited(&state).map(&named).collect();
        waiting.extend(self.sockets.missing().iter().map(|address| format!("listener:{address}")));
        if !store.answered {
            waiting.insert(0, "store".into());
        }
        if draining || !waiting.is_empty() {
            let body =
                json!({"ready": false, "draining": draining, "waiting_for": waiting, "store_problem": store.problem});
            return (StatusCode::SERVICE_UNAVAILABLE, JSON, body.to_string());
        }
        let mut degraded: Vec<String> = state.providers.iter().filter(|p| !p.is_up()).map(named).collect();
        if !store.up {
            degraded.insert(0, "store".into());
        }
        let told = match store.problem.filter(|_| !store.up) {
            Some(problem) => json!({ "degraded": degraded, "store_problem": problem }),
            None => json!({ "degraded": degraded }),
        };
        (StatusCode::OK, JSON, told.to_string())
    }

    fn measured(&self) -> Page {
        let state = self.state.read();
        if let Some(cache) = &state.verified {
            self.metrics.entries(Cache::verified_tokens, cache.len());
        }
        if let Some(cache) = &state.unknown {
            self.metrics.entries(Cache::unknown_tokens, cache.len());
        }
        self.metrics.entries(Cache::introspection, state.introspections.len());
        self.metrics.entries(Cache::api_keys, self.api.keys.as_ref().map_or(0, |keys| keys.len()));
        self.metrics.entries(Cache::sessions, self.sessions.cached());
        for listener in self.connections.listeners.lock().iter() {
            let (open, in_flight) = listener.in_use();
            self.metrics.listener(&listener.listener, open, in_flight);
        }
        (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics.text())
    }

    /// Whoever asks often is told the same for a while: it costs the store some hundred reads.
    async fn sessions_by_provider(&self) -> Option<Census> {
        let mut last = self.census.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= CENSUS_TTL) {
            *last = Some((Instant::now(), self.sessions.census().await.ok()));
        }
        last.as_ref().and_then(|(_, census)| census.clone())
    }
}

/// Against DNS rebinding: a web page whose host name resolves to this machine must not read these pages. An address, or
/// a name that nobody can register publicly, cannot be such a host name.
fn is_own_host(headers: &HeaderMap, configured: &[HostName]) -> bool {
    const PRIVATE: [&str; 4] = [".svc", ".cluster.local", ".internal", ".localhost"];
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => return true, // browsers always send it
        (Some(only), None) => only.to_str().ok().and_then(|host| Host::parse(host).ok()),
        _ => None,
    };
    let Some(host) = host else { return false };
    let name = host.name();
    name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || PRIVATE.iter().any(|end| name.ends_with(end))
        || configured.iter().any(|own| own.0 == name)
}

/// Compares in constant time for tokens of equal length.
fn is_token(authorization: Option<&[u8]>, token: &Secret) -> bool {
    let sent = authorization
        .and_then(|value| value.split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    sent.is_some_and(|(_, sent)| {
        aws_lc_rs::constant_time::verify_slices_are_equal(sent, token.expose().as_bytes()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_that_no_page_of_the_internet_has() {
        let check = |hosts: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            assert_eq!(is_own_host(&headers, &[HostName("admin.corp.test".into())]), expected, "{hosts:?}");
        };
        for good in [
            "127.0.0.1:9080",
            "[::1]:9080",
            "10.1.2.3",
            "localhost:9080",
            "doorward",
            "doorward:9080",
            "a.localhost",
            "doorward.auth.svc",
            "doorward.auth.svc.cluster.local",
            "ip-10-0-0-1.ec2.internal",
            "ADMIN.corp.test.:1",
        ] {
            check(&[good], true);
        }
        check(&[], true);
        for bad in ["evil.test", "corp.test", "x.admin.corp.test", "127.0.0.1.evil.test", "svc.evil.test", "a b", ""] {
            check(&[bad], false);
        }
        check(&["localhost", "localhost"], false);
    }
}
