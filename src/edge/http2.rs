//! Accepts requests over HTTP/2. Pingora's own loop and session are not used, because they drop 1xx responses, answer some
//! malformed requests without asking the gate, and keep a request's time-outs as they were before its response was known.

mod session;

use crate::edge::connection::{Connection, Limits};
use crate::edge::http2::session::Http2Session;
use crate::edge::proxy::Proxy;
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use http::{Method, Request};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Digest, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The HTTP/2 side of one worker's listener.
pub(super) struct Http2 {
    proxy: Arc<HttpProxy<Proxy>>,
    limits: Limits,
    builder: Builder,
}

/// The gate limits heads over HTTP/2 like others; this bounds what h2 buffers before that.
const MAX_HEADER_LIST: u32 = 1 << 18;
/// Concurrent requests on one connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of a response that wait for the client, for each stream: h2 would keep 400 KiB.
const MAX_SEND_BUFFER: usize = 64 << 10;

/// Counts the requests of one connection that are being served.
#[derive(Default)]
struct Active {
    count: AtomicUsize,
    none: Notify,
}

/// One of them.
struct Counted(Arc<Active>);

impl Http2 {
    pub(super) fn new(proxy: Arc<HttpProxy<Proxy>>, limits: Limits, max_head: usize) -> Self {
        let mut builder = Builder::new();
        builder
            .max_header_list_size(MAX_HEADER_LIST.max(u32::try_from(max_head).unwrap_or(u32::MAX).saturating_mul(2)))
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(MAX_SEND_BUFFER);
        Http2 { proxy, limits, builder }
    }

    /// Serves one connection until the client closes it, it breaks, or it has carried no request for the idle time.
    /// From the stop signal on it takes only the requests that the client sent before it knew (RFC 9113, 6.8).
    pub(super) async fn serve(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let Ok(mut connection) = self.builder.handshake::<_, Bytes>(stream).await else { return };
        let (active, mut signal, mut is_ending) = (Arc::new(Active::default()), shutdown.clone(), false);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = signal.changed(), if !is_ending => {
                    connection.graceful_shutdown();
                    is_ending = true;
                    continue;
                }
                accepted = connection.accept() => accepted,
                () = active.is_idle_for(self.limits.idle), if !is_ending => return,
            };
            let Some(Ok((request, respond))) = accepted else { return };
            let (this, digest, shutdown) = (self.clone(), digest.clone(), shutdown.clone());
            let counted = active.count();
            tokio::spawn(async move {
                let _counted = counted;
                this.serve_request(request, respond, digest, &shutdown).await;
            });
        }
    }

    async fn serve_request(
        &self,
        request: Request<h2::RecvStream>,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
        shutdown: &ShutdownWatch,
    ) {
        let connection = Connection::of_request(self.limits, is_odd(&request));
        let session = Http2Session::new(request, respond, digest, connection.clone());
        let session = ServerSession::new_custom(Box::new(session));
        connection.serve(self.proxy.process_new_http(session, shutdown)).await;
    }
}

/// `:path` is neither a path nor `*` (RFC 9113, 8.3.1), or `:authority` has user information.
fn is_odd(request: &Request<h2::RecvStream>) -> bool {
    let uri = request.uri();
    let has_path = request.method() == Method::CONNECT || uri.path().starts_with('/') || uri.path() == "*";
    !has_path || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

impl Active {
    fn count(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    async fn is_idle_for(&self, idle: std::time::Duration) {
        while self.count.load(Ordering::Relaxed) != 0 {
            self.none.notified().await;
        }
        tokio::time::sleep(idle).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}
