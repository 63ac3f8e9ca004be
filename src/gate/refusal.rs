//! The one table from reasons to replies: status, challenge, and a body for people or programs (RFC 9457, RFC 6750).
//! Replies repeat nothing of the request but its id.

mod words;

use crate::gate::branding::Branding;
use crate::gate::decision::Reply;
use crate::login::no_state::NoState;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::reason::Reason;
use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::time::Duration;

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub reason: Reason,
    /// The accepted methods, for a 405.
    pub allow: Option<&'static str>,
    /// When to retry, if known.
    pub retry_after: Option<Duration>,
    /// What was wrong with a login's state.
    pub cause: Option<NoState>,
}

/// The recipient of a refusal.
pub struct Addressee<'a> {
    pub request_id: &'a str,
    /// HTML for a person's browser; otherwise problem JSON.
    pub wants_page: bool,
    /// The route's name, where there is a route.
    pub realm: Option<&'a str>,
    /// The URL of the route's metadata as a protected resource, for a challenge (RFC 9728, 5.1).
    pub metadata: Option<&'a str>,
    /// For an HTML page: texts and URLs of links, the best way on first.
    pub links: Vec<(&'static str, String)>,
    /// For an HTML page: as whom the gateway knows the recipient.
    pub user: Option<&'a str>,
}

/// Renders HTML pages, with a `Content-Security-Policy` that allows only their own style sheet and images in `data:`.
pub struct Html {
    pub(super) policy: HeaderValue,
    pub(super) branding: Branding,
}

pub const REASON: HeaderName = HeaderName::from_static("x-doorward-reason");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) const SIGN_IN: &str = "Sign in again";
/// `Retry-After` when a provider or the store is unavailable.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    branding: &'a Branding,
    status: u16,
    title: &'a str,
    detail: &'a str,
    next: &'a str,
    links: &'a [(&'static str, String)],
    user: Option<&'a str>,
    reason: &'a str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    request_id: &'a str,
}

/// The status for the client, and the outcome for the metrics.
const fn meaning(reason: Reason) -> (StatusCode, Outcome) {
    match reason {
        Reason::LoginRequired
        | Reason::SessionEnded
        | Reason::InvalidToken
        | Reason::UnknownToken
        | Reason::TokenExpired
        | Reason::WrongAudience => (StatusCode::UNAUTHORIZED, Outcome::unauthorized),
        Reason::InsufficientScope | Reason::Forbidden => (StatusCode::FORBIDDEN, Outcome::forbidden),
        Reason::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Outcome::rate_limited),
        Reason::ProviderUnavailable | Reason::StoreUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, Outcome::unavailable)
        }
        Reason::BadRequest | Reason::StateMismatch => (StatusCode::BAD_REQUEST, Outcome::bad_request),
        Reason::LoginFailed => (StatusCode::BAD_REQUEST, Outcome::unauthorized),
        Reason::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, Outcome::upstream_error),
        Reason::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, Outcome::upstream_error),
        Reason::NoRoute => (StatusCode::NOT_FOUND, Outcome::no_route),
    }
}

impl Refusal {
    pub const fn of(reason: Reason) -> Refusal {
        Refusal { status: meaning(reason).0, reason, allow: None, retry_after: None, cause: None }
    }

    /// Too many credentials of this client were refused.
    pub const fn limited(wait: Duration) -> Refusal {
        Refusal { retry_after: Some(wait), ..Refusal::of(Reason::RateLimited) }
    }

    /// Too many concurrent requests.
    pub const fn busy() -> Refusal {
        let soon = Some(Duration::from_secs(1));
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: soon, ..Refusal::of(Reason::RateLimited) }
    }

    /// Reason `bad_request` with a status other than 400.
    pub const fn form(status: StatusCode) -> Refusal {
        Refusal { status, reason: Reason::BadRequest, allow: None, retry_after: None, cause: None }
    }

    pub const fn method_not_allowed(allow: &'static str) -> Refusal {
        Refusal { allow: Some(allow), ..Refusal::form(StatusCode::METHOD_NOT_ALLOWED) }
    }

    pub fn outcome(&self) -> Outcome {
        meaning(self.reason).1
    }

    pub fn reply(&self, html: &Html, to: &Addressee<'_>) -> Reply {
        let mut headers = own_headers(to.request_id);
        headers.push((REASON, HeaderValue::from_static(self.reason.word())));
        headers.extend(self.challenge(to).map(|value| (header::WWW_AUTHENTICATE, value)));
        headers.extend(self.allow.map(|methods| (header::ALLOW, HeaderValue::from_static(methods))));
        let away = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_UNAVAILABLE);
        if let Some(wait) = self.retry_after.or(away) {
            headers.push((header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1))));
        }
        let body = if to.wants_page { self.page(html, to, &mut headers) } else { self.problem(to, &mut headers) };
        Reply { status: self.status, headers, body: body.into() }
    }

    /// RFC 6750, 3. Route names, URLs and our own words need no escaping in a quoted string.
    fn challenge(&self, to: &Addressee<'_>) -> Option<HeaderValue> {
        let error = match self.reason {
            Reason::LoginRequired | Reason::SessionEnded => "",
            Reason::InsufficientScope => ", error=\"insufficient_scope\"",
            _ if self.status == StatusCode::UNAUTHORIZED => ", error=\"invalid_token\"",
            _ => return None,
        };
        let unauthorized = self.status == StatusCode::UNAUTHORIZED;
        let metadata = to.metadata.filter(|_| unauthorized).map(|url| format!(", resource_metadata=\"{url}\""));
        let (realm, metadata) = (to.realm.unwrap_or("-"), metadata.unwrap_or_default());
        let description = match error.is_empty() {
            true => String::new(),
            false => format!(", error_description=\"{}\"", words::of(self).1),
        };
        HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}{description}{metadata}")).ok()
    }

    fn page(&self, html: &Html, to: &Addressee<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) -> Vec<u8> {
        let (title, detail, next) = words::of(self);
        html.dress(headers);
        let status = self.status.as_u16();
        let (links, user, reason, request_id) = (&*to.links, to.user, self.reason.word(), to.request_id);
        let page = Page { branding: &html.branding, status, title, detail, next, links, user, reason, request_id };
        // Rendering these fields cannot fail; an empty page would still have the right status.
        page.render().unwrap_or_default().into_bytes()
    }

    fn problem(&self, to: &Addressee<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) -> Vec<u8> {
        let (title, detail, _) = words::of(self);
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        let problem = Problem {
            r#type: "about:blank",
            title,
            status: self.status.as_u16(),
            detail,
            reason: self.reason.word(),
            request_id: to.request_id,
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }
}

impl Html {
    pub fn new(branding: Branding) -> Self {
        let hash = data_encoding::BASE64.encode(digest(&SHA256, branding.css.as_bytes()).as_ref());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
        );
        // Base64 and plain ASCII: always a valid header value.
        let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Html { policy, branding }
    }
}

/// The headers of every response made by the gateway itself.
pub fn own_headers(request_id: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    headers.extend(HeaderValue::from_str(request_id).ok().map(|id| (REQUEST_ID, id)));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(reason: Reason, wants_page: bool) -> (Reply, String) {
        let to = Addressee {
            request_id: "r-1",
            wants_page,
            realm: Some("main"),
            metadata: None,
            links: Vec::new(),
            user: None,
        };
        let reply = Refusal::of(reason).reply(&Html::new(Branding::default()), &to);
        let body = String::from_utf8(reply.body.to_vec()).unwrap();
        (reply, body)
    }

    fn header(reply: &Reply, name: &str) -> Option<String> {
        reply.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap().to_string())
    }

    #[test]
    fn a_program_gets_problem_json() {
        let (told, body) = reply(Reason::TokenExpired, false);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (body["status"].as_u64(), body["reason"].as_str(), body["request_id"].as_str()),
            (Some(401), Some("token_expired"), Some("r-1"))
        );
        assert_eq!(
            header(&told, "www-authenticate").as_deref(),
            Some(
                "Bearer realm=\"main\", error=\"invalid_token\", \
                error_description=\"The bearer token was good once; its time is over.\""
            )
        );
        assert_eq!(header(&told, "cache-control").as_deref(), Some("no-store"));
        assert_eq!(
            header(&reply(Reason::LoginRequired, false).0, "www-authenticate").as_deref(),
            Some("Bearer realm=\"main\"")
        );
        assert_eq!(
            header(&reply(Reason::InsufficientScope, false).0, "www-authenticate").as_deref(),
            Some(
                "Bearer realm=\"main\", error=\"insufficient_scope\", \
                error_description=\"The token is good, but lacks a scope that this address needs.\""
            )
        );
        assert_eq!(header(&reply(Reason::Forbidden, false).0, "www-authenticate"), None);
        assert_eq!(header(&reply(Reason::ProviderUnavailable, false).0, "retry-after").as_deref(), Some("5"));
    }

    #[test]
    fn a_person_gets_a_page_without_scripts() {
        let (told, body) = reply(Reason::Forbidden, true);
        assert!(body.contains("<h1>No access</h1>") && body.contains("r-1") && !body.contains("<script"));
        let policy = header(&told, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"));
    }
}
