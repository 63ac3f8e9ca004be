//! Wraps a connection's stream: reports to [`Connection`] what arrives, and replaces Pingora's response to a head that
//! it could not parse with the gateway's own.

use crate::edge::connection::frames::{Frames, SIGNED_OUT};
use crate::edge::connection::{Connection, Unreadable};
use async_trait::async_trait;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Builds the gateway's own response to an unreadable head, as wire bytes.
pub type AnswerUnreadable = Arc<dyn Fn(Unreadable, IpAddr) -> Vec<u8> + Send + Sync>;

/// The stream of a connection.
pub struct Watched {
    inner: Stream,
    connection: Arc<Connection>,
    is_http2: bool,
    answer: AnswerUnreadable,
    /// The gateway's response in place of Pingora's, and how much of it is written.
    instead: Option<(Vec<u8>, usize)>,
    /// Of a WebSocket.
    frames: Option<Frames>,
    /// How much of our own Close frame is written; nothing of the app's follows it.
    closing: Option<usize>,
}

impl Watched {
    pub fn new(inner: Stream, connection: Arc<Connection>, answer: AnswerUnreadable) -> Self {
        let is_http2 = matches!(inner.selected_alpn_proto(), Some(ALPN::H2));
        Watched { inner, connection, is_http2, answer, instead: None, frames: None, closing: None }
    }

    /// `None` for HTTP/2: there, no head is answered before the proxy has seen it.
    fn unreadable_head(&self) -> Option<Unreadable> {
        if self.is_http2 { None } else { self.connection.unreadable_head() }
    }

    /// Closes a WebSocket from the gateway's side, as soon as no frame of the app's is half written; then waits for the
    /// client to close its own. `None`: not yet.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Option<Poll<std::io::Result<()>>> {
        let is_begun = self.closing.is_some();
        self.frames.as_ref().filter(|frames| is_begun || frames.are_between())?;
        match self.poll_close_frame(cx) {
            Poll::Ready(Ok(())) => Some(self.poll_drain(cx)),
            polled => Some(polled),
        }
    }

    /// Writes our Close frame, unless the app has sent its own.
    fn poll_close_frame(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let are_closed = self.frames.as_ref().is_some_and(|frames| frames.are_closed);
        let written = self.closing.get_or_insert(if are_closed { SIGNED_OUT.len() } else { 0 });
        while let Some(rest) = SIGNED_OUT.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                n => *written += n,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the client still sends, to its end: a connection that is closed over unread bytes is reset, and the
    /// Close frame may be lost.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        let mut unread = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }

    /// What is still written of a WebSocket that is to be closed: the rest of the frame under way. `None`: all.
    fn left_of_frame<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let frames = self.frames.as_ref().filter(|_| self.connection.is_closing.load(Relaxed))?;
        bytes.get(..frames.rest_of_frame(bytes))
    }

    /// What was written belongs to a WebSocket.
    fn follow(&mut self, written: &[u8]) {
        if self.connection.is_tunnel.load(Relaxed) {
            self.frames.get_or_insert_default().wrote(written);
        }
    }

    /// Writes the gateway's response, then reports Pingora's `swallowed` bytes as written without writing them.
    fn poll_instead(
        &mut self,
        cx: &mut Context<'_>,
        unreadable: Unreadable,
        swallowed: usize,
    ) -> Poll<std::io::Result<usize>> {
        let answer = &self.answer;
        let peer = self.inner.get_socket_digest().and_then(|digest| digest.peer_addr()?.as_inet().map(|a| a.ip()));
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (bytes, written) = self.instead.get_or_insert_with(|| (answer(unreadable, peer), 0));
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.inner).poll_write(cx, rest) {
                Poll::Ready(Ok(n)) => *written += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(swallowed))
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

/// A boxed stream as a type of its own, which the TLS handshake needs.
#[derive(Debug)]
pub struct Boxed(pub Stream);

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.connection.gave_up() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        if self.connection.is_closing.load(Relaxed)
            && self.connection.is_tunnel.load(Relaxed)
            && let Some(polled) = self.poll_close(cx)
        {
            return polled;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(read) = buf.filled_mut().get_mut(before..).filter(|read| !read.is_empty()) {
            self.connection.moved();
            if self.is_http2 { self.connection.received_http2(read.len()) } else { self.connection.received(read) }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.closing.is_some() {
            ready!(self.poll_close_frame(cx))?;
            return Poll::Ready(Ok(buf.len()));
        }
        match self.unreadable_head() {
            Some(unreadable) => self.poll_instead(cx, unreadable, buf.len()),
            None => {
                let buf = match self.left_of_frame(buf) {
                    Some([]) => {
                        ready!(self.poll_close_frame(cx))?;
                        return Poll::Ready(Ok(buf.len()));
                    }
                    Some(rest) => rest,
                    None => buf,
                };
                let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
                self.connection.wrote(polled.is_pending());
                if let Poll::Ready(Ok(written)) = polled {
                    self.follow(buf.get(..written).unwrap_or_default());
                }
                polled
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.connection.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let whole = bufs.iter().map(|b| b.len()).sum();
        if self.closing.is_some() {
            ready!(self.poll_close_frame(cx))?;
            return Poll::Ready(Ok(whole));
        }
        if self.connection.is_closing.load(Relaxed) {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&b""[..], |buf| buf);
            return self.poll_write(cx, first);
        }
        match self.unreadable_head() {
            Some(unreadable) => self.poll_instead(cx, unreadable, whole),
            None => {
                let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
                self.connection.wrote(polled.is_pending());
                if let Poll::Ready(Ok(mut left)) = polled {
                    for buf in bufs {
                        let written = left.min(buf.len());
                        self.follow(buf.get(..written).unwrap_or_default());
                        left -= written;
                    }
                }
                polled
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl AsyncRead for Boxed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Boxed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Implements Pingora's stream traits by delegating to the inner stream.
macro_rules! tells_as_inside {
    ($wrapper:ty, $inside:tt) => {
        #[async_trait]
        impl Shutdown for $wrapper {
            async fn shutdown(&mut self) {
                self.$inside.shutdown().await;
            }
        }

        impl UniqueID for $wrapper {
            fn id(&self) -> UniqueIDType {
                self.$inside.id()
            }
        }

        impl Ssl for $wrapper {
            fn get_ssl(&self) -> Option<&TlsRef> {
                self.$inside.get_ssl()
            }

            fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
                self.$inside.get_ssl_digest()
            }

            fn selected_alpn_proto(&self) -> Option<ALPN> {
                self.$inside.selected_alpn_proto()
            }
        }

        impl GetTimingDigest for $wrapper {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                self.$inside.get_timing_digest()
            }
        }

        impl GetProxyDigest for $wrapper {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                self.$inside.get_proxy_digest()
            }
        }

        impl GetSocketDigest for $wrapper {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                self.$inside.get_socket_digest()
            }
        }

        #[async_trait]
        impl Peek for $wrapper {
            async fn try_peek(&mut self, buf: &mut [u8]) -> std::io::Result<bool> {
                self.$inside.try_peek(buf).await
            }
        }
    };
}

tells_as_inside!(Watched, inner);
tells_as_inside!(Boxed, 0);
