//! Listeners: one single-threaded service per worker on one port (SO_REUSEPORT), each with its own upstream
//! connections, so that a connection and all that it needs stay on one thread; and the [`Frontend`] before the proxy,
//! which counts connections, limits their number and duration, and does the TLS handshake.

use crate::edge::access_entry::AccessEntry;
use crate::edge::connection::stream::{AnswerUnreadable, Boxed, Watched};
use crate::edge::connection::{Connection, Limits, Unreadable};
use crate::edge::connections::{Capacity, Connections};
use crate::edge::http2::Http2;
use crate::edge::live::LiveConfig;
use crate::edge::proxy::Proxy;
use crate::edge::sockets::spelled;
use crate::edge::tls::Certificates;
use crate::edge::{Common, Settings, reply};
use crate::gate::protocol::MAX_FIELDS;
use crate::telemetry::access_log::AccessLog;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::{ConnectionFilter, L4BufferSettings, ListenerConfig, TcpSocketOptions};
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

/// At the connection limit, the accept loop waits here until a connection closes.
#[derive(Debug)]
struct ConnectionCap(Arc<Semaphore>);

/// A permit of the connection limit, released when its connection ends.
struct Occupied<'a>(&'a Frontend);

/// A client connection's read buffer: enough for a head with a large token; Pingora's default is four times that.
const READ_BUFFER: usize = 16 * 1024;

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
        let proxy = Arc::new(http_proxy(Proxy::new(settings, capacity.clone(), common), conf));
        let frontend = Frontend {
            http2: Arc::new(Http2::new(proxy.clone(), settings.limits(), settings.max_head.bytes())),
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

fn http_proxy(proxy: Proxy, conf: &Arc<ServerConf>) -> HttpProxy<Proxy> {
    let mut http = HttpProxy::new(proxy, conf.clone());
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true; // so that CONNECT reaches the gate, which refuses it
    http.server_options = Some(options);
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
        if matches!(watched.selected_alpn_proto(), Some(ALPN::H2)) {
            self.http2.serve(watched, &connection, shutdown).await;
            return None;
        }
        connection.serve(self.proxy.process_new(watched, shutdown)).await.flatten()
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}
