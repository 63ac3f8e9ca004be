//! Listeners: one single-thread service per core on one port (SO_REUSEPORT), each with its own upstream connections,
//! so that a connection and all that it needs stay on one thread; and the door in front of the proxy, which counts,
//! limits and times connections and does the TLS handshake.

use crate::edge::connection::stream::{AnswerUnreadable, Boxed, Watched};
use crate::edge::connection::{Connection, Limits, Unreadable, Watch};
use crate::edge::line::Line;
use crate::edge::proxy::Proxy;
use crate::edge::tls::{CertificateFiles, Certificates};
use crate::edge::{LiveConfig, reply};
use crate::gate::protocol::MAX_FIELDS;
use crate::watch::access::AccessLog;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::listeners::{ConnectionFilter, L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// One listener, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    pub redirect_to_https: bool,
    pub max_head: usize,
    pub limits: Limits,
    pub max_connections: usize,
    /// Empty: plain HTTP.
    pub certificates: Vec<CertificateFiles>,
}

/// What all listeners and shards count together.
#[derive(Default)]
pub struct Traffic {
    pub in_flight: AtomicUsize,
    pub draining: AtomicBool,
    /// What requests in flight are given when the process is told to stop, in milliseconds; a reload changes it.
    pub grace: AtomicU64,
    open: Mutex<HashMap<u64, Watch>>,
    next: AtomicU64,
}

/// A service of Pingora's for each worker.
pub type DoorService = Service<Door>;

/// The application that Pingora hands every accepted connection.
pub struct Door {
    proxy: Arc<HttpProxy<Proxy>>,
    traffic: Arc<Traffic>,
    places: Arc<Semaphore>,
    limits: Limits,
    acceptor: Option<Acceptor>,
    answer: AnswerUnreadable,
}

/// Not accepted until one closes: the accept loop waits here for a place.
#[derive(Debug)]
struct Places(Arc<Semaphore>);

/// A place that is given back when its connection ends.
struct Occupied<'a> {
    door: &'a Door,
    id: u64,
}

/// A client connection's read buffer: enough for a head with a large token; Pingora's own is four times that.
const READ_BUFFER: usize = 16 * 1024;
/// HTTP/2 heads are limited by the gate like others; this bounds what h2 itself gathers before.
const MAX_HEADER_LIST: u32 = 1 << 18;
const MAX_STREAMS: u32 = 128;

impl Traffic {
    pub fn set_grace(&self, grace: Duration) {
        self.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Cuts every connection that is open.
    pub fn cut_all(&self) {
        self.open.lock().values().for_each(Watch::cut);
    }

    /// Cuts what waits for longer than its limits allow; runs until it is dropped.
    pub async fn keep_swept(self: Arc<Self>, step: Duration) {
        loop {
            tokio::time::sleep(step).await;
            let now = Instant::now();
            self.open.lock().values_mut().for_each(|watch| watch.sweep(now));
        }
    }

    pub fn connections(&self) -> usize {
        self.open.lock().len()
    }
}

/// The services of one listener, one for each worker.
pub fn services(
    settings: &Settings,
    certificates: Option<&Arc<Certificates>>,
    workers: usize,
    live: &LiveConfig,
    access_log: &AccessLog,
    traffic: &Arc<Traffic>,
    conf: &Arc<ServerConf>,
) -> Vec<DoorService> {
    let places = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let service = |shard: usize| {
        let proxy = Proxy::new(live.clone(), settings, access_log.clone(), traffic.clone());
        let door = Door {
            proxy: Arc::new(http_proxy(proxy, settings, conf)),
            traffic: traffic.clone(),
            places: places.clone(),
            limits: settings.limits,
            acceptor: certificates.map(|certificates| Acceptor::from_server_config(certificates.server_config())),
            answer: answer_unreadable(live, settings.max_head, access_log),
        };
        let mut service = Service::new(format!("{} {shard}", settings.address), door);
        service.threads = Some(1);
        service.set_connection_filter(Arc::new(Places(places.clone())));
        let mut socket = TcpSocketOptions::default(); // not exhaustive: it cannot be written as one expression
        socket.so_reuseport = Some(true);
        let buffers = L4BufferSettings { read: Some(READ_BUFFER), ..L4BufferSettings::default() };
        service.add_listener(
            ListenerConfig::tcp(spelled(settings.address, shard)).tcp_socket_options(socket).l4_buffer(buffers),
        );
        service
    };
    (0..workers).map(service).collect()
}

/// Pingora answers a head that it cannot parse before any phase of the proxy; these are the gate's words for it.
fn answer_unreadable(live: &LiveConfig, max_head: usize, access_log: &AccessLog) -> AnswerUnreadable {
    let (live, access_log) = (live.clone(), access_log.clone());
    Arc::new(move |head: Unreadable, peer: IpAddr| {
        let gate = &live.load().gate;
        let (reply, notes) = gate.refuse_unreadable(head.bytes > max_head || head.lines > MAX_FIELDS + 1, peer);
        if let Some(mut line) = Line::of(&access_log, &notes, "", b"", gate.clock.now(), std::time::Instant::now()) {
            line.told(reply.status.as_u16(), &notes);
        }
        reply::to_wire(&reply)
    })
}

fn http_proxy(proxy: Proxy, settings: &Settings, conf: &Arc<ServerConf>) -> HttpProxy<Proxy> {
    let mut http = HttpProxy::new(proxy, conf.clone());
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true; // so that the gate answers CONNECT in its own words: with a refusal
    options.h2_idle_timeout = Some(settings.limits.idle);
    http.server_options = Some(options);
    let mut h2 = H2Options::new();
    h2.max_header_list_size(
        MAX_HEADER_LIST.max(u32::try_from(settings.max_head).unwrap_or(u32::MAX).saturating_mul(2)),
    );
    h2.max_concurrent_streams(MAX_STREAMS);
    http.h2_options = Some(h2);
    http
}

/// Pingora keys its listening sockets by the address as text: services with one spelling share one socket. Leading
/// zeros in the port make the spellings differ, and the address stays the same.
fn spelled(address: SocketAddr, shard: usize) -> String {
    let port = format!("{}{}", "0".repeat(shard), address.port());
    match address {
        SocketAddr::V4(v4) => format!("{}:{port}", v4.ip()),
        SocketAddr::V6(v6) => format!("[{}]:{port}", v6.ip()),
    }
}

#[async_trait]
impl ConnectionFilter for Places {
    async fn should_accept(&self, _peer: Option<&SocketAddr>) -> bool {
        match self.0.acquire().await {
            Ok(place) => {
                place.forget(); // the door gives it back
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.door.traffic.open.lock().remove(&self.id);
        self.door.places.add_permits(1);
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let connection = Connection::accepted(self.limits);
        let id = self.traffic.next.fetch_add(1, Ordering::Relaxed);
        let _occupied = Occupied { door: self, id };
        self.traffic.open.lock().insert(id, Watch::over(connection.clone()));
        let stream: Stream = match &self.acceptor {
            None => stream,
            Some(acceptor) => {
                // Within the same time as a request's head; a client that fails here has asked for nothing yet.
                let handshake = acceptor.tls_handshake(Boxed(stream));
                Box::new(timeout(self.limits.head, handshake).await.ok()?.ok()?)
            }
        };
        let watched = Box::new(Watched::new(stream, connection.clone(), self.answer.clone()));
        connection.serve(self.proxy.process_new(watched, shutdown)).await.flatten()
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}
