//! Response types of the admin pages.

use http::StatusCode;
use serde_json::json;
use std::time::{Duration, UNIX_EPOCH};

/// A status, a media type and a body.
pub(super) type Page = (StatusCode, &'static str, String);

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";

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

/// The day of a time in seconds.
pub(super) fn day(seconds: i64) -> String {
    let mut text = time(Some(seconds)).unwrap_or_default();
    text.truncate(DAY);
    text
}

/// The length of `2026-12-31`.
const DAY: usize = 10;
