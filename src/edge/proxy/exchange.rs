//! What the phases read of a client and write to it themselves, and what they see of its head and of the app's.

use crate::edge::connection::{cut_current, line_was_odd};
use crate::edge::reply;
use crate::gate::decision::Reply;
use crate::gate::endpoint::MAX_BODY;
use crate::gate::request::{Body, RequestHead};
use http::{HeaderValue, StatusCode, Version, header};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::time::timeout;

/// For a form that we read, an answer that we send, and what is still to come of a request that is answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// So much of a body that nobody wants is still read.
const MAX_UNREAD: usize = 1 << 20;

/// A request's body, no more of it than this and what shows that there is more.
async fn read_body(session: &mut Session, most: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= most {
        match session.read_request_body().await? {
            Some(piece) => body.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(body)
}

/// A form that is for the gateway itself. Who waits to be told to send it is told so (RFC 9110, 10.1.1).
pub(super) async fn read_form(session: &mut Session) -> Result<Vec<u8>> {
    if session.req_header().headers.contains_key(header::EXPECT) && session.req_header().version == Version::HTTP_11 {
        session.as_downstream_mut().write_continue_response().await?;
        session.req_header_mut().remove_header(&header::EXPECT);
    }
    read_body(session, MAX_BODY).await
}

/// Whether the answer itself has begun: 1xx come before it, but for the 101 that is one.
pub(super) fn has_answered(session: &Session) -> bool {
    let written = session.response_written();
    written.is_some_and(|head| !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS)
}

pub(super) fn is_grpc(head: &RequestHeader) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Silence is in the nature of what the app answers: a tunnel, an event stream, gRPC.
pub(super) fn is_stream(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is = |name: &[u8]| kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    response.status == StatusCode::SWITCHING_PROTOCOLS || is(b"text/event-stream") || is(b"application/grpc")
}

/// Sends an answer of ours. Who does not take it in time, or has gone, is not waited for.
pub(super) async fn send(session: &mut Session, reply: Reply) -> Result<()> {
    if !matches!(timeout(PATIENCE, reply::write(session, reply)).await, Ok(Ok(()))) {
        cut_current();
        return Err(Error::explain(ErrorType::WriteError, "the answer was not taken").into_down());
    }
    // A connection that is closed with bytes unread is reset, and the answer may be lost on its way. Who waits for 100 sends
    // nothing more.
    if session.req_header().version != Version::HTTP_2
        && !session.as_downstream_mut().is_body_done()
        && !session.req_header().headers.contains_key(header::EXPECT)
    {
        let _ = timeout(PATIENCE, read_body(session, MAX_UNREAD)).await;
    }
    Ok(())
}

/// Pingora drops a `Content-Length` beside a `Transfer-Encoding` as it parses; only the raw head still shows it.
fn raw_head_has(session: &Session, name: &[u8]) -> bool {
    let raw = session.as_downstream().to_h1_raw();
    raw.split(|b| *b == b'\n').any(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

pub(super) fn request_head<'a>(
    session: &'a Session,
    quoted: Option<&'a [u8]>,
    max_head: usize,
    redirect_to_https: bool,
) -> RequestHead<'a> {
    let head = session.req_header();
    let is_h2 = head.version == Version::HTTP_2;
    RequestHead {
        method: &head.method,
        target: quoted.unwrap_or(head.raw_path()),
        version: head.version,
        authority: head.uri.authority().filter(|_| is_h2).map(|authority| authority.as_str()),
        headers: &head.headers,
        length_beside_encoding: head.headers.contains_key(header::TRANSFER_ENCODING)
            && raw_head_has(session, b"content-length:"),
        rewritten: line_was_odd(),
        body: Body::Unread,
        peer: session.client_addr().and_then(|a| a.as_inet()).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip()),
        max_head,
        redirect_to_https,
    }
}
