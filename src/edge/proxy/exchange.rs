//! What the phases themselves read from the client and write to it, and what they read from request and response heads.

use crate::edge::connection::{cut_current, has_given_up, line_was_odd};
use crate::edge::reply;
use crate::gate::decision::Reply;
use crate::gate::endpoint::MAX_BODY;
use crate::gate::request::{Body, RequestHead};
use crate::telemetry::reason::Reason;
use http::{HeaderValue, StatusCode, Version, header};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::time::timeout;

/// Time-out for reading a form, for sending our own response, and for the unread rest of a request already answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an unwanted body is still read and discarded.
const MAX_UNREAD: usize = 1 << 20;

/// Reads a request's body, but stops once it exceeds `most`; the result then shows that it is too long.
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

/// Reads a form addressed to the gateway itself. A client that expects `100 Continue` gets it first (RFC 9110, 10.1.1).
pub(super) async fn read_form(session: &mut Session) -> Result<Vec<u8>> {
    if session.req_header().headers.contains_key(header::EXPECT) && session.req_header().version >= Version::HTTP_11 {
        session.as_downstream_mut().write_continue_response().await?;
        session.req_header_mut().remove_header(&header::EXPECT);
    }
    read_body(session, MAX_BODY).await
}

/// Whether the final response has begun: 1xx responses precede it, except 101, which is final.
pub(super) fn has_answered(session: &Session) -> bool {
    let written = session.response_written();
    written.is_some_and(|head| !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS)
}

pub(super) fn is_grpc(head: &RequestHeader) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether the app's response may be silent for long: a tunnel, an event stream, gRPC.
pub(super) fn is_stream(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is = |name: &[u8]| kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    response.status == StatusCode::SWITCHING_PROTOCOLS || is(b"text/event-stream") || is(b"application/grpc")
}

/// Sends our own response. The connection is cut if the client has gone or does not read it in time.
pub(super) async fn send(session: &mut Session, reply: Reply) -> Result<()> {
    if !matches!(timeout(PATIENCE, reply::write(session, reply)).await, Ok(Ok(()))) {
        cut_current();
        return Err(Error::explain(ErrorType::WriteError, "the answer was not taken").into_down());
    }
    // Closing a connection with unread bytes resets it, and the response may be lost: read the body first. A client
    // that waits for 100 sends none.
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

/// What an operator reads of a request that could not be proxied: where to, what failed, what the system said of it.
pub(super) fn why_of(e: &Error, upstream: Option<String>) -> String {
    let mut innermost = e;
    while let Some(inner) = innermost.cause.as_ref().and_then(|cause| cause.downcast_ref::<Box<Error>>()) {
        innermost = inner;
    }
    let cause = innermost.cause.as_ref().map(ToString::to_string);
    let context = innermost.context.as_ref().map(|context| context.as_str().to_owned());
    let parts = [upstream, Some(innermost.etype().as_str().to_owned()), cause.or(context)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Why a request could not be proxied; `None`: the client has gone.
pub(super) fn reason_of(e: &Error, session: &mut Session) -> Option<Reason> {
    Some(match (e.esource(), e.etype()) {
        (ErrorSource::Upstream, ErrorType::WriteTimedout) => Reason::UpstreamTimeout,
        _ if has_given_up() && session.as_downstream_mut().is_body_done() => Reason::UpstreamTimeout,
        _ if has_given_up() => Reason::BadRequest,
        (
            ErrorSource::Downstream,
            ErrorType::ReadTimedout | ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(_),
        ) => Reason::BadRequest,
        (ErrorSource::Downstream, _) => return None,
        (_, ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout) => Reason::UpstreamTimeout,
        _ => Reason::UpstreamUnreachable,
    })
}
