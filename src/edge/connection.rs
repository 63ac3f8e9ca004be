//! What Pingora lacks for a connection: a deadline for each whole request head, an idle time-out between requests, a
//! way to cut it from outside, and our own response to a head that Pingora cannot parse. Every accepted stream is
//! wrapped ([`stream`]): the wrapper sees the first byte of a head arrive, the proxy's phases report when a head is
//! complete and when a response has ended, and a periodic sweep over all connections (over the requests of one, where it
//! is HTTP/2) cuts those that have waited too long. So a request sets no timer and reads no clock for this.

mod frames;
pub mod stream;
pub mod watch;

use crate::edge::ending::Ending;
use crate::edge::quoted::Taken;
use memchr::{memchr, memchr_iter, memmem};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The state of one connection, shared by its wrapper, its watch and the proxy. A request over HTTP/2 has one of its own.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    /// A [`Phase`] in the lowest two bits, a counter above it, so that re-entering a phase changes the value. Only the
    /// connection's own task writes it.
    phase: AtomicU32,
    /// Bytes and lines of the head that is being read.
    received: AtomicUsize,
    lines: AtomicUsize,
    /// The request line has a byte that the parser would rewrite or drop: a control, `#`, a third space, or non-ASCII.
    odd_line: AtomicBool,
    spaces: AtomicUsize,
    /// The last byte read of the request line was a carriage return, which only the line's end may follow.
    after_return: AtomicBool,
    /// Bytes behind the head arrived together with it: a body, or a pipelined request that will not be read.
    has_more: AtomicBool,
    /// The question mark of the request line has been read.
    in_query: AtomicBool,
    /// Query bytes that are replaced before Pingora parses them.
    taken: Mutex<Taken>,
    /// Odd while a write waits for the client to read; incremented at each change.
    writing: AtomicU32,
    /// How long such a write may wait, in milliseconds.
    patience: AtomicU64,
    /// Incremented whenever bytes of a request are read or bytes of a response are written.
    moves: AtomicU32,
    /// How long no bytes may be read or written while a request is served, in milliseconds; 0: no limit.
    silence: AtomicU64,
    has_given_up: AtomicBool,
    /// The app has switched to the WebSocket protocol.
    is_tunnel: AtomicBool,
    /// What it carries is to be closed from our side.
    is_closing: AtomicBool,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a whole request head.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
}

/// What a connection is doing; it decides which deadline applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A head, or the HTTP/2 preface, is being read; no phase of the proxy has seen it yet.
    Head = 0,
    /// A request is served: neither the head nor the idle limit applies.
    Serving = 1,
    /// Between requests: the next byte begins a head.
    Pause = 2,
}

/// What was read of a request head that Pingora could not parse.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable {
    pub bytes: usize,
    pub lines: usize,
}

tokio::task_local! {
    /// The connection that this task serves, or the request over HTTP/2, which has a task of its own.
    static CURRENT: Arc<Connection>;
}

/// The client's connection preface with an empty SETTINGS frame (RFC 9113, 3.4).
const HTTP2_PREFACE: usize = 24 + 9;

/// The head of a request has been read: neither the head nor the idle limit applies while it is served.
pub fn head_is_read() {
    let _ = CURRENT.try_with(|connection| connection.enter(Phase::Serving));
}

/// Whether the request line held bytes that the parser has rewritten or dropped.
pub fn line_was_odd() -> bool {
    CURRENT.try_with(|connection| connection.odd_line.load(Relaxed)).unwrap_or(false)
}

/// Whether bytes behind the head arrived together with it.
pub fn more_has_come() -> bool {
    CURRENT.try_with(|connection| connection.has_more.load(Relaxed)).unwrap_or(false)
}

/// The target as the client wrote it, if Pingora could not have parsed it.
pub fn target_as_written(read: &[u8]) -> Option<Vec<u8>> {
    CURRENT.try_with(|connection| connection.taken.lock().put_back(read)).ok().flatten()
}

/// Sets how long the client may take to read a piece of the response.
pub fn wait_for_reader(patience: Duration) {
    let _ = CURRENT.try_with(|connection| connection.patience.store(millis(patience), Relaxed));
}

/// Limits, from now on, how long neither side may send anything; after that, reading from the client fails.
pub fn allow_silence(silence: Duration) {
    let _ = CURRENT.try_with(|connection| {
        connection.silence.store(millis(silence).max(1), Relaxed);
        connection.has_given_up.store(false, Relaxed);
        connection.moved();
    });
}

/// Whether the limit of [`allow_silence`] was exceeded.
pub fn has_given_up() -> bool {
    let gave_up = |c: &Arc<Connection>| c.has_given_up.load(Relaxed) && !c.is_closing.load(Relaxed);
    CURRENT.try_with(gave_up).unwrap_or(false)
}

/// Ends what this task serves.
pub fn cut_current() {
    let _ = CURRENT.try_with(|connection| connection.cut());
}

/// What this task serves.
pub fn current() -> Option<Arc<Connection>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// What follows the response's head are WebSocket frames.
pub fn is_tunnel_now() {
    let _ = CURRENT.try_with(|connection| connection.is_tunnel.store(true, Relaxed));
}

/// A response has ended: the idle time before the next request begins.
pub fn answer_has_ended() {
    let _ = CURRENT.try_with(|connection| connection.enter(Phase::Pause));
}

impl Limits {
    /// How often to sweep, so that a connection is cut at most an eighth of the shorter limit too late, and an app's silence
    /// is at most half a second longer than its route allows.
    pub fn step(self) -> Duration {
        (self.head.min(self.idle) / 16).clamp(Duration::from_millis(25), Duration::from_millis(250))
    }
}

impl Connection {
    /// A newly accepted connection; its first head is due within `limits.head`.
    pub fn accepted(limits: Limits) -> Arc<Self> {
        Arc::new(Connection {
            limits,
            phase: AtomicU32::new(Phase::Head as u32),
            received: AtomicUsize::new(0),
            lines: AtomicUsize::new(0),
            odd_line: AtomicBool::new(false),
            spaces: AtomicUsize::new(0),
            after_return: AtomicBool::new(false),
            has_more: AtomicBool::new(false),
            in_query: AtomicBool::new(false),
            taken: Mutex::default(),
            writing: AtomicU32::new(0),
            patience: AtomicU64::new(millis(limits.idle)),
            moves: AtomicU32::new(0),
            silence: AtomicU64::new(0),
            has_given_up: AtomicBool::new(false),
            is_tunnel: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            ending: Ending::default(),
        })
    }

    /// A request over HTTP/2; `is_odd`: its target must be refused.
    pub fn of_request(limits: Limits, is_odd: bool) -> Arc<Self> {
        let request = Self::accepted(limits);
        request.odd_line.store(is_odd, Relaxed);
        request
    }

    /// How long the client may take to read a piece of the response.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Relaxed))
    }

    /// Reading from the client fails, whatever it sends.
    pub fn gave_up(&self) -> bool {
        self.has_given_up.load(Relaxed)
    }

    /// Waits until nothing was read or written for so long, and nothing waits to be written.
    pub async fn stands_still(&self, period: Duration) {
        loop {
            let moves = self.moves.load(Relaxed);
            tokio::time::sleep(period).await;
            if moves == self.moves.load(Relaxed) && self.writing.load(Relaxed) & 1 == 0 {
                return;
            }
        }
    }

    /// Runs `work` for this connection until it ends or is cut; `None` for the latter.
    pub async fn serve<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
        self.ending.serve(CURRENT.scope(self.clone(), work)).await
    }

    /// Ends the connection whatever runs on it, even a tunnel, which no filter of the proxy can reach.
    pub fn cut(&self) {
        self.ending.end();
    }

    /// Ends the stream that this connection carries: a WebSocket gets a Close frame at the end of the frame that is
    /// being sent, anything else stops where it is.
    pub fn end_stream(&self) {
        self.is_closing.store(true, Relaxed);
        if self.is_tunnel.load(Relaxed) {
            self.ending.wake();
        } else {
            self.give_up();
        }
    }

    /// Bytes of a request were read, or bytes of a response written.
    pub fn moved(&self) {
        self.moves.store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Makes reading from the client fail from now on, and wakes the task, which waits for the client or the app.
    fn give_up(&self) {
        self.has_given_up.store(true, Relaxed);
        self.ending.wake();
    }

    fn enter(&self, phase: Phase) {
        if phase != Phase::Serving {
            self.silence.store(0, Relaxed);
            self.has_given_up.store(false, Relaxed);
            self.is_closing.store(false, Relaxed);
        }
        let count = (self.phase.load(Relaxed) >> 2).wrapping_add(1);
        self.phase.store(count << 2 | phase as u32, Relaxed);
    }

    fn is_in(&self, phase: Phase) -> bool {
        phase.is_of(self.phase.load(Relaxed))
    }

    /// Only the HTTP/2 preface has a deadline here: after it h2 reads frames, and `edge::http2` has the idle time-out.
    fn received_http2(&self, bytes: usize) {
        if self.is_in(Phase::Head) {
            let received = self.received.load(Relaxed) + bytes;
            self.received.store(received, Relaxed);
            if received >= HTTP2_PREFACE {
                self.enter(Phase::Serving);
            }
        }
    }

    fn received(&self, bytes: &mut [u8]) {
        if self.is_in(Phase::Serving) {
            return;
        }
        let mut bytes = bytes;
        if self.is_in(Phase::Pause) || self.received.load(Relaxed) == 0 {
            // Empty lines before a head are not part of it (RFC 9112, 2.2).
            while let [b'\r' | b'\n', ..] = bytes {
                bytes = bytes.get_mut(1..).unwrap_or_default();
            }
            if bytes.is_empty() {
                return;
            }
        }
        if self.is_in(Phase::Pause) {
            self.received.store(0, Relaxed);
            self.lines.store(0, Relaxed);
            self.odd_line.store(false, Relaxed);
            self.spaces.store(0, Relaxed);
            self.after_return.store(false, Relaxed);
            self.has_more.store(false, Relaxed);
            if self.in_query.swap(false, Relaxed) {
                *self.taken.lock() = Taken::default();
            }
            self.patience.store(millis(self.limits.idle), Relaxed);
            self.enter(Phase::Head);
        }
        if self.is_in(Phase::Head) {
            let lines = self.lines.load(Relaxed);
            if lines == 0 {
                // No early exit, so that the loop can be vectorized.
                let odd = |odd: bool, b: &u8| odd | !matches!(b, b' '..=b'~') | (*b == b'#');
                let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
                let line = bytes.get_mut(..end).unwrap_or_default();
                let goes_on = self.after_return.swap(line.ends_with(b"\r"), Relaxed) && !line.is_empty();
                let text = line.strip_suffix(b"\r").unwrap_or(line);
                if goes_on || text.iter().fold(false, odd) {
                    self.odd_line.store(true, Relaxed);
                }
                let spaces = self.spaces.load(Relaxed) + memchr_iter(b' ', line).count();
                self.spaces.store(spaces, Relaxed);
                if spaces > 2 {
                    self.odd_line.store(true, Relaxed);
                }
                let query = if self.in_query.load(Relaxed) { Some(0) } else { memchr(b'?', line) };
                if let Some(query) = query.and_then(|from| line.get_mut(from..)) {
                    self.in_query.store(true, Relaxed);
                    self.taken.lock().take(query);
                }
            }
            if END.find(bytes).is_some_and(|end| end + 4 < bytes.len()) {
                self.has_more.store(true, Relaxed);
            }
            self.received.store(self.received.load(Relaxed) + bytes.len(), Relaxed);
            self.lines.store(lines + memchr_iter(b'\n', bytes).count(), Relaxed);
        }
    }

    fn wrote(&self, waits: bool) {
        if !waits {
            self.moved();
        }
        let writing = self.writing.load(Relaxed);
        if (writing & 1 == 1) != waits {
            self.writing.store(writing.wrapping_add(1), Relaxed);
        }
    }

    /// What was read of a head that Pingora could not parse; `None` once a head is complete.
    fn unreadable_head(&self) -> Option<Unreadable> {
        let (bytes, lines) = (self.received.load(Relaxed), self.lines.load(Relaxed));
        self.is_in(Phase::Head).then_some(Unreadable { bytes, lines })
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// What ends a head; prepared once, for that costs as much as the search.
static END: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

impl Phase {
    fn is_of(self, numbered: u32) -> bool {
        numbered & 3 == self as u32
    }
}

#[cfg(test)]
mod tests;
