//! Tells a browser that navigates to a page from a program: the browser can follow a redirect to a login and show HTML,
//! the program needs a status and problem JSON.

use http::{HeaderMap, header};

/// Looks at the headers alone; the caller checks the method.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    let value = |name: &'static str| headers.get(name).map(|v| v.as_bytes());
    if value("x-requested-with").is_some_and(|v| v.eq_ignore_ascii_case(b"XMLHttpRequest"))
        || headers.contains_key(header::UPGRADE)
    {
        return false;
    }
    let content = value("content-type").unwrap_or_default().to_ascii_lowercase();
    if content.starts_with(b"application/grpc") || is_json(&content) {
        return false;
    }
    let accept = Accept::of(headers);
    if accept.names("text/event-stream") {
        return false;
    }
    match value("sec-fetch-mode") {
        Some(mode) => mode == b"navigate",
        None => accept.prefers_html(),
    }
}

/// Whether a person reads a refusal: the client navigates or accepts `text/html`, and sends no bearer token or API key.
pub fn reads_pages(headers: &HeaderMap) -> bool {
    let value = |name: &'static str| headers.get(name).map(|v| v.as_bytes());
    let is_bearer = |field: &http::HeaderValue| {
        field.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer"))
    };
    let is_program = headers.contains_key("x-api-key") || headers.get_all(header::AUTHORIZATION).iter().any(is_bearer);
    let navigates = value("sec-fetch-mode").is_some_and(|mode| mode == b"navigate");
    let names_html = || Accept::of(headers).types.iter().any(|(name, quality)| name == "text/html" && *quality > 0.0);
    !is_program && (navigates || names_html())
}

fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    kind == b"application/json" || kind.ends_with(b"+json")
}

/// The media types of `Accept` with their qualities (RFC 9110, 12.5.1).
struct Accept {
    types: Vec<(String, f32)>,
    readable: bool,
}

/// So many are read of one field; no client sends more.
const MOST_RANGES: usize = 64;

impl Accept {
    fn of(headers: &HeaderMap) -> Accept {
        let mut accept = Accept { types: Vec::new(), readable: true };
        for value in headers.get_all(header::ACCEPT) {
            let Ok(text) = value.to_str() else {
                accept.readable = false;
                continue;
            };
            let ranges = text.split(',').take(MOST_RANGES).map(str::trim).filter(|t| !t.is_empty());
            accept.types.extend(ranges.map(range));
        }
        accept
    }

    fn names(&self, kind: &str) -> bool {
        self.types.iter().any(|(name, _)| name == kind)
    }

    /// Absent, `*/*`, or `text/html` with a quality that no other exceeds.
    fn prefers_html(&self) -> bool {
        let quality_of_html = self.types.iter().find(|(name, _)| name == "text/html").map(|(_, q)| *q);
        match (self.types.as_slice(), quality_of_html) {
            _ if !self.readable => false,
            ([], _) => true,
            ([(name, _)], None) => name == "*/*",
            (_, None) => false,
            (all, Some(html)) => html > 0.0 && all.iter().all(|(_, q)| *q <= html),
        }
    }
}

fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))?.parse().ok());
    (name, quality.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn check(fields: &[(&'static str, &str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(is_navigation(&headers), expected, "{fields:?}");
    }

    #[test]
    fn a_navigation_is_told_from_a_program() {
        const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        for yes in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "text/html")],
            &[HTML],
            &[("accept", "application/json;q=0.5, text/html")],
            &[("accept", "text/html;q=0.8, application/json;q=0.8")],
            &[("accept", "application/json"), ("sec-fetch-mode", "navigate")],
            &[HTML, ("content-type", "application/x-www-form-urlencoded")],
        ] {
            check(yes, true);
        }
        for no in [
            &[("accept", "application/json")][..],
            &[("accept", "text/html;q=0.8, */*;q=0.9")],
            &[("accept", "text/*")],
            &[("accept", "text/html;q=0")],
            &[("accept", "image/avif,image/webp,*/*;q=0.8")],
            &[("accept", "text/event-stream"), ("sec-fetch-mode", "navigate")],
            &[("accept", "text/html"), ("sec-fetch-mode", "cors")],
            &[HTML, ("x-requested-with", "XMLHttpRequest")],
            &[HTML, ("upgrade", "websocket")],
            &[HTML, ("content-type", "application/json; charset=utf-8")],
            &[("accept", "*/*"), ("content-type", "application/grpc+proto")],
        ] {
            check(no, false);
        }
    }
}
