//! Refuses request heads that two parsers could read as two different requests (RFC 9110, RFC 9112).

use crate::gate::request::RequestHead;
use http::{HeaderMap, Method, Version, header};

#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// CONNECT, TRACE, or a method with a lower-case letter.
    Method,
    /// More bytes or more fields than a head may have.
    TooLarge,
    /// Two parsers could disagree on where the body ends.
    Framing,
}

/// The most fields in a head.
pub const MAX_FIELDS: usize = 128;

pub fn check(head: &RequestHead<'_>) -> Result<(), Fault> {
    if !is_served(head.method) {
        return Err(Fault::Method);
    }
    let line = head.method.as_str().len() + head.target.len() + " HTTP/1.1\r\n\r\n".len() + 1;
    let fields: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    if head.headers.len() > MAX_FIELDS || line + fields > head.max_head {
        return Err(Fault::TooLarge);
    }
    if head.length_beside_encoding || head.rewritten {
        return Err(Fault::Framing);
    }
    check_framing(head.headers, head.version)
}

/// No lower case: some apps take `post` for POST, while it was judged as a different method.
pub fn is_served(method: &Method) -> bool {
    !matches!(*method, Method::CONNECT | Method::TRACE) && !method.as_str().bytes().any(|b| b.is_ascii_lowercase())
}

fn check_framing(headers: &HeaderMap, version: Version) -> Result<(), Fault> {
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    let mut lengths = lengths.iter();
    let (length, second) = (lengths.next(), lengths.next());
    let digits = |v: &http::HeaderValue| !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_digit);
    if second.is_some() || length.is_some_and(|v| !digits(v)) {
        return Err(Fault::Framing);
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if length.is_none() && version == Version::HTTP_11 => {
            if only.as_bytes().eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(Fault::Framing) }
        }
        _ => Err(Fault::Framing),
    }
}

/// Whether a list header has a token; several fields are one comma-separated list.
pub fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case(token))
}

/// A WebSocket's opening handshake (RFC 6455, 4.1): the only upgrade that is forwarded.
pub fn is_websocket(head: &RequestHead<'_>) -> bool {
    let mut upgrades = head.headers.get_all(header::UPGRADE).iter();
    let only = matches!((upgrades.next(), upgrades.next()), (Some(v), None) if v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    only && head.version == Version::HTTP_11
        && *head.method == Method::GET
        && has_token(head.headers, header::CONNECTION, "upgrade")
}

/// A WebSocket, an event stream or gRPC, where long silence is normal.
pub fn is_stream(head: &RequestHead<'_>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    const EVENTS: &[u8] = b"text/event-stream";
    let value = |name| head.headers.get(name).map_or(&b""[..], |v: &http::HeaderValue| v.as_bytes());
    is_websocket(head)
        || value(header::CONTENT_TYPE).get(..GRPC.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC))
        || value(header::ACCEPT).windows(EVENTS.len()).any(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn check_one(version: Version, fields: &[(&'static str, &str)], good: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(check_framing(&headers, version).is_ok(), good, "{fields:?}");
    }

    #[test]
    fn a_body_ends_in_one_place() {
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        check_one(Version::HTTP_11, &[], true);
        check_one(Version::HTTP_11, &[(CL, "5")], true);
        check_one(Version::HTTP_11, &[(TE, "chunked")], true);
        check_one(Version::HTTP_11, &[(TE, "Chunked")], true);
        for bad in [
            &[(CL, "5"), (CL, "5")][..],
            &[(CL, "5,5")],
            &[(CL, "+5")],
            &[(CL, "")],
            &[(CL, "5"), (TE, "chunked")],
            &[(TE, "gzip, chunked")],
            &[(TE, "chunked"), (TE, "chunked")],
            &[(TE, "xchunked")],
            &[(TE, "identity")],
        ] {
            check_one(Version::HTTP_11, bad, false);
        }
        check_one(Version::HTTP_10, &[(TE, "chunked")], false);
    }
}
