//! Writes a reply of the gateway's own onto the wire.

use crate::gate::answer::Reply;
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
