//! Response types of the admin pages, and the status page.

use crate::edge::upstream::Upstreams;
use askama::Template;
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// A status, a media type and a body.
pub(super) type Page = (StatusCode, &'static str, String);

/// A route on the status page.
pub struct RouteLine {
    pub name: String,
    pub from: String,
    pub access: &'static str,
    pub upstreams: Arc<Upstreams>,
}

#[derive(Template)]
#[template(path = "status.html")]
pub(super) struct StatusPage {
    pub(super) version: &'static str,
    pub(super) state: &'static str,
    pub(super) uptime: String,
    pub(super) connections: usize,
    pub(super) in_flight: usize,
    /// Name, issuer, whether it answers, sessions.
    pub(super) providers: Vec<(String, String, bool, String)>,
    pub(super) routes: Vec<RouteRow>,
}

pub(super) struct RouteRow {
    name: String,
    from: String,
    access: &'static str,
    upstreams: Vec<(String, bool)>,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

impl StatusPage {
    pub(super) fn answer(&self) -> Page {
        match self.render() {
            Ok(html) => (StatusCode::OK, "text/html; charset=utf-8", html),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
        }
    }
}

impl RouteLine {
    pub(super) fn row(&self) -> RouteRow {
        RouteRow {
            name: self.name.clone(),
            from: self.from.clone(),
            access: self.access,
            upstreams: self.upstreams.health().map(|(name, healthy)| (name.to_string(), healthy)).collect(),
        }
    }
}

pub(super) fn not_found() -> Page {
    (StatusCode::NOT_FOUND, TEXT, "nothing here\n".into())
}

/// RFC 9110, 15.5.6: a 405 names the methods that are allowed.
pub(super) fn only(methods: &str) -> Page {
    (StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{methods}\n"))
}

pub(super) fn problem(status: StatusCode, problem: &str) -> Page {
    (status, JSON, json!({ "problem": problem }).to_string())
}

pub(super) fn unavailable() -> Page {
    problem(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer")
}

/// RFC 3339, of a time in seconds.
pub(super) fn time(seconds: Option<i64>) -> Option<String> {
    let since = Duration::from_secs(u64::try_from(seconds?).ok()?);
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH.checked_add(since)?).to_string())
}
