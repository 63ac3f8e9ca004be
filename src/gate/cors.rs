//! Cross-origin requests (Fetch Standard, 3.2): preflights are answered here, before credentials, which they never
//! carry; the gateway's own replies are marked, so that a browser shows their true cause.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::time::Duration;

/// `cors` of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    pub origins: Origins,
    pub credentials: bool,
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    OneOf(Vec<String>),
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

    /// The marks on a reply of the gateway's own.
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
