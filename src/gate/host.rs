//! A request's host in the canonical form in which it is compared and forwarded: lower case, without a trailing dot.
//! Conflicting hosts, a missing host where one is required, and invalid bytes are refused.

use crate::gate::request::RequestHead;
use http::{Version, header};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    text: String,
    name_length: usize,
    port: Option<u16>,
}

/// The host is missing, invalid or contradictory.
#[derive(Debug, PartialEq, Eq)]
pub struct BadHost;

const LONGEST: usize = 255 + 6;

impl Host {
    /// Reads `name`, `name:port` or `[v6]:port` (RFC 3986, 3.2.2).
    pub fn parse(text: &str) -> Result<Host, BadHost> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(BadHost);
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let digits = port.filter(|digits| !digits.is_empty());
        let port: Option<u16> = match digits {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().map_err(|_| BadHost)?),
            Some(_) => return Err(BadHost),
            None => None,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_v6 = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .is_some_and(|n| n.parse::<std::net::Ipv6Addr>().is_ok());
        let mut last = b'.';
        let is_name = name.bytes().all(|b| {
            let before = std::mem::replace(&mut last, b);
            b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || (b == b'.' && before != b'.')
        });
        if !is_v6 && (!is_name || last == b'.') {
            return Err(BadHost);
        }
        let mut text = String::with_capacity(name.len() + ":65535".len());
        text.push_str(name);
        text.make_ascii_lowercase();
        let name_length = text.len();
        if let Some(digits) = digits {
            let digits = digits.trim_start_matches('0');
            text.push(':');
            text.push_str(if digits.is_empty() { "0" } else { digits });
        }
        Ok(Host { text, name_length, port })
    }

    /// The host of a request: its authority and its `Host` fields must agree. `None` for HTTP/1.0 without a host.
    pub fn of(head: &RequestHead<'_>, target_authority: Option<&str>) -> Result<Option<Host>, BadHost> {
        let mut host = None;
        let fields = head.headers.get_all(header::HOST).iter().map(|value| value.to_str().map_err(|_| BadHost));
        for text in [head.authority, target_authority].into_iter().flatten().map(Ok).chain(fields) {
            let one = Host::parse(text?)?;
            if host.as_ref().is_some_and(|other| *other != one) {
                return Err(BadHost);
            }
            host = Some(one);
        }
        match host {
            None if head.version > Version::HTTP_10 => Err(BadHost),
            host => Ok(host),
        }
    }

    pub fn name(&self) -> &str {
        self.text.get(..self.name_length).unwrap_or_default()
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// With the port where one was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Option<u16>)>) {
        let host = Host::parse(text).ok();
        assert_eq!(host.as_ref().map(|h| (h.name(), h.port())), expected, "{text:?}");
    }

    #[test]
    fn a_host_has_one_form() {
        check("App.Test.", Some(("app.test", None)));
        check("app.test:8080", Some(("app.test", Some(8080))));
        check("app.test.:80", Some(("app.test", Some(80))));
        check("app.test:", Some(("app.test", None)));
        check("app.test:0443", Some(("app.test", Some(443))));
        check("app.test:00", Some(("app.test", Some(0))));
        check("[::1]:443", Some(("[::1]", Some(443))));
        check("[::1]", Some(("[::1]", None)));
        check("127.0.0.1:1", Some(("127.0.0.1", Some(1))));
        check("a_b-c.test", Some(("a_b-c.test", None)));
        for bad in [
            "", ".", ".a", "..", "a..b", "a b", "a/b", "user@a", "a:b", "a:99999", "a:1:2", "[::1", "::1", "<script>",
            "a%2e", "ä", "a..", "*",
        ] {
            check(bad, None);
        }
    }
}
