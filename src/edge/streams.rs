//! Open streams of callers who were let in: a WebSocket, an event stream, gRPC, a long download. While one is open, it
//! keeps its session in use, even if no data flows, and it is closed when what let it in no longer holds.

use crate::edge::connection::{self, Connection};
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
    /// In parts, so that a sweep holds up nobody who opens or closes a stream for long.
    parts: Vec<Part>,
    next: AtomicU64,
    /// For questions to the store.
    of_store: Arc<Semaphore>,
    /// For questions that may go to a provider, whose silence must not delay the others.
    of_providers: Arc<Semaphore>,
}

type Part = Mutex<HashMap<u64, Stream>>;

struct Stream {
    held: Arc<Held>,
    live: Arc<Live>,
    carrier: Arc<Connection>,
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

/// A question under way; whatever becomes of it, the stream is looked at again.
struct Question {
    all: Arc<Streams>,
    id: u64,
}

/// How often all streams are looked at; their sessions are written no more often than for requests.
const SWEEP: Duration = Duration::from_millis(500);
/// A stream is asked about at most so often, of a token less often.
const AT_MOST: Duration = Duration::from_secs(2);
const OF_TOKEN: Duration = Duration::from_secs(5);
/// A session is asked about at least so often: an announcement may be lost.
const SURELY: Duration = Duration::from_secs(4);
/// A client that has not taken notice of the end by then is cut off.
const NOTICE: Duration = Duration::from_secs(1);
const PARTS: usize = 64;
const QUESTIONS_AT_ONCE: usize = 128;

impl Default for Streams {
    fn default() -> Self {
        let questions = || Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Streams { parts, next: AtomicU64::new(0), of_store: questions(), of_providers: questions() }
    }
}

impl Streams {
    /// The request that this task serves has become a stream. `live`: the configuration that it was judged by.
    pub(super) fn enter(self: &Arc<Self>, held: Held, live: Arc<Live>) -> Option<OpenStream> {
        let carrier = connection::current()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { held: held.into(), live, carrier, asked: None, is_asked: false, ended: None };
        self.part(id)?.lock().insert(id, stream);
        Some(OpenStream { all: self.clone(), id })
    }

    /// Looks after all open streams; runs until it is dropped.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            for part in &self.parts {
                for id in sweep(part, Instant::now()) {
                    tokio::spawn(self.clone().ask(id));
                }
            }
        }
    }

    fn part(&self, id: u64) -> Option<&Part> {
        self.parts.get(id as usize % PARTS)
    }

    async fn ask(self: Arc<Self>, id: u64) {
        let question = Question { all: self.clone(), id };
        let Some(part) = self.part(id) else { return };
        let found = part.lock().get(&id).map(|stream| (stream.held.clone(), stream.live.clone()));
        let Some((held, live)) = found else { return };
        let questions = if held.is_session() { &self.of_store } else { &self.of_providers };
        let Ok(_place) = questions.clone().acquire_owned().await else { return };
        let standing = live.gate.ask_about(&held).await;
        drop(question);
        if let Some(stream) = part.lock().get_mut(&id).filter(|_| standing == Standing::Over) {
            stream.end(Instant::now());
        }
    }
}

/// Ends the streams whose credential is known not to hold; returns those that the store or a provider must be asked about.
fn sweep(part: &Part, now: Instant) -> Vec<u64> {
    let mut open = part.lock();
    open.iter_mut().filter_map(|(id, stream)| stream.look(now).then_some(*id)).collect()
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
        let waited = since(self.asked);
        let due = match self.live.gate.glance(&self.held) {
            Standing::Over => {
                self.end(now);
                return false;
            }
            Standing::Good => self.held.is_session() && waited.is_some_and(|waited| waited >= SURELY),
            Standing::Unknown => {
                let pause = if self.held.is_session() { AT_MOST } else { OF_TOKEN };
                waited.is_none_or(|waited| waited >= pause)
            }
        };
        if !due || self.is_asked {
            if !due {
                self.asked.get_or_insert(now);
            }
            return false;
        }
        (self.asked, self.is_asked) = (Some(now), true);
        true
    }

    fn end(&mut self, now: Instant) {
        tracing::debug!(route = %self.held.route.name, "a stream is closed: what let it in no longer holds");
        self.ended.get_or_insert(now);
        self.carrier.end_stream();
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        // Dropped after the lock: it may be the last that holds an old configuration.
        let gone = self.all.part(self.id).and_then(|part| part.lock().remove(&self.id));
        drop(gone);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let Some(part) = self.all.part(self.id) else { return };
        if let Some(stream) = part.lock().get_mut(&self.id) {
            stream.is_asked = false;
        }
    }
}
