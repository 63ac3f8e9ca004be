//! A shared store that may be away. While it is there, this replica's memory keeps what it has seen of sessions; while it is
//! away, reads come from that memory, writes go there and into a journal, deletes leave a mark; when it is back the journal
//! is replayed, deletes first. "Away" is told from "absent": what neither store nor memory can show is not known to be gone.

mod journal;
mod verbs;

use crate::kit::clock::{Clock, Timestamp};
use crate::kit::entropy::Entropy;
use crate::store::kv::{Away, Entry, Invalidation, Kv};
use journal::{Change, Journal};
use moka::sync::Cache;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

/// `store.redis.breaker` and `fallback` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So many failures in a row open the breaker.
    pub failures: u32,
    /// How long the store is then left alone between two looks.
    pub cooldown: Duration,
    /// Without a fallback nothing is answered while the store is away.
    pub enabled: bool,
    pub max_entries: u64,
}

pub struct Fallback {
    inner: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// Entries that this replica has seen, with their ends.
    memory: Cache<String, (Entry, Timestamp)>,
    /// The same of logins that ended. Strangers can make many, which must push nobody's session out.
    marks: Cache<String, (Entry, Timestamp)>,
    /// Deleted here: an answer that was under way does not bring it back into memory.
    deleted: Cache<String, ()>,
    journal: Mutex<Journal>,
    /// A call has failed, and nothing has succeeded since: requests do not wait for the store.
    suspect: AtomicBool,
    away: AtomicBool,
    /// When an outage was last over, as far as this replica can tell.
    back: Mutex<Option<Instant>>,
    failures: AtomicU32,
    failed: Notify,
    /// Something was heard of other replicas, or the connection for it is there again.
    news: Notify,
    /// Tells this store's data from another's: a Redis that lost its data has a new one.
    epoch: Mutex<Option<Vec<u8>>>,
    entropy: Arc<dyn Entropy>,
    on_change: Box<dyn Fn(bool) + Send + Sync>,
}

const EPOCH: &str = "epoch";
/// The place of no session: told so that others look, too.
const BACK: &str = "";
const EPOCH_LIVES: Duration = Duration::from_secs(10 * 365 * 86_400);
/// What other replicas may need to hear that the store is back, and for the replay of their journals.
const REPLAY: Duration = Duration::from_secs(1);
/// Between two looks while nothing fails: it is to be known within 5 s that the store is away, whoever asks it.
const LOOK_AT_REST: Duration = Duration::from_secs(1);
/// Between two looks while it is not clear yet whether the store is away.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What outlives an outage is what people are signed in by, and the marks of logins that ended; leases and results do not.
const KEPT: [&str; 3] = ["session:", "tokens:", "used:"];
const OF_SESSIONS: [&str; 2] = ["session:", "tokens:"];
pub(super) const MARK: &str = "used:";
/// Marks of logins that this replica holds, and that its journal takes: beyond it a login waits for the store.
pub(super) const MOST_MARKS: u64 = 10_000;

impl Fallback {
    /// `on_change`: told `true` when the store is up, journal and all, and `false` when it is away.
    pub fn new(
        inner: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Settings,
        on_change: Box<dyn Fn(bool) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Fallback {
            inner,
            clock,
            settings,
            memory: Cache::builder().max_capacity(settings.max_entries).build(),
            marks: Cache::builder().max_capacity(MOST_MARKS).build(),
            deleted: Cache::builder().max_capacity(settings.max_entries).time_to_live(Duration::from_secs(60)).build(),
            journal: Mutex::new(Journal::of(settings.max_entries)),
            suspect: AtomicBool::new(false),
            away: AtomicBool::new(false),
            back: Mutex::default(),
            failures: AtomicU32::new(0),
            failed: Notify::new(),
            news: Notify::new(),
            epoch: Mutex::default(),
            entropy,
            on_change,
        })
    }

    /// Looks after the store while it is away; runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        self.suspect.store(true, SeqCst); // nobody has asked it yet
        loop {
            while !self.suspect.load(SeqCst) {
                if timeout(LOOK_AT_REST, self.failed.notified()).await.is_err() {
                    self.look_at_rest().await;
                }
            }
            if self.recover().await.is_ok() {
                continue;
            }
            self.note_failure();
            let pause = if self.away.load(SeqCst) { self.settings.cooldown } else { LOOK_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.news.notified() => {} // somebody has spoken: the store is there again
            }
        }
    }

    /// Where nobody asks the store, nobody would notice that it is away, or that it has lost its data.
    async fn look_at_rest(&self) {
        let before = self.epoch.lock().clone();
        let found = self.inner.get(EPOCH).await.map(|entry| entry.map(|entry| entry.value));
        if found != Ok(before) {
            self.note_failure();
        }
    }

    /// Looks again at what others have changed: what they ended must not count here when the store is next away. Runs until
    /// it is dropped.
    pub async fn follow(self: Arc<Self>) {
        let Some(mut heard) = self.inner.announcements() else { return };
        let mut has_begun = false;
        loop {
            let told = heard.recv().await;
            if self.away.load(SeqCst) {
                self.news.notify_one();
            }
            match told {
                Ok(Invalidation::Key(place)) => {
                    for key in OF_SESSIONS.map(|kind| format!("{kind}{place}")) {
                        if self.memory.contains_key(&key) {
                            // Where the store cannot be asked, what is known stays the best there is.
                            drop(self.get_with_ttl(&key).await);
                        }
                    }
                }
                // A connection was lost and is there again: others may have been cut off for longer.
                Ok(Invalidation::All) if has_begun => *self.back.lock() = Some(Instant::now()),
                Ok(Invalidation::All) => has_begun = true,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// One look: if the store answers, what was held back is replayed, and requests ask it again.
    async fn recover(&self) -> Result<(), Away> {
        // A new one each time: one's own old epoch would hide that the data was lost.
        let mut fresh = vec![0; 16];
        self.entropy.fill(&mut fresh);
        self.inner.put_new(EPOCH, Entry { generation: 0, value: fresh }, EPOCH_LIVES).await?;
        let found = self.inner.get(EPOCH).await?.map(|entry| entry.value);
        let before = self.epoch.lock().clone();
        if before.is_some() && before != found {
            tracing::warn!("the store has lost its data; what this replica holds is written back");
            self.write_back().await?;
        }
        *self.epoch.lock() = found;
        loop {
            let changes = self.journal.lock().changes();
            for (key, change) in changes {
                self.replay(&key, &change).await?;
                self.journal.lock().settle(&key, &change);
            }
            // Under the journal's lock, so that no change slips in between the last look and the switch.
            if self.ask_again_if_settled() {
                break;
            }
        }
        if self.away.swap(false, SeqCst) {
            tracing::info!("the store is back");
            self.inner.announce(BACK).await;
        }
        (self.on_change)(true);
        // Others may hold copies of what changed meanwhile, or of what the store did without an answer. Where the store fails
        // once more, what is left waits for the next time.
        let unsaid = self.journal.lock().unsaid();
        for place in unsaid {
            self.announce(&place).await;
        }
        Ok(())
    }

    fn ask_again_if_settled(&self) -> bool {
        let journal = self.journal.lock();
        if journal.is_empty() {
            if self.away.load(SeqCst) {
                *self.back.lock() = Some(Instant::now());
            }
            self.suspect.store(false, SeqCst);
            self.failures.store(0, SeqCst);
        }
        journal.is_empty()
    }

    async fn replay(&self, key: &str, change: &Change) -> Result<(), Away> {
        let now = self.clock.now();
        match change {
            Change::Deleted(until) => drop(self.inner.delete(key, now.until(*until)).await?),
            Change::Made(entry, ends) => drop(self.inner.restore(key, entry.clone(), now.until(*ends)).await?),
            Change::Renewed(entry, ends) => drop(self.inner.replace(key, entry.clone(), now.until(*ends)).await?),
        }
        Ok(())
    }

    /// Everything that this replica holds and has not seen deleted.
    async fn write_back(&self) -> Result<(), Away> {
        for (key, (entry, ends)) in self.memory.iter().chain(self.marks.iter()) {
            let left = self.clock.now().until(ends);
            if !left.is_zero() {
                self.inner.restore(&key, entry, left).await?;
            }
        }
        Ok(())
    }

    fn note_failure(&self) {
        self.suspect.store(true, SeqCst);
        let failures = self.failures.fetch_add(1, SeqCst).saturating_add(1);
        if failures >= self.settings.failures && !self.away.swap(true, SeqCst) {
            (self.on_change)(false); // who listens knows why, and says it
        }
        self.failed.notify_one();
    }

    /// Asks the store, unless a call before has just failed.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, Away>>) -> Result<T, Away> {
        if self.suspect.load(SeqCst) {
            return Err(Away);
        }
        let answer = call.await;
        if answer.is_err() {
            self.note_failure();
        }
        answer
    }

    /// What may be done without the store, and only to what outlives an outage.
    fn may_stand_in(&self, key: &str) -> Result<(), Away> {
        if self.settings.enabled && KEPT.iter().any(|kept| key.starts_with(kept)) { Ok(()) } else { Err(Away) }
    }

    fn remembered(&self, key: &str) -> Option<(Entry, Timestamp)> {
        self.memory_of(key).get(key).filter(|(_, ends)| *ends > self.clock.now())
    }

    fn memory_of(&self, key: &str) -> &Cache<String, (Entry, Timestamp)> {
        if key.starts_with(MARK) { &self.marks } else { &self.memory }
    }

    fn remember(&self, key: &str, entry: Entry, ttl: Duration) {
        if self.may_stand_in(key).is_ok() {
            let ends = self.clock.now().plus(ttl);
            // A look that was under way while somebody here wrote comes back with what was before.
            self.memory_of(key).entry_by_ref(key).and_upsert_with(|known| {
                match known.map(|known| known.into_value()) {
                    Some(newer) if newer.0.generation > entry.generation => newer,
                    _ => (entry, ends),
                }
            });
            if self.deleted.contains_key(key) {
                self.memory_of(key).invalidate(key); // after the insertion: a deletion that came before it has removed nothing
            }
        }
    }

    /// Asked where the store denies what this replica remembers: whether that is so because it has lost its data, unnoticed
    /// so far. Then it counts as away until what is held here was written back.
    async fn has_lost(&self, key: &str) -> bool {
        if !self.memory_of(key).contains_key(key) {
            return false;
        }
        let Some(before) = self.epoch.lock().clone() else { return false };
        let lost = match self.inner.get(EPOCH).await {
            Ok(found) => found.is_none_or(|now| now.value != before),
            Err(Away) => true,
        };
        if lost {
            self.note_failure();
        }
        lost
    }

    /// Also between the replay of a deletion, which takes it out of the journal, and the moment when the store is asked again.
    fn is_deleted(&self, key: &str) -> bool {
        self.deleted.contains_key(key) || self.journal.lock().has_deleted(key)
    }
}

#[cfg(test)]
mod tests;
