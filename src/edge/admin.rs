//! The admin listener: is it alive, is it ready, what does it measure, what does it run. Never on the public ones.

use crate::bearer::verified::VerifiedTokens;
use crate::edge::listen::Traffic;
use crate::kit::secret::Secret;
use crate::provider::remote::RemoteProvider;
use crate::session::vault::Sessions;
use crate::watch::metrics::{Cache, Metrics};
use askama::Template;
use http::{HeaderValue, Method, Response, StatusCode, header};
use parking_lot::RwLock;
use pingora_core::protocols::http::ServerSession;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// `admin` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    /// None: the API is not there.
    pub token: Option<Secret>,
}

/// What the pages tell of.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub traffic: Arc<Traffic>,
    pub sessions: Arc<Sessions>,
    pub store: Box<dyn Fn() -> StoreNow + Send + Sync>,
    pub begun: Instant,
    /// What a reload changes.
    pub state: RwLock<State>,
}

/// What is known of the store.
pub struct StoreNow {
    /// Once since the start.
    pub answered: bool,
    pub up: bool,
    /// What went wrong last.
    pub problem: Option<String>,
}

pub struct State {
    pub verified: Option<Arc<VerifiedTokens>>,
    pub token: Option<Secret>,
    pub providers: Vec<Arc<RemoteProvider>>,
    pub routes: Vec<RouteLine>,
}

/// A route on the status page.
pub struct RouteLine {
    pub name: String,
    pub from: String,
    pub access: &'static str,
    pub upstreams: Arc<crate::edge::upstream::Upstreams>,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    version: &'static str,
    state: &'static str,
    uptime: String,
    connections: usize,
    in_flight: usize,
    providers: Vec<(String, String, bool)>,
    routes: Vec<RouteRow>,
}

struct RouteRow {
    name: String,
    from: String,
    access: &'static str,
    upstreams: Vec<(String, bool)>,
}

/// A provider that has never answered keeps the gateway from being ready for at most this long.
const PROVIDER_GRACE: Duration = Duration::from_secs(60);
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Page = (StatusCode, &'static str, String);

impl Admin {
    pub(super) fn respond(&self, session: &ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let mut fields = head.headers.get_all(header::AUTHORIZATION).iter();
        let authorization = match (fields.next(), fields.next()) {
            (Some(only), None) => Some(only.as_bytes()),
            _ => None,
        };
        let path =
            head.raw_path().split(|b| *b == b'?').next().and_then(|p| std::str::from_utf8(p).ok()).unwrap_or_default();
        let (status, kind, body) = self.page(&head.method, path, authorization);
        let length = body.len();
        let body = if head.method == Method::HEAD { Vec::new() } else { body.into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn page(&self, method: &Method, path: &str, authorization: Option<&[u8]>) -> Page {
        let read = matches!(*method, Method::GET | Method::HEAD);
        match path {
            _ if path.starts_with("/api/") => self.api(authorization),
            "/livez" | "/readyz" | "/metrics" | "/" if !read => {
                (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n".into())
            }
            "/livez" => (StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => self.ready(),
            "/metrics" => self.measured(),
            "/" => self.status(),
            _ => not_found(),
        }
    }

    /// No API is built; without its token nobody learns that.
    fn api(&self, authorization: Option<&[u8]>) -> Page {
        match &self.state.read().token {
            Some(token) if !is_token(authorization, token) => {
                (StatusCode::UNAUTHORIZED, TEXT, "the admin token is needed\n".into())
            }
            _ => not_found(),
        }
    }

    fn ready(&self) -> Page {
        let state = self.state.read();
        let draining = self.traffic.draining.load(Ordering::Relaxed);
        let waits = self.begun.elapsed() < PROVIDER_GRACE;
        let named = |p: &Arc<RemoteProvider>| format!("provider:{}", p.name());
        let store = (self.store)();
        let mut waiting: Vec<String> =
            state.providers.iter().filter(|p| waits && !p.has_answered()).map(named).collect();
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
        (StatusCode::OK, JSON, json!({ "degraded": degraded, "store_problem": store.problem }).to_string())
    }

    fn measured(&self) -> Page {
        if let Some(cache) = &self.state.read().verified {
            self.metrics.entries(Cache::verified_tokens, cache.len());
        }
        self.metrics.entries(Cache::sessions, self.sessions.copies());
        (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics.text())
    }

    fn status(&self) -> Page {
        let (ready, _, _) = self.ready();
        let state = self.state.read();
        let page = StatusPage {
            version: env!("CARGO_PKG_VERSION"),
            state: match (self.traffic.draining.load(Ordering::Relaxed), ready) {
                (true, _) => "draining",
                (false, StatusCode::OK) => "ready",
                _ => "starting",
            },
            uptime: humantime::format_duration(Duration::from_secs(self.begun.elapsed().as_secs())).to_string(),
            connections: self.traffic.connections(),
            in_flight: self.traffic.in_flight.load(Ordering::Relaxed),
            providers: state
                .providers
                .iter()
                .map(|p| (p.name().to_string(), p.issuer().to_string(), p.is_up()))
                .collect(),
            routes: state.routes.iter().map(RouteRow::of).collect(),
        };
        match page.render() {
            Ok(html) => (StatusCode::OK, "text/html; charset=utf-8", html),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
        }
    }
}

impl RouteRow {
    fn of(line: &RouteLine) -> Self {
        RouteRow {
            name: line.name.clone(),
            from: line.from.clone(),
            access: line.access,
            upstreams: line.upstreams.health().map(|(name, healthy)| (name.to_string(), healthy)).collect(),
        }
    }
}

fn not_found() -> Page {
    (StatusCode::NOT_FOUND, TEXT, "nothing here\n".into())
}

/// In constant time for tokens of one length.
fn is_token(authorization: Option<&[u8]>, token: &Secret) -> bool {
    let sent = authorization
        .and_then(|value| value.split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    sent.is_some_and(|(_, sent)| {
        aws_lc_rs::constant_time::verify_slices_are_equal(sent, token.expose().as_bytes()).is_ok()
    })
}
