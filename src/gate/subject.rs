//! The request that another proxy asks about, as its headers describe it.

use crate::gate::host::Host;
use http::{HeaderMap, Method};
use std::fmt;

/// The request that another proxy asks about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject<'a> {
    pub(super) method: Method,
    pub(super) host: Host,
    pub(super) target: &'a str,
}

/// Why a forward-auth request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unanswerable {
    /// The peer is not a trusted proxy.
    Stranger,
    Nothing,
    Missing(&'static str),
    Repeated(&'static str),
    Unreadable(&'static str),
    /// `X-Original-URL` is not an absolute URL.
    NoHost,
    /// Both sets are present and describe two requests.
    Contradiction,
}

/// Traefik and Caddy send these.
const FORWARDED: [&str; 3] = ["x-forwarded-method", "x-forwarded-host", "x-forwarded-uri"];
/// ingress-nginx sends these.
const ORIGINAL: [&str; 2] = ["x-original-method", "x-original-url"];

/// All of them.
pub(super) const QUESTION: [&str; 5] = [FORWARDED[0], FORWARDED[1], FORWARDED[2], ORIGINAL[0], ORIGINAL[1]];

/// Whether a request asks about another one. `X-Forwarded-Host` does not count: every proxy sends it.
pub(super) fn is_question(headers: &HeaderMap) -> bool {
    let [method, _, uri] = FORWARDED;
    [method, uri].iter().chain(&ORIGINAL).any(|name| headers.contains_key(*name))
}

impl Unanswerable {
    /// Whether the request's own target is not text, and so ambiguous.
    pub(super) fn is_of_target(self) -> bool {
        self == Unanswerable::Unreadable(FORWARDED[2])
    }
}

impl<'a> Subject<'a> {
    pub(super) fn of(headers: &'a HeaderMap, from_trusted: bool) -> Result<Subject<'a>, Unanswerable> {
        if !from_trusted {
            return Err(Unanswerable::Stranger);
        }
        let stands = |names: &[&str]| names.iter().any(|name| headers.contains_key(*name));
        match (stands(&FORWARDED), stands(&ORIGINAL)) {
            (false, false) => Err(Unanswerable::Nothing),
            (true, false) => Subject::forwarded(headers),
            (false, true) => Subject::original(headers),
            // Every proxy sends `X-Forwarded-Host`.
            (true, true) if !stands(&[FORWARDED[0], FORWARDED[2]]) => {
                let (host, told) = (only(headers, FORWARDED[1])?, Subject::original(headers)?);
                if Host::parse(host).is_ok_and(|host| host == told.host) {
                    Ok(told)
                } else {
                    Err(Unanswerable::Contradiction)
                }
            }
            (true, true) => {
                let (one, two) = (Subject::forwarded(headers)?, Subject::original(headers)?);
                if one == two { Ok(one) } else { Err(Unanswerable::Contradiction) }
            }
        }
    }

    fn forwarded(headers: &'a HeaderMap) -> Result<Subject<'a>, Unanswerable> {
        let [method, host, uri] = FORWARDED;
        Ok(Subject {
            method: method_of(headers, method)?,
            host: Host::parse(only(headers, host)?).map_err(|_| Unanswerable::Unreadable(host))?,
            target: only(headers, uri)?,
        })
    }

    fn original(headers: &'a HeaderMap) -> Result<Subject<'a>, Unanswerable> {
        let [method, url] = ORIGINAL;
        let whole = only(headers, url)?;
        let (scheme, rest) = whole.split_once("://").ok_or(Unanswerable::NoHost)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Unanswerable::NoHost);
        }
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Subject {
            method: method_of(headers, method)?,
            host: Host::parse(authority).map_err(|_| Unanswerable::NoHost)?,
            target: if target.is_empty() { "/" } else { target },
        })
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Unanswerable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Unanswerable::Missing(name)),
        (Some(value), None) => value.to_str().map_err(|_| Unanswerable::Unreadable(name)),
        _ => Err(Unanswerable::Repeated(name)),
    }
}

fn method_of(headers: &HeaderMap, name: &'static str) -> Result<Method, Unanswerable> {
    only(headers, name)?.parse().map_err(|_| Unanswerable::Unreadable(name))
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswerable::Stranger => f.write_str("the peer is not in client_ip.trusted_proxies"),
            Unanswerable::Nothing => f.write_str(
                "it has neither X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri nor X-Original-Method and X-Original-URL",
            ),
            Unanswerable::Missing(name) => write!(f, "the header {name} is missing"),
            Unanswerable::Repeated(name) => write!(f, "the header {name} stands there twice"),
            Unanswerable::Unreadable(name) => write!(f, "the header {name} cannot be read"),
            Unanswerable::NoHost => f.write_str("the header x-original-url is not an absolute http or https URL"),
            Unanswerable::Contradiction => f.write_str("the headers X-Forwarded-* and X-Original-* name two requests"),
        }
    }
}
