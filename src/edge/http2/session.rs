//! A request over HTTP/2 as Pingora's proxy sees it.

use crate::edge::connection::Connection;
use async_trait::async_trait;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

pub(super) struct Http2Session {
    head: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// The body of the response, once its head is written.
    answer: Option<SendStream<Bytes>>,
    /// The head as it was written, without its fields.
    written: Option<ResponseHeader>,
    is_ended: bool,
    bytes_read: usize,
    bytes_sent: usize,
    /// What was read of the body, for another upstream if the first cannot be reached.
    kept: Option<FixedBuffer>,
    digest: Arc<Digest>,
    drain_timeout: Option<Duration>,
    /// To the proxy, a request over HTTP/2 is a connection of its own: with its own limits, and ended on its own.
    connection: Arc<Connection>,
    /// The end of the request's body was read; trailers may follow it.
    is_body_over: bool,
}

/// As Pingora keeps of a body over HTTP/1.1.
const KEPT: usize = 64 << 10;
/// Fields that only a connection of HTTP/1.1 has (RFC 9113, 8.2.2).
const OF_CONNECTION: [HeaderName; 5] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

impl Http2Session {
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
        connection: Arc<Connection>,
    ) -> Self {
        let (head, body) = request.into_parts();
        Http2Session {
            head: RequestHeader::from(head),
            body,
            respond,
            answer: None,
            written: None,
            is_ended: false,
            bytes_read: 0,
            bytes_sent: 0,
            kept: None,
            digest,
            drain_timeout: None,
            connection,
            is_body_over: false,
        }
    }

    fn has_no_body(&self) -> bool {
        let is_empty = || self.head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        self.bytes_read == 0 && (self.body.is_end_stream() || is_empty())
    }

    fn is_read(&self) -> bool {
        self.is_body_over || self.has_no_body() || self.body.is_end_stream()
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let piece = ready!(self.body.poll_data(cx)).transpose();
        let piece = piece.or_err(ErrorType::ReadError, "while reading a request body over HTTP/2")?;
        self.is_body_over = piece.is_none();
        if let Some(piece) = &piece {
            self.connection.moved();
            self.bytes_read += piece.len();
            if let Some(kept) = &mut self.kept {
                kept.write_to_buffer(piece);
            }
            let _ = self.body.flow_control().release_capacity(piece.len()); // the stream may have ended meanwhile
        }
        Poll::Ready(Ok(piece))
    }

    /// The client has reset the stream, or is gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let reset = match &mut self.answer {
            Some(answer) => answer.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        Poll::Ready(match ready!(reset) {
            Ok(reason) => Error::explain(ErrorType::H2Error, format!("the client reset the stream: {reason}")),
            Err(error) => Error::because(ErrorType::H2Error, "while waiting for the client", error),
        })
    }

    fn poll_body_or_end(&mut self, cx: &mut Context<'_>, is_read: bool) -> Poll<Result<Option<Bytes>>> {
        if self.connection.gave_up() {
            return Poll::Ready(Err(Error::explain(ErrorType::ReadError, "timed out")));
        }
        match is_read || self.is_read() {
            true => self.poll_gone(cx).map(Err),
            false => self.poll_piece(cx),
        }
    }

    fn write_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.is_ended || self.written.is_some() {
            return Ok(());
        }
        for name in &OF_CONNECTION {
            head.remove_header(name);
        }
        self.connection.moved();
        if head.status.is_informational() {
            if head.status != StatusCode::SWITCHING_PROTOCOLS {
                let interim = Response::from_parts((*head).into(), ());
                self.respond
                    .send_informational(interim)
                    .or_err(ErrorType::WriteError, "while writing a 1xx response")?;
            }
            return Ok(());
        }
        head.insert_header(header::DATE, get_cached_date())?;
        self.written = Some(ResponseHeader::build(head.status, Some(0))?);
        let head = Response::from_parts((*head).into(), ());
        let end = end || self.head.method == Method::HEAD;
        let answer = self.respond.send_response(head, end);
        self.answer = Some(answer.or_err(ErrorType::WriteError, "while writing a response over HTTP/2")?);
        self.is_ended = end;
        Ok(())
    }

    async fn write_pieces(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let headless = || Error::explain(ErrorType::H2Error, "a body before its head");
        let answer = self.answer.as_mut().ok_or_else(headless)?;
        if data.is_empty() {
            answer.send_data(data, end).or_err(ErrorType::WriteError, "while ending a response over HTTP/2")?;
        } else {
            while !data.is_empty() {
                answer.reserve_capacity(data.len());
                let taken = timeout(self.connection.patience(), poll_fn(|cx| answer.poll_capacity(cx))).await;
                let late = |_| Error::explain(ErrorType::WriteTimedout, "the client does not read");
                let gone = || Error::explain(ErrorType::WriteError, "the client has gone");
                let capacity = taken.map_err(late)?.ok_or_else(gone)?;
                let capacity = capacity.or_err(ErrorType::WriteError, "while waiting for the client to read")?;
                let piece = data.split_to(capacity.min(data.len()));
                self.connection.moved();
                self.bytes_sent += piece.len();
                let sent = answer.send_data(piece, end && data.is_empty());
                sent.or_err(ErrorType::WriteError, "while writing a response over HTTP/2")?;
            }
        }
        self.is_ended = end;
        Ok(())
    }

    fn end_with(&mut self, trailers: HeaderMap) -> Result<()> {
        if let Some(answer) = self.answer.as_mut().filter(|_| !self.is_ended) {
            answer.send_trailers(trailers).or_err(ErrorType::WriteError, "while writing trailers over HTTP/2")?;
            self.is_ended = true;
        }
        Ok(())
    }

    /// Without a head there is nothing to end: dropping the session resets the stream.
    fn end(&mut self) -> Result<()> {
        if let Some(answer) = self.answer.as_mut().filter(|_| !self.is_ended) {
            answer
                .send_data(Bytes::new(), true)
                .or_err(ErrorType::WriteError, "while ending a response over HTTP/2")?;
            self.is_ended = true;
        }
        Ok(())
    }

    /// Writes one task of the proxy; whether the response ends with it. What fails here is the client's side, but for what the
    /// task itself says of the app.
    async fn write_task(&mut self, task: HttpTask) -> Result<bool> {
        let (written, is_over) = match task {
            HttpTask::Header(head, end) => (self.write_head(head, end), end),
            HttpTask::Body(Some(data), end) if !data.is_empty() => (self.write_pieces(data, end).await, end),
            HttpTask::Body(_, end) => (Ok(()), end),
            HttpTask::UpgradedBody(..) => return Error::e_explain(ErrorType::InternalError, "a tunnel over HTTP/2"),
            HttpTask::Trailer(Some(trailers)) => (self.end_with(*trailers), true),
            HttpTask::Trailer(None) | HttpTask::Done => (Ok(()), true),
            HttpTask::Failed(error) => return Err(error),
        };
        written.map(|()| is_over).map_err(Error::into_down)
    }
}

#[async_trait]
impl Session for Http2Session {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // The proxy's first phase sets it; without it nothing is drained.
        let limit = self.drain_timeout.unwrap_or_default();
        let drain = async {
            while !self.is_read() && poll_fn(|cx| self.poll_piece(cx)).await?.is_some() {}
            Ok(())
        };
        let late = |_| Error::explain(ErrorType::ReadTimedout, "draining a request body");
        timeout(limit, drain).await.map_err(late)?
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write_pieces(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.end_with(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_over = false;
        for task in tasks {
            is_over |= self.write_task(task).await?;
        }
        if is_over {
            self.end().map_err(Error::into_down)?;
        }
        Ok(is_over)
    }

    // The time-outs of reading and writing are the connection's: they follow the response.
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        Some(self.connection.patience())
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    /// Pingora's own log lines, which would have it, are off.
    fn request_summary(&self) -> String {
        String::new()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_ref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        if !self.is_ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_read()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_body_empty(&mut self) -> bool {
        self.has_no_body()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body_or_end(cx, no_body_expected)).await
    }

    fn body_bytes_sent(&self) -> usize {
        self.bytes_sent
    }

    fn body_bytes_read(&self) -> usize {
        self.bytes_read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    /// Asked for by subrequests alone, which the proxy does not make.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_with(|| FixedBuffer::new(KEPT));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.kept.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.kept.as_ref().filter(|kept| !kept.is_truncated()).and_then(FixedBuffer::get_buffer)
    }

    // Messages beside the bodies, which HTTP does not have.
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures_util::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn futures_util::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
