//! The one table from reasons to replies: status, challenge, and a body for people or programs (RFC 9457, RFC 6750).
//! Replies repeat nothing of the request but its id.

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

    /// RFC 6750, 3. Route names and URLs need no escaping in a quoted string.
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
        HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}{metadata}")).ok()
    }

    fn page(&self, html: &Html, to: &Addressee<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) -> Vec<u8> {
        let (title, detail, next) = words(self);
        html.dress(headers);
        let status = self.status.as_u16();
        let (links, user, reason, request_id) = (&*to.links, to.user, self.reason.word(), to.request_id);
        let page = Page { branding: &html.branding, status, title, detail, next, links, user, reason, request_id };
        // Rendering these fields cannot fail; an empty page would still have the right status.
        page.render().unwrap_or_default().into_bytes()
    }

    fn problem(&self, to: &Addressee<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) -> Vec<u8> {
        let (title, detail, _) = words(self);
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

type Words = (&'static str, &'static str, &'static str);

fn words(refusal: &Refusal) -> Words {
    match refusal.reason {
        Reason::BadRequest => of_form(refusal.status),
        Reason::LoginFailed => of_login(refusal.status),
        Reason::StateMismatch => of_state(refusal.cause),
        Reason::RateLimited if refusal.status == StatusCode::SERVICE_UNAVAILABLE => {
            ("Too many requests at once", "As many requests as may be are being served.", "Try again in a moment.")
        }
        reason => of_credential(reason).unwrap_or_else(|| of_service(reason)),
    }
}

fn of_form(status: StatusCode) -> Words {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("Method not allowed", "This address does not know the method of the request.", "")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("Request too large", "The body of the request is larger than this address reads.", "")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "Request head too large",
            "The head of the request is larger than is read here.",
            "Clearing the cookies of this site may help.",
        ),
        StatusCode::FORBIDDEN => (
            "Not allowed",
            "The request does not come from where it must, or a question of a proxy does not say which request it is about.",
            "",
        ),
        _ => ("Bad request", "The request can be read in more than one way, or not at all.", "Check the address."),
    }
}

fn of_state(cause: Option<NoState>) -> Words {
    const TITLE: &str = "Sign-in not recognised";
    match cause {
        Some(NoState::NoCookie) => (
            TITLE,
            "The cookie of this sign-in did not come back: it is blocked in this browser, or the sign-in was begun under another address.",
            "Allow cookies for this site, and begin again at its own address.",
        ),
        Some(NoState::OtherSecret) => (
            TITLE,
            "This sign-in was begun with another key of the service than the one that is in use now.",
            "Sign in again. If it stays so, tell the people who run this service: its replicas may differ in their secret.",
        ),
        Some(NoState::TooLate) => (TITLE, "This sign-in took longer than 15 minutes.", "Sign in again."),
        Some(NoState::Used) => (TITLE, "This answer to a sign-in was used before.", "Sign in again."),
        Some(NoState::SessionNotKept) => (
            "Sign-in does not last",
            "You were signed in three times in a row, and this browser did not send the cookie of your session back.",
            "Allow cookies for this site, wait half a minute, and sign in again.",
        ),
        Some(NoState::SessionUnknown) => (
            "Sign-in does not last",
            "You were signed in three times in a row, and each time this service did not find your session again.",
            "Wait half a minute, and sign in again. If it stays so, tell the people who run this service: its replicas may not share their sessions.",
        ),
        Some(NoState::Absent) | None => {
            (TITLE, "This answer to a sign-in does not belong to one that was begun in this browser.", "Sign in again.")
        }
    }
}

fn of_login(status: StatusCode) -> Words {
    match status {
        StatusCode::FORBIDDEN => (
            "Sign-in declined",
            "The identity provider did not let you in, or the sign-in was cancelled.",
            "If you should have access, ask the people who run this service.",
        ),
        StatusCode::BAD_REQUEST => (
            "Sign-in failed",
            "The identity provider did not accept the answer to this sign-in; it may have taken too long.",
            "",
        ),
        _ => (
            "Sign-in failed",
            "The identity provider answered in a way that cannot be trusted.",
            "If it stays so, tell the people who run this service and name the request below.",
        ),
    }
}

fn of_credential(reason: Reason) -> Option<Words> {
    const NEW_TOKEN: &str = "Get a new token from your identity provider.";
    Some(match reason {
        Reason::LoginRequired => (
            "Sign-in required",
            "This address needs a credential, and the request had none that counts here.",
            "Sign in, or send a bearer token.",
        ),
        Reason::SessionEnded => (
            "Session ended",
            "You were signed in here; that session is over.",
            "Sign in again, or send a bearer token.",
        ),
        Reason::InvalidToken => ("Token not accepted", "The bearer token is not valid here.", NEW_TOKEN),
        Reason::UnknownToken => ("Token not known", "Nobody vouches for this bearer token.", NEW_TOKEN),
        Reason::TokenExpired => ("Token expired", "The bearer token was good once; its time is over.", NEW_TOKEN),
        Reason::WrongAudience => (
            "Token for another service",
            "The bearer token was made for another audience.",
            "Ask your identity provider for a token for this service.",
        ),
        Reason::InsufficientScope => (
            "Scope missing",
            "The token is good, but lacks a scope that this address needs.",
            "Ask for a token with more scopes.",
        ),
        Reason::Forbidden => (
            "No access",
            "You are known here, but this address is not open to you.",
            "If you need access, ask the people who run this service and name the request below.",
        ),
        Reason::RateLimited => (
            "Too many refused credentials",
            "Too many credentials from this network address were refused.",
            "Wait a moment, then try again with a good one.",
        ),
        _ => return None,
    })
}

fn of_service(reason: Reason) -> Words {
    const IN_A_MOMENT: &str = "Try again in a moment.";
    match reason {
        Reason::ProviderUnavailable => (
            "Identity provider unavailable",
            "Your credential cannot be checked right now, because the identity provider does not answer.",
            "Nothing is wrong with it. Try again in a moment.",
        ),
        Reason::StoreUnavailable => (
            "Sessions unavailable",
            "Your session cannot be looked up right now, because the session store does not answer.",
            "You are still signed in. Try again in a moment.",
        ),
        Reason::UpstreamUnreachable => {
            ("Service not reachable", "The service behind this address does not answer.", IN_A_MOMENT)
        }
        Reason::UpstreamTimeout => {
            ("Service too slow", "The service behind this address did not answer in time.", IN_A_MOMENT)
        }
        _ => ("Nothing here", "No service is known under this address.", "Check the address."),
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
            Some("Bearer realm=\"main\", error=\"invalid_token\"")
        );
        assert_eq!(header(&told, "cache-control").as_deref(), Some("no-store"));
        assert_eq!(
            header(&reply(Reason::LoginRequired, false).0, "www-authenticate").as_deref(),
            Some("Bearer realm=\"main\"")
        );
        assert_eq!(
            header(&reply(Reason::InsufficientScope, false).0, "www-authenticate").as_deref(),
            Some("Bearer realm=\"main\", error=\"insufficient_scope\"")
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
