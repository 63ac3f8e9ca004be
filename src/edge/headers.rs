//! Heads on their way between client and app, in terms of Pingora's types: what of them is taken apart or taken out.

use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The parts of a head, without the case in which its names were written: the app is told them in the form that was
/// judged, over HTTP/1 as over HTTP/2, but for a dozen (such as Host) that Pingora writes in their usual form. To keep the
/// case would cost four allocations for each header that is set.
pub(super) fn parts_of(head: &mut RequestHeader) -> Parts {
    let blank = http::Request::new(()).into_parts().0;
    std::mem::replace(head, RequestHeader::from(blank)).into()
}

/// Whether a field stands there once, with this value.
pub(super) fn is_only(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|first| first == value) && values.next().is_none()
}

/// RFC 9110, 7.6.1: what the app says about its connection is no business of the client's.
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
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
