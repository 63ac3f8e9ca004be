//! Listeners: one single-threaded service per worker on one port (SO_REUSEPORT), each with its own upstream
//! connections, so that a connection and all that it needs stay on one thread; and the [`Frontend`] before the proxy,
//! which counts connections, limits their number and duration, and does the TLS handshake.

use crate::edge::access_entry::AccessEntry;
use crate::edge::connection::stream::{AnswerUnreadable, Boxed, Watched};
use crate::edge::connection::{Connection, Limits, Unreadable};
use crate::edge::connections::{Capacity, Connections};
use crate::edge::live::LiveConfig;
use crate::edge::proxy::Proxy;
use crate::edge::sockets::spelled;
use crate::edge::tls::Certificates;
use crate::edge::{Common, Settings, ending, reply};
use crate::gate::protocol::MAX_FIELDS;
use crate::telemetry::access_log::AccessLog;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::listeners::{ConnectionFilter, L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::http::ServerSession as HttpSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::protocols::{ALPN, Ssl, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Semaphore;

/// The Pingora service of one worker.
pub type FrontendService = Service<Frontend>;

/// The application to which Pingora passes every accepted connection.
pub struct Frontend {
    proxy: Arc<HttpProxy<Proxy>>,
    http2: Arc<Http2>,
    connections: Arc<Connections>,
    capacity: Arc<Capacity>,
    limits: Limits,
    certificates: Option<Arc<Certificates>>,
    answer: AnswerUnreadable,
}

/// The proxy for HTTP/2: each request can be ended from outside.
struct Http2(Arc<HttpProxy<Proxy>>);

/// At the connection limit, the accept loop waits here until a connection closes.
#[derive(Debug)]
struct ConnectionCap(Arc<Semaphore>);

/// A permit of the connection limit, released when its connection ends.
struct Occupied<'a>(&'a Frontend);

/// A client connection's read buffer: enough for a head with a large token; Pingora's default is four times that.
const READ_BUFFER: usize = 16 * 1024;
/// The gate limits HTTP/2 heads like others; this bounds what h2 buffers before that.
const MAX_HEADER_LIST: u32 = 1 << 18;
/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of an answer that wait for a client over HTTP/2, for each stream: h2 would keep 400 KiB.
const MAX_SEND_BUFFER: usize = 64 << 10;

/// The services of one listener, one for each worker.
pub fn services(
    settings: &Settings,
    certificates: Option<&Arc<Certificates>>,
    capacity: &Arc<Capacity>,
    common: &Common,
    conf: &Arc<ServerConf>,
) -> Vec<FrontendService> {
    let Common { live, access_log, connections, workers, .. } = common;
    let places = capacity.places.clone();
    let service = |shard: usize| {
        let proxy = Arc::new(http_proxy(Proxy::new(settings, capacity.clone(), common), settings, conf));
        let frontend = Frontend {
            http2: Arc::new(Http2(proxy.clone())),
            proxy,
            connections: connections.clone(),
            capacity: capacity.clone(),
            limits: settings.limits(),
            certificates: certificates.cloned(),
            answer: answer_unreadable(live, settings.max_head.bytes(), access_log),
        };
        let mut service = Service::new(format!("{} {shard}", *settings.address), frontend);
        service.threads = Some(1);
        service.set_connection_filter(Arc::new(ConnectionCap(places.clone())));
        let mut socket = TcpSocketOptions::default(); // `#[non_exhaustive]`: no struct literal is possible
        socket.so_reuseport = Some(true);
        let buffers = L4BufferSettings { read: Some(READ_BUFFER), ..L4BufferSettings::default() };
        service.add_listener(
            ListenerConfig::tcp(spelled(*settings.address, shard)).tcp_socket_options(socket).l4_buffer(buffers),
        );
        service
    };
    (0..*workers).map(service).collect()
}

/// Pingora answers a head that it cannot parse before any phase of the proxy runs; this is the gate's reply instead.
fn answer_unreadable(live: &LiveConfig, max_head: usize, access_log: &AccessLog) -> AnswerUnreadable {
    let (live, access_log) = (live.clone(), access_log.clone());
    Arc::new(move |head: Unreadable, peer: IpAddr| {
        let gate = &live.load().gate;
        let (reply, audit) = gate.refuse_unreadable(head.bytes > max_head || head.lines > MAX_FIELDS + 1, peer);
        if let Some(mut line) =
            AccessEntry::of(&access_log, &audit, "", b"", gate.clock.now(), std::time::Instant::now())
        {
            line.told(reply.status.as_u16(), &audit);
        }
        reply::to_wire(&reply)
    })
}

fn http_proxy(proxy: Proxy, settings: &Settings, conf: &Arc<ServerConf>) -> HttpProxy<Proxy> {
    let mut http = HttpProxy::new(proxy, conf.clone());
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true; // so that CONNECT reaches the gate, which refuses it
    options.h2_idle_timeout = Some(*settings.idle_timeout);
    http.server_options = Some(options);
    let mut h2 = H2Options::new();
    h2.max_header_list_size(
        MAX_HEADER_LIST.max(u32::try_from(settings.max_head.bytes()).unwrap_or(u32::MAX).saturating_mul(2)),
    );
    h2.max_concurrent_streams(MAX_STREAMS);
    h2.max_send_buffer_size(MAX_SEND_BUFFER);
    http.h2_options = Some(h2);
    http
}

#[async_trait]
impl ConnectionFilter for ConnectionCap {
    async fn should_accept(&self, _peer: Option<&SocketAddr>) -> bool {
        match self.0.acquire().await {
            Ok(place) => {
                place.forget(); // `Occupied` releases it
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.0.capacity.open.fetch_sub(1, Ordering::Relaxed);
        self.0.capacity.places.add_permits(1);
    }
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: HttpSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        ending::serve_request(self.0.process_new_http(session, shutdown)).await.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }
}

#[async_trait]
impl ServerApp for Frontend {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let connection = Connection::accepted(self.limits);
        self.capacity.open.fetch_add(1, Ordering::Relaxed);
        let (_occupied, _open) = (Occupied(self), self.connections.open.enter(&connection));
        let stream: Stream = match &self.certificates {
            None => stream,
            Some(certificates) => {
                // The deadline of the first head holds for the handshake, too; who fails here has sent no request yet.
                let acceptor = certificates.acceptor();
                Box::new(connection.serve(acceptor.tls_handshake(Boxed(stream))).await?.ok()?)
            }
        };
        let watched = Box::new(Watched::new(stream, connection.clone(), self.answer.clone()));
        match watched.selected_alpn_proto() {
            Some(ALPN::H2) => connection.serve(self.http2.process_new(watched, shutdown)).await.flatten(),
            _ => connection.serve(self.proxy.process_new(watched, shutdown)).await.flatten(),
        }
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}
