//! Writes the gateway's own replies to the wire.

use crate::gate::decision::Reply;
use http::{Method, StatusCode, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

pub(super) async fn write(session: &mut Session, reply: Reply) -> Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 1))?;
    for (name, value) in reply.headers {
        head.append_header(name, value)?;
    }
    if reply.status != StatusCode::NO_CONTENT {
        head.insert_header(header::CONTENT_LENGTH, reply.body.len())?;
    }
    let has_body = !reply.body.is_empty() && session.req_header().method != Method::HEAD;
    session.write_response_header(Box::new(head), !has_body).await?;
    if has_body {
        session.write_response_body(Some(reply.body), true).await?;
    }
    Ok(())
}

/// The reply as HTTP/1.1 bytes, for a connection whose request head Pingora could not parse.
pub(super) fn to_wire(reply: &Reply) -> Vec<u8> {
    let reason = reply.status.canonical_reason().unwrap_or_default();
    let mut wire = format!("HTTP/1.1 {} {reason}\r\n", reply.status.as_u16()).into_bytes();
    for (name, value) in &reply.headers {
        wire.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    wire.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", reply.body.len()).as_bytes());
    wire.extend_from_slice(&reply.body);
    wire
}
