//! Cross-origin requests (Fetch Standard, 3.2): preflights are answered before authentication, as they never carry
//! credentials; the gateway's own replies get CORS headers, so that a browser reports their cause, not a CORS error.

use crate::kit::setting::{Rule, Span, Text, http_url, rule};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers preflights, and marks the gateway's own replies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `*` alone, or origins: scheme, host and port.
    pub origins: Origins,
    /// Cookies are allowed; not beside `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may remember the answer to a preflight.
    #[serde(default = "default_max_age")]
    pub max_age: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<AllowedOrigin>", into = "Vec<String>")]
#[schemars(with = "Vec<AllowedOrigin>")]
pub enum Origins {
    Any,
    OneOf(Vec<String>),
}

/// An origin, or `*`.
pub type AllowedOrigin = Text<AllowedOriginRule>;

/// Chromium's own limit is 2 h, Firefox's a day; a change of the rules should not take so long.
fn default_max_age() -> Span {
    Span::seconds(600)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOriginRule;

impl Rule for AllowedOriginRule {
    fn check(text: &str) -> Result<(), String> {
        let is_origin = || http_url(text).is_some_and(|url| url.origin().ascii_serialization() == text);
        rule(text == "*" || is_origin(), || {
            "is not an origin; write scheme, host and port alone, such as https://app.example.com".into()
        })
    }
}

impl From<Origins> for Vec<String> {
    fn from(origins: Origins) -> Self {
        match origins {
            Origins::Any => vec!["*".into()],
            Origins::OneOf(list) => list,
        }
    }
}

impl TryFrom<Vec<AllowedOrigin>> for Origins {
    type Error = &'static str;
    fn try_from(list: Vec<AllowedOrigin>) -> Result<Self, Self::Error> {
        match list.as_slice() {
            [] => Err("allows nobody; name an origin, or leave `cors` out"),
            [star] if star.as_str() == "*" => Ok(Origins::Any),
            _ if list.iter().any(|origin| origin.as_str() == "*") => Err("`*` stands alone or not at all"),
            _ => Ok(Origins::OneOf(list.into_iter().map(|origin| origin.text().clone()).collect())),
        }
    }
}

const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After, WWW-Authenticate, X-Request-Id, X-Doorward-Reason");

pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// The headers of the 204 that answers a preflight.
    pub fn preflight(&self, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let mut out = self.allow_origin(headers);
        if out.is_empty() {
            return vec![vary()];
        }
        for (asked, answered) in [
            (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
        ] {
            if let Some(value) = headers.get(asked) {
                out.push((answered, value.clone()));
            }
        }
        out.push((header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs())));
        out.push(vary());
        out
    }

    /// The CORS headers of a reply made by the gateway itself.
    pub fn marks(&self, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let mut out = self.allow_origin(headers);
        if !out.is_empty() {
            out.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED));
        }
        out.push(vary());
        out
    }

    fn allow_origin(&self, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let mut sent = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (sent.next(), sent.next()) else {
            return Vec::new();
        };
        let value = match &self.origins {
            Origins::Any => HeaderValue::from_static("*"),
            Origins::OneOf(list) if list.iter().any(|ours| ours.as_bytes() == origin.as_bytes()) => origin.clone(),
            Origins::OneOf(_) => return Vec::new(),
        };
        let mut out = vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, value)];
        if self.credentials {
            out.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        out
    }
}

fn vary() -> (HeaderName, HeaderValue) {
    (header::VARY, HeaderValue::from_static("Origin"))
}
