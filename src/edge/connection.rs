//! What Pingora leaves open on a connection: a deadline for each whole request head, a time-out between requests, an
//! end from outside, and the words of the answer to a head that it cannot read. Every accepted stream is wrapped; the
//! wrapper sees the first byte of a head arrive, the proxy's phases tell when a head is whole and an answer has ended.

use async_trait::async_trait;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The state of one connection, shared by its wrapper, its watch and the proxy.
#[derive(Debug)]
pub struct Connection {
    begun: Instant,
    limits: Limits,
    /// Milliseconds after `begun` at which the connection ends unless something happens; 0 while a request is served.
    deadline: AtomicU64,
    /// The deadline is that of a pause between requests: the next byte begins a head.
    pausing: AtomicBool,
    /// A head is being read, and no phase of the proxy has seen it yet.
    reading_head: AtomicBool,
    /// Bytes and lines of that head.
    received: AtomicUsize,
    lines: AtomicUsize,
    /// The request line holds a byte that the parser would rewrite or drop: a control, `#`, or what is no ASCII.
    odd_line: AtomicBool,
    cut: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a whole request head.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
}

tokio::task_local! {
    /// The connection that this task serves. HTTP/2 requests have tasks of their own and none.
    static CURRENT: Arc<Connection>;
}

/// The client's connection preface with an empty SETTINGS frame (RFC 9113, 3.4).
const HTTP2_PREFACE: usize = 24 + 9;

/// The head of a request has been read: no deadline while it is served.
pub fn head_is_read() {
    let _ = CURRENT.try_with(|connection| {
        connection.reading_head.store(false, Relaxed);
        connection.deadline.store(0, Relaxed);
    });
}

/// Whether the request line held bytes that the parser has rewritten or dropped.
pub fn line_was_odd() -> bool {
    CURRENT.try_with(|connection| connection.odd_line.load(Relaxed)).unwrap_or(false)
}

/// An answer has ended: the pause before the next request begins.
pub fn answer_has_ended() {
    let _ = CURRENT.try_with(|connection| {
        connection.pausing.store(true, Relaxed);
        connection.end_after(connection.limits.idle);
    });
}

impl Connection {
    /// A connection that must bring its first head in time.
    pub fn accepted(limits: Limits) -> Arc<Self> {
        let connection = Connection {
            begun: Instant::now(),
            limits,
            deadline: AtomicU64::new(0),
            pausing: AtomicBool::new(false),
            reading_head: AtomicBool::new(true),
            received: AtomicUsize::new(0),
            lines: AtomicUsize::new(0),
            odd_line: AtomicBool::new(false),
            cut: Notify::new(),
        };
        connection.end_after(limits.head);
        Arc::new(connection)
    }

    /// Runs `work` for this connection until it ends or a deadline has passed; `None` for the latter.
    pub async fn serve<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = CURRENT.scope(self.clone(), work) => Some(done),
            () = self.expired() => None,
            () = self.cut.notified() => None,
        }
    }

    /// From here on bytes are HTTP/2: frames have no heads that drip, and h2 has its own time-out for idle connections.
    /// What is awaited is the preface.
    fn speaks_http2(&self) {
        self.reading_head.store(false, Relaxed);
        self.received.store(0, Relaxed);
        self.end_after(self.limits.head);
    }

    /// Ends the connection, whatever runs on it: a tunnel, too, which no filter of the proxy can reach.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    async fn expired(&self) {
        // A deadline may move nearer while this sleeps; it is noticed within an eighth of the shorter limit.
        let step = (self.limits.head.min(self.limits.idle) / 8).max(Duration::from_millis(50));
        loop {
            let (now, deadline) = (self.elapsed(), self.deadline.load(Relaxed));
            if deadline != 0 && now >= deadline {
                return;
            }
            let left = if deadline == 0 { step } else { Duration::from_millis(deadline - now + 1).min(step) };
            tokio::time::sleep(left).await;
        }
    }

    fn received(&self, bytes: &[u8], is_http2: bool) {
        if is_http2 {
            if self.received.fetch_add(bytes.len(), Relaxed) + bytes.len() >= HTTP2_PREFACE {
                self.deadline.store(0, Relaxed);
            }
            return;
        }
        if self.pausing.swap(false, Relaxed) {
            self.reading_head.store(true, Relaxed);
            self.received.store(0, Relaxed);
            self.lines.store(0, Relaxed);
            self.odd_line.store(false, Relaxed);
            self.end_after(self.limits.head);
        }
        if self.reading_head.load(Relaxed) {
            if self.lines.load(Relaxed) == 0 {
                let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
                let odd = |b: &u8| !matches!(b, b' '..=b'~' | b'\r') || *b == b'#';
                if line.iter().any(odd) {
                    self.odd_line.store(true, Relaxed);
                }
            }
            self.received.fetch_add(bytes.len(), Relaxed);
            self.lines.fetch_add(bytes.iter().filter(|b| **b == b'\n').count(), Relaxed);
        }
    }

    /// What was read of a head that the proxy gave up on; `None` once a head is whole.
    fn unreadable_head(&self) -> Option<Unreadable> {
        let (bytes, lines) = (self.received.load(Relaxed), self.lines.load(Relaxed));
        self.reading_head.load(Relaxed).then_some(Unreadable { bytes, lines })
    }

    fn end_after(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.deadline.store(self.elapsed().saturating_add(limit).max(1), Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request head that ended before it could be judged.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable {
    pub bytes: usize,
    pub lines: usize,
}

/// The gateway's own answer to an unreadable head, as it goes onto the wire.
pub type AnswerUnreadable = Arc<dyn Fn(Unreadable) -> Vec<u8> + Send + Sync>;

/// The stream of a connection.
pub struct Watched {
    inner: Stream,
    connection: Arc<Connection>,
    is_http2: bool,
    answer: AnswerUnreadable,
    /// Our answer in place of Pingora's, and how much of it is written.
    instead: Option<(Vec<u8>, usize)>,
}

impl Watched {
    pub fn new(inner: Stream, connection: Arc<Connection>, answer: AnswerUnreadable) -> Self {
        let is_http2 = matches!(inner.selected_alpn_proto(), Some(ALPN::H2));
        if is_http2 {
            connection.speaks_http2();
        }
        Watched { inner, connection, is_http2, answer, instead: None }
    }

    /// Writes our own answer; then what Pingora would have written counts as written.
    fn poll_instead(
        &mut self,
        cx: &mut Context<'_>,
        unreadable: Unreadable,
        swallowed: usize,
    ) -> Poll<std::io::Result<usize>> {
        let answer = &self.answer;
        let (bytes, written) = self.instead.get_or_insert_with(|| (answer(unreadable), 0));
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
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(read) = buf.filled().get(before..).filter(|read| !read.is_empty()) {
            self.connection.received(read, self.is_http2);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.connection.unreadable_head() {
            Some(unreadable) => self.poll_instead(cx, unreadable, buf.len()),
            None => Pin::new(&mut self.inner).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.connection.unreadable_head() {
            Some(unreadable) => self.poll_instead(cx, unreadable, bufs.iter().map(|b| b.len()).sum()),
            None => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
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

/// What a stream tells of itself is what the one inside tells.
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn watched(stream: tokio::io::DuplexStream, connection: &Arc<Connection>) -> Watched {
        Watched::new(Box::new(stream), connection.clone(), Arc::new(|told| format!("ours {}", told.lines).into_bytes()))
    }

    #[tokio::test]
    async fn an_unreadable_head_is_answered_in_our_words() {
        let (mut client, server) = duplex(64);
        let connection = Connection::accepted(LIMITS);
        let mut stream = watched(server, &connection);
        let work = async move {
            let mut buf = [0; 64];
            let _ = stream.read(&mut buf).await;
            stream.write_all(b"Pingora's").await.unwrap();
            stream.write_all(b" own words").await.unwrap();
            head_is_read();
            stream.write_all(b"; an answer").await.unwrap();
        };
        client.write_all(b"bad\nhead\n").await.unwrap();
        assert!(connection.serve(work).await.is_some());
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "ours 2; an answer");
    }

    const LIMITS: Limits = Limits { head: Duration::from_secs(10), idle: Duration::from_secs(75) };

    /// Serves a connection whose client sends these pieces, each after so many seconds; says when it was cut.
    async fn cut_after(pieces: &'static [(u64, &'static [u8])], whole_heads: bool) -> Duration {
        let (mut client, server) = duplex(1024);
        let connection = Connection::accepted(LIMITS);
        let begun = Instant::now();
        tokio::spawn(async move {
            for (pause, piece) in pieces {
                tokio::time::sleep(Duration::from_secs(*pause)).await;
                let _ = client.write_all(piece).await;
            }
            std::future::pending::<()>().await;
        });
        let mut stream = watched(server, &connection);
        let work = async move {
            let mut buf = [0; 64];
            loop {
                let _ = stream.read(&mut buf).await;
                if whole_heads {
                    head_is_read();
                    answer_has_ended();
                }
            }
        };
        let ended: Option<()> = connection.serve(work).await;
        assert!(ended.is_none());
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_cut_at_its_deadline() {
        let cut = cut_after(&[(1, b"G"), (3, b"E"), (3, b"T"), (5, b" ")], false).await;
        assert!((10..12).contains(&cut.as_secs()), "{cut:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_may_last_longer_and_a_new_head_has_its_own_deadline() {
        let cut = cut_after(&[(1, b"GET / ...")], true).await;
        assert!((76..78).contains(&cut.as_secs()), "{cut:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_can_be_cut_from_outside() {
        let connection = Connection::accepted(LIMITS);
        let cutter = connection.clone();
        tokio::spawn(async move { cutter.cut() });
        let tunnel = async {
            head_is_read();
            std::future::pending::<()>().await;
        };
        assert!(connection.serve(tunnel).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_after_a_pause_begins_a_head() {
        let (mut client, server) = duplex(64);
        let connection = Connection::accepted(LIMITS);
        let mut stream = watched(server, &connection);
        let begun = Instant::now();
        let work = async move {
            let mut buf = [0; 64];
            client.write_all(b"whole").await.unwrap();
            let _ = stream.read(&mut buf).await;
            head_is_read();
            tokio::time::sleep(Duration::from_secs(100)).await; // serving has no deadline
            answer_has_ended();
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(b"G").await.unwrap();
            let _ = stream.read(&mut buf).await;
            std::future::pending::<()>().await;
        };
        assert!(connection.serve(work).await.is_none());
        assert!((160..162).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
}
