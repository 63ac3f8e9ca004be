//! A loopback HTTP server that can be stopped for good: the listener and every open connection, also those whose
//! answer hangs. The provider and the sample app stand on it. It must not know what they answer.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long `stop` waits for connections to notice; they do at their next poll, so this is never reached in health.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server. Dropping it stops it too, without waiting.
pub(super) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct StoppableListener {
    listener: TcpListener,
    stop: watch::Receiver<bool>,
}

/// A client's connection that fails as soon as the server is stopped.
struct Connection {
    stream: TcpStream,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    closed: bool,
}

impl Server {
    /// Listens on 127.0.0.1 and nowhere else; port 0 is any free one, which `router` is told.
    pub(super) async fn start(port: u16, router: impl FnOnce(SocketAddr) -> Router) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let listener = StoppableListener { listener, stop: stopped.clone() };
        let serving = axum::serve(listener, router(address)).with_graceful_shutdown(stop_signal(stopped));
        // axum's serve never ends in an error: accept errors are waited out.
        let task = tokio::spawn(async move { drop(serving.await) });
        Ok(Self { address, stop, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the port is free again.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP_WAIT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Listener for StoppableListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let stopped = Box::pin(stop_signal(self.stop.clone()));
                    return (Connection { stream, stopped, closed: false }, peer);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<&mut TcpStream> {
        self.closed = self.closed || self.stopped.as_mut().poll(context).is_ready();
        if self.closed { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(&mut self.stream) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.check(cx) {
            Ok(stream) => Pin::new(stream).poll_read(cx, buffer),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.check(cx) {
            Ok(stream) => Pin::new(stream).poll_write(cx, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Ready when the server was told to stop, or its handle is gone.
async fn stop_signal(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which stops the server as well.
    drop(stop.wait_for(|stopped| *stopped).await);
}
