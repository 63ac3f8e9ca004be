//! Request and response heads between client and app, as Pingora's types: taking them apart and removing headers.

use crate::gate::cookies::OwnCookies;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The parts of a head, without the original case of its header names: the app gets the lower-case names that the gate
/// judged, over HTTP/1 as over HTTP/2, except a dozen (such as Host) that Pingora writes in their usual form. Keeping
/// the case would cost four allocations for each header that is set.
pub(super) fn parts_of(head: &mut RequestHeader) -> Parts {
    let blank = http::Request::new(()).into_parts().0;
    std::mem::replace(head, RequestHeader::from(blank)).into()
}

/// Whether the header occurs exactly once, with this value.
pub(super) fn is_only(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|first| first == value) && values.next().is_none()
}

/// Takes out of `Connection` what the app is told whatever the client says: Pingora would refuse the request.
pub(super) fn drop_nominations(head: &mut RequestHeader) -> pingora_error::Result<()> {
    let is_own = |token: &&[u8]| {
        [&b"x-forwarded-for"[..], b"x-forwarded-host", b"x-forwarded-proto"]
            .iter()
            .any(|own| token.eq_ignore_ascii_case(own))
    };
    let fields = head.headers.get_all(header::CONNECTION);
    let tokens = || fields.iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    if !tokens().any(|token| is_own(&token)) {
        return Ok(());
    }
    let kept = tokens().filter(|token| !is_own(token)).collect::<Vec<_>>().join(&b", "[..]);
    head.insert_header(header::CONNECTION, kept)
}

/// Removes hop-by-hop headers: they concern only the app's connection to the gateway (RFC 9110, 7.6.1).
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let is_usual = |value: &str| ["keep-alive", "close"].iter().any(|usual| value.eq_ignore_ascii_case(usual));
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !is_usual(value)) // they name no header that is not removed below
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| {
            ![header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE].contains(name)
        })
        .collect();
    for name in nominated {
        response.remove_header(&name);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION] {
        if response.headers.contains_key(&name) {
            response.remove_header(&name);
        }
    }
}

/// Drops cookies by which an app would replace the gateway's own.
pub(super) fn strip_planted_cookies(response: &mut ResponseHeader, cookies: &OwnCookies) -> pingora_error::Result<()> {
    let all = response.headers.get_all(header::SET_COOKIE);
    if !all.iter().any(|cookie| cookies.is_planted(cookie)) {
        return Ok(());
    }
    let kept: Vec<_> = all.iter().filter(|cookie| !cookies.is_planted(cookie)).cloned().collect();
    response.remove_header(&header::SET_COOKIE);
    kept.into_iter().try_for_each(|cookie| response.append_header(header::SET_COOKIE, cookie).map(drop))
}
