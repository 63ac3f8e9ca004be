//! Open streams of callers who were let in: a WebSocket, an event stream, gRPC, a long download. While one is open, it
//! keeps its session in use, even if no data flows, and it is closed when what let it in no longer holds.

use crate::edge::connection::{self, Connection};
use crate::edge::ending::{self, Ending};
use crate::edge::live::Live;
use crate::gate::held::{Held, Standing};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub struct Streams {
    open: Mutex<HashMap<u64, Stream>>,
    next: AtomicU64,
    /// For questions to the store and to providers.
    questions: Arc<Semaphore>,
}

struct Stream {
    held: Arc<Held>,
    live: Arc<Live>,
    carrier: Carrier,
    /// When the store or the provider was last asked.
    asked: Option<Instant>,
    is_asked: bool,
    /// When it was told to end.
    ended: Option<Instant>,
}

/// The registration of one open stream; removed on drop.
pub(super) struct OpenStream {
    all: Arc<Streams>,
    id: u64,
}

/// What ends a stream.
enum Carrier {
    Connection(Arc<Connection>),
    Request(Arc<Ending>),
}

/// How often all streams are looked at; their sessions are written no more often than for requests.
const SWEEP: Duration = Duration::from_millis(500);
/// A stream is asked about at most so often where nothing is known of its credential, and at least as often as `SURELY`
/// where announcements say that it holds.
const AT_MOST: Duration = Duration::from_secs(3);
const SURELY: Duration = Duration::from_secs(30);
/// A client that has not taken notice of the end by then is cut off.
const NOTICE: Duration = Duration::from_millis(1500);
const QUESTIONS_AT_ONCE: usize = 128;

impl Default for Streams {
    fn default() -> Self {
        let questions = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        Streams { open: Mutex::default(), next: AtomicU64::new(0), questions }
    }
}

impl Streams {
    /// The request that this task serves has become a stream. `live`: the configuration that it was judged by.
    pub(super) fn enter(self: &Arc<Self>, held: Held, live: Arc<Live>) -> Option<OpenStream> {
        let of_connection = || connection::current().map(Carrier::Connection);
        let carrier = of_connection().or_else(|| ending::of_request().map(Carrier::Request))?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { held: held.into(), live, carrier, asked: None, is_asked: false, ended: None };
        self.open.lock().insert(id, stream);
        Some(OpenStream { all: self.clone(), id })
    }

    /// Looks after all open streams; runs until it is dropped.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            for id in self.sweep(Instant::now()) {
                tokio::spawn(self.clone().ask(id));
            }
        }
    }

    /// Ends the streams whose credential is known not to hold; returns those that the store or a provider must be asked
    /// about.
    fn sweep(&self, now: Instant) -> Vec<u64> {
        let mut open = self.open.lock();
        let due = open.iter_mut().filter_map(|(id, stream)| stream.look(now).then_some(*id));
        due.collect()
    }

    async fn ask(self: Arc<Self>, id: u64) {
        let Ok(_place) = self.questions.clone().acquire_owned().await else { return };
        let found = self.open.lock().get(&id).map(|stream| (stream.held.clone(), stream.live.clone()));
        let Some((held, live)) = found else { return };
        let standing = live.gate.ask_about(&held).await;
        if let Some(stream) = self.open.lock().get_mut(&id) {
            stream.is_asked = false;
            if standing == Standing::Over {
                stream.end(Instant::now());
            }
        }
    }
}

impl Stream {
    /// Whether the store or a provider must be asked now.
    fn look(&mut self, now: Instant) -> bool {
        let since = |then: Option<Instant>| then.map(|then| now.saturating_duration_since(then));
        if let Some(waited) = since(self.ended) {
            if waited >= NOTICE {
                self.carrier.cut();
            }
            return false;
        }
        if self.is_asked {
            return false;
        }
        let due = match self.live.gate.glance(&self.held) {
            Standing::Over => {
                self.end(now);
                return false;
            }
            Standing::Good => since(self.asked).is_some_and(|waited| waited >= SURELY),
            Standing::Unknown => since(self.asked).is_none_or(|waited| waited >= AT_MOST),
        };
        if due {
            (self.asked, self.is_asked) = (Some(now), true);
        } else if self.asked.is_none() {
            self.asked = Some(now);
        }
        due
    }

    fn end(&mut self, now: Instant) {
        tracing::debug!(route = %self.held.route.name, "a stream is closed: what let it in no longer holds");
        self.ended.get_or_insert(now);
        self.carrier.end();
    }
}

impl Carrier {
    fn end(&self) {
        match self {
            Carrier::Connection(connection) => connection.end_stream(),
            Carrier::Request(ending) => ending.end(),
        }
    }

    fn cut(&self) {
        match self {
            Carrier::Connection(connection) => connection.cut(),
            Carrier::Request(ending) => ending.end(),
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.id);
    }
}
