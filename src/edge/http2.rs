//! Accepts requests over HTTP/2. Pingora's own loop and session are not used, because they drop 1xx responses, answer some
//! malformed requests without asking the gate, and keep a request's time-outs as they were before its response was known.

mod session;

use crate::edge::connection::{Connection, Limits, wait_for_reader};
use crate::edge::connections::OpenConnections;
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
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

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
/// Bytes of all request bodies of a connection that wait for the app; of one at most 64 KiB. With h2's own 64 KiB for all, one
/// app that does not read would hold up every other upload, and a burst of small messages would end the connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How long an idle client is given to take the GOAWAY, and a request to take notice that its client has gone.
const NOTICE: Duration = Duration::from_secs(5);
/// How long a client may take to read a piece, at least; the routes of a connection differ in it.
const READER: Duration = Duration::from_secs(60);
/// The longest that an idle connection is kept for what its client has not read yet, whatever else it sends.
const TAIL: Duration = Duration::from_secs(600);
/// Of the worker, for requests that were cut.
const TURNS: usize = 1000;

impl Http2 {
    pub(super) fn new(proxy: Arc<HttpProxy<Proxy>>, limits: Limits, max_head: usize) -> Self {
        let mut builder = Builder::new();
        builder
            .max_header_list_size(MAX_HEADER_LIST.max(u32::try_from(max_head).unwrap_or(u32::MAX).saturating_mul(2)))
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Http2 { proxy, limits, builder }
    }

    /// Serves one connection until the client closes it, it breaks, is cut, or has carried no request for the idle time.
    pub(super) async fn serve(
        self: &Arc<Self>,
        stream: Stream,
        connection: &Arc<Connection>,
        shutdown: &ShutdownWatch,
    ) {
        let requests = Arc::new(OpenConnections::default());
        let accepting = self.accept_from(stream, connection, shutdown, &requests);
        // A request whose app takes no more of its body does not look at the client.
        if connection.serve(accepting).await.is_some() {
            if !requests.is_empty() {
                tokio::spawn(async move {
                    sleep(NOTICE).await;
                    requests.cut_all();
                });
            }
            return;
        }
        requests.cut_all();
        for _ in 0..TURNS {
            if requests.is_empty() {
                break;
            }
            yield_now().await; // for their last words in the log
        }
    }

    /// From the stop signal on, and once it has been idle, it takes only the requests that the client sent before it knew
    /// (RFC 9113, 6.8).
    async fn accept_from(
        self: &Arc<Self>,
        stream: Stream,
        tcp: &Connection,
        shutdown: &ShutdownWatch,
        requests: &Arc<OpenConnections>,
    ) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let Ok(mut connection) = self.builder.handshake::<_, Bytes>(stream).await else { return };
        wait_for_reader(self.limits.idle.max(READER));
        let (mut signal, mut is_ending, mut was_idle) = (shutdown.clone(), false, false);
        let step = self.limits.step();
        let mut sweep = interval_at(Instant::now() + step, step);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = signal.changed(), if !is_ending => {
                    connection.graceful_shutdown();
                    is_ending = true;
                    continue;
                }
                _ = sweep.tick(), if !requests.is_empty() => {
                    requests.sweep(Instant::now());
                    continue;
                }
                accepted = connection.accept() => accepted,
                () = sleep(self.limits.idle), if !is_ending && requests.is_empty() => {
                    connection.graceful_shutdown();
                    (is_ending, was_idle) = (true, true);
                    continue;
                }
                // A client that reads slowly is still sent what waits for it.
                _ = timeout(TAIL, tcp.stands_still(NOTICE)), if was_idle && requests.is_empty() => return,
            };
            let Some(Ok((request, respond))) = accepted else { return };
            let (this, requests) = (self.clone(), requests.clone());
            let (digest, shutdown) = (digest.clone(), shutdown.clone());
            let connection = Connection::of_request(self.limits, is_odd(&request));
            let open = requests.enter(&connection);
            tokio::spawn(async move {
                let _open = open;
                this.serve_request(request, respond, digest, connection, &shutdown).await;
            });
        }
    }

    async fn serve_request(
        &self,
        request: Request<h2::RecvStream>,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
        connection: Arc<Connection>,
        shutdown: &ShutdownWatch,
    ) {
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
