//! What a client of HTTP/1.0 may not be sent: a transfer coding (RFC 9112, 6.1) and interim answers (RFC 9110, 15.2).

use async_trait::async_trait;
use http::{Version, header};
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, HttpModules, Module};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::any::Any;

/// Takes the transfer coding out of an answer behind every other filter: Pingora sets it where the app's answer has no length.
struct Unchunked;

impl HttpModuleBuilder for Unchunked {
    fn init(&self) -> Module {
        Box::new(Unchunked)
    }
}

#[async_trait]
impl HttpModule for Unchunked {
    async fn response_header_filter(&mut self, response: &mut ResponseHeader, _end_of_stream: bool) -> Result<()> {
        response.remove_header(&header::TRANSFER_ENCODING);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Before anything is answered.
pub(super) fn prepare(session: &mut Session) {
    if session.req_header().version != Version::HTTP_10 {
        return;
    }
    session.set_ignore_info_resp(true);
    session.req_header_mut().remove_header(&header::EXPECT); // RFC 9110, 10.1.1
    let mut modules = HttpModules::new();
    modules.add_module(Box::new(Unchunked));
    session.downstream_modules_ctx = modules.build_ctx();
}

/// Where an answer has no length, its end is the end of the connection.
pub(super) fn bound_answer(session: &mut Session, response: &ResponseHeader) {
    let is_old = session.req_header().version == Version::HTTP_10;
    if is_old && !response.status.is_informational() && !response.headers.contains_key(header::CONTENT_LENGTH) {
        session.set_keepalive(None);
    }
}
