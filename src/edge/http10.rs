//! What must not be sent to an HTTP/1.0 client: a transfer coding (RFC 9112, 6.1), interim responses (RFC 9110, 15.2).

use async_trait::async_trait;
use http::{Version, header};
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, HttpModules, Module};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::any::Any;

/// Removes `Transfer-Encoding` after every other filter: Pingora sets it if the app's response has no length.
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

/// To be called before any response is written.
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

/// A response without a length ends with the connection.
pub(super) fn bound_answer(session: &mut Session, response: &ResponseHeader) {
    let is_old = session.req_header().version == Version::HTTP_10;
    if is_old && !response.status.is_informational() && !response.headers.contains_key(header::CONTENT_LENGTH) {
        session.set_keepalive(None);
    }
}
