//! The admin listener's socket: it stays open longer than the public ones, and idle connections cannot block probes.

use crate::edge::connection::stream::Watched;
use crate::edge::connection::{Connection, Limits, answer_has_ended, head_is_read};
use crate::edge::connections::OpenConnections;
use crate::edge::sockets::Sockets;
use async_trait::async_trait;
use http::{Request, Response};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service as PingoraService;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::watch;

fn socket_for(address: SocketAddr) -> std::io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Keeps answering while the process drains, and reports that it drains.
pub(super) struct AdminService {
    pub(super) address: SocketAddr,
    pub(super) sockets: Arc<Sockets>,
    pub(super) answer: AnswerAdmin,
}

/// Answers a request to the admin listener. A body of `None` was longer than [`MAX_BODY`] or could not be read.
pub type AnswerAdmin =
    Arc<dyn Fn(Request<Option<Vec<u8>>>) -> Pin<Box<dyn Future<Output = Response<Vec<u8>>> + Send>> + Send + Sync>;

/// The longest body that is read.
const MAX_BODY: usize = 64 << 10;

/// At this many open connections, each new one replaces the oldest that serves no request.
const MOST_ADMIN: usize = 256;
const ADMIN_LIMITS: Limits = Limits { head: Duration::from_secs(10), idle: Duration::from_secs(75) };
const UNREADABLE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// How long to wait after a failed accept.
const PAUSE: Duration = Duration::from_millis(20);

#[async_trait]
impl PingoraService for AdminService {
    async fn start_service(&mut self, fds: Option<ListenFds>, _shutdown: ShutdownWatch, _listeners_per_fd: usize) {
        if let Some(table) = fds {
            self.sockets.see(table);
        }
        // SO_REUSEPORT, so that during an upgrade the new process can listen beside the old one.
        let bound = socket_for(self.address).and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(self.address)?;
            socket.listen(128)
        });
        let listener = match bound {
            Ok(listener) => listener,
            Err(problem) => {
                tracing::error!(address = %self.address, %problem, "cannot listen");
                std::process::exit(1);
            }
        };
        // Never signals shutdown: admin connections end with the process.
        let (_stays, shutdown) = watch::channel(false);
        let app = Arc::new(Answering(self.answer.clone()));
        let connections = Arc::new(OpenConnections::default());
        let swept = connections.clone();
        tokio::spawn(async move { swept.keep_swept(ADMIN_LIMITS.step()).await });
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Head and body are written one after the other, and each answer would wait for the client's ACK.
                    let _ = stream.set_nodelay(true);
                    let (app, shutdown) = (app.clone(), shutdown.clone());
                    // Probes must be served even if other clients hold connections open.
                    connections.make_room(MOST_ADMIN);
                    let connection = Connection::accepted(ADMIN_LIMITS);
                    let open = connections.enter(&connection);
                    tokio::spawn(async move {
                        let _open = open;
                        let stream = Box::new(L4Stream::from(stream));
                        let watched = Watched::new(stream, connection.clone(), Arc::new(|_, _| UNREADABLE.to_vec()));
                        connection.serve(app.process_new(Box::new(watched), &shutdown)).await
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await, // no file descriptors are left
            }
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    /// Empty: this socket is not handed over. Once every service lists its addresses, Pingora closes inherited sockets
    /// that no service uses.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

struct Answering(AnswerAdmin);

#[async_trait]
impl pingora_core::apps::http_app::ServeHttp for Answering {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        head_is_read();
        let mut request = Request::from_parts((**session.req_header()).clone(), None);
        *request.body_mut() = read_body(session).await;
        let client = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        request.extensions_mut().insert(client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let response = (self.0)(request).await;
        answer_has_ended();
        response
    }
}

async fn read_body(session: &mut ServerSession) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await.ok()? {
        if body.len() + chunk.len() > MAX_BODY {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}
