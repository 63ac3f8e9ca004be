//! Bridges outages of a shared store. While it is available, this replica's memory keeps the session entries that it
//! has seen; during an outage, reads use that memory, and changes go into a journal, which is replayed afterwards,
//! deletes first. "Unavailable" is not "absent": an entry that neither store nor memory can show may exist.

mod journal;
mod verbs;

use crate::kit::clock::{Clock, Timestamp};
use crate::kit::entropy::Entropy;
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, Space, Unavailable};
use crate::store::redis::{Breaker, Standby};
use journal::{Journal, Replay};
use moka::sync::Cache;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

/// When the breaker opens, and the fallback behind it.
#[derive(Clone, Copy)]
pub struct Settings {
    pub breaker: Breaker,
    pub standby: Standby,
    /// The sets that a record belongs in, by the id of its key: they are written back with it.
    pub sets_of: fn(&str, &[u8]) -> Vec<Key>,
}

pub struct Fallback {
    inner: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// Entries that this replica has seen, with their expiry.
    memory: Cache<Key, (Entry, Timestamp)>,
    /// The same for marks of completed logins. Strangers can create many, which must not evict sessions.
    marks: Cache<Key, (Entry, Timestamp)>,
    /// Keys deleted here: a read in progress must not bring them back into memory.
    deleted: Cache<Key, ()>,
    journal: Mutex<Journal>,
    /// A call has failed and no probe has succeeded since: requests do not wait for the store.
    suspect: AtomicBool,
    away: AtomicBool,
    /// When the last outage ended, as far as this replica knows.
    back: Mutex<Option<Instant>>,
    failures: AtomicU32,
    failed: Notify,
    /// An announcement arrived from another replica, or the subscription was restored.
    news: Notify,
    /// Identifies the store's data: a Redis that lost its data has a new epoch.
    epoch: Mutex<Option<Vec<u8>>>,
    entropy: Arc<dyn Entropy>,
    on_change: Box<dyn Fn(bool) + Send + Sync>,
}

/// The place of no session: announced to make other replicas probe the store.
const BACK: &str = "";
const EPOCH_LIVES: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Time for other replicas to learn that the store is available again, and to replay their journals.
const REPLAY: Duration = Duration::from_secs(1);
const ABOUT_TO_EXPIRE: Duration = Duration::from_secs(1);
/// Time between two probes while nothing fails: an outage must be detected within 5 s, even without requests.
const LOOK_AT_REST: Duration = Duration::from_secs(1);
/// Time between two probes while it is not clear yet whether the store is unavailable.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Maximum number of login marks in memory and in the journal; beyond it a login fails until the store is available again.
pub(super) const MOST_MARKS: u64 = 10_000;

impl Fallback {
    /// `on_change`: called with `true` when the store is available and the journal replayed, `false` on an outage.
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
            memory: Cache::builder().max_capacity(settings.standby.max_entries).build(),
            marks: Cache::builder().max_capacity(MOST_MARKS).build(),
            deleted: Cache::builder()
                .max_capacity(settings.standby.max_entries)
                .time_to_live(Duration::from_secs(60))
                .build(),
            journal: Mutex::new(Journal::of(settings.standby.max_entries)),
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

    /// Probes the store and recovers it after an outage; runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        self.suspect.store(true, SeqCst); // the store was not asked yet
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
            let pause = if self.away.load(SeqCst) { *self.settings.breaker.cooldown } else { LOOK_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.news.notified() => {} // an announcement arrived: the store is available again
            }
        }
    }

    /// Without requests, only this detects that the store is unavailable, or has lost its data.
    async fn look_at_rest(&self) {
        let before = self.epoch.lock().clone();
        let found = self.inner.get(&Key::only(Space::Epoch)).await.map(|entry| entry.map(|entry| entry.value));
        if found != Ok(before) {
            self.note_failure();
        }
    }

    /// Rereads what other replicas changed: a session they ended must not be valid here in the next outage. Runs until
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
                // Another replica has found the store again, or without its data.
                Ok(Invalidation::Key(Change::Session(place))) if place == BACK => {
                    if !self.suspect.load(SeqCst) {
                        self.look_at_rest().await;
                    }
                }
                Ok(Invalidation::Key(Change::Session(place))) => {
                    for key in [Space::Session, Space::Tokens].map(|space| Key::of(space, &place)) {
                        if self.memory.contains_key(&key) {
                            // If the store is unavailable, the known entry stays.
                            drop(self.get_with_ttl(&key).await);
                        }
                    }
                }
                Ok(Invalidation::Key(Change::ApiKey(_))) => {}
                // The subscription was restored: other replicas may have been disconnected for longer.
                Ok(Invalidation::All) if has_begun => *self.back.lock() = Some(Instant::now()),
                Ok(Invalidation::All) => has_begun = true,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Probes the store: if it answers, replays the journal, and lets requests use the store again.
    async fn recover(&self) -> Result<(), Unavailable> {
        // A new epoch each time: this replica's old one would hide a loss of data.
        let mut fresh = vec![0; 16];
        self.entropy.fill(&mut fresh);
        self.inner.put_new(&Key::only(Space::Epoch), Entry { generation: 0, value: fresh }, EPOCH_LIVES).await?;
        let found = self.inner.get(&Key::only(Space::Epoch)).await?.map(|entry| entry.value);
        let before = self.epoch.lock().clone();
        let has_lost = before.is_some() && before != found;
        if has_lost {
            tracing::warn!("the store has lost its data; what this replica holds is written back");
            self.write_back().await?;
            *self.back.lock() = Some(Instant::now()); // others have not written theirs yet
        }
        *self.epoch.lock() = found;
        loop {
            let changes = self.journal.lock().changes();
            for (key, change) in changes {
                self.replay(&key, &change).await?;
                self.journal.lock().settle(&key, &change);
            }
            self.replay_members().await?;
            // Under the journal's lock, so that no change is added between the check and the switch.
            if self.ask_again_if_settled() {
                break;
            }
        }
        let was_away = self.away.swap(false, SeqCst);
        if was_away {
            tracing::info!("the store is available again");
        }
        if was_away || has_lost {
            self.inner.announce(&Change::Session(BACK.into())).await;
        }
        (self.on_change)(true);
        // Other replicas may have cached what changed meanwhile, or what a call without an answer changed. If the store
        // fails again, the remaining announcements wait for the next recovery.
        let unsaid = self.journal.lock().unsaid();
        for change in unsaid {
            self.announce(&change).await;
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

    async fn replay_members(&self) -> Result<(), Unavailable> {
        let members = self.journal.lock().members();
        for (at, until) in members {
            let (key, member) = &at;
            match until {
                Some(until) => drop(self.inner.add(key, member, self.clock.now().until(until)).await?),
                None => self.inner.remove(key, member).await?,
            }
            self.journal.lock().settle_member(&at, until);
        }
        Ok(())
    }

    async fn replay(&self, key: &Key, change: &Replay) -> Result<(), Unavailable> {
        let now = self.clock.now();
        match change {
            Replay::Deleted(until) => drop(self.inner.delete(key, now.until(*until)).await?),
            Replay::Made(entry, ends) => drop(self.inner.restore(key, entry.clone(), now.until(*ends)).await?),
            Replay::Renewed(entry, ends) => drop(self.inner.replace(key, entry.clone(), now.until(*ends)).await?),
        }
        Ok(())
    }

    /// Writes back everything that this replica holds and has not seen deleted.
    async fn write_back(&self) -> Result<(), Unavailable> {
        for (key, (entry, ends)) in self.memory.iter().chain(self.marks.iter()) {
            let left = self.clock.now().until(ends);
            if !left.is_zero() {
                self.write_back_one(&key, entry, left).await?;
            }
        }
        Ok(())
    }

    /// False where it was deleted, or is there.
    async fn write_back_one(&self, key: &Key, entry: Entry, left: Duration) -> Result<bool, Unavailable> {
        let sets = match key.space() {
            Space::Session => (self.settings.sets_of)(key.id(), &entry.value),
            _ => Vec::new(),
        };
        let is_back = self.inner.restore(key, entry, left).await?;
        if is_back {
            for set in sets {
                self.inner.add(&set, key.id(), left).await?;
            }
        }
        Ok(is_back)
    }

    fn note_failure(&self) {
        self.suspect.store(true, SeqCst);
        let failures = self.failures.fetch_add(1, SeqCst).saturating_add(1);
        if failures >= self.settings.breaker.failures.get() && !self.away.swap(true, SeqCst) {
            (self.on_change)(false); // the callback knows and logs the reason
        }
        self.failed.notify_one();
    }

    /// Calls the store, unless it has failed and not recovered yet.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
        if self.suspect.load(SeqCst) {
            return Err(Unavailable);
        }
        let answer = call.await;
        if answer.is_err() {
            self.note_failure();
        }
        answer
    }

    /// Whether this key may be served without the store: only what is kept during an outage.
    fn may_stand_in(&self, key: &Key) -> Result<(), Unavailable> {
        if self.settings.standby.enabled && key.space().survives_outage() { Ok(()) } else { Err(Unavailable) }
    }

    fn remembered(&self, key: &Key) -> Option<(Entry, Timestamp)> {
        self.memory_of(key).get(key).filter(|(_, ends)| *ends > self.clock.now())
    }

    fn memory_of(&self, key: &Key) -> &Cache<Key, (Entry, Timestamp)> {
        if key.space() == Space::Used { &self.marks } else { &self.memory }
    }

    fn remember(&self, key: &Key, entry: Entry, ttl: Duration) {
        if self.may_stand_in(key).is_ok() {
            let ends = self.clock.now().plus(ttl);
            // A read in progress during a local write may return the older entry: keep the newer one.
            self.memory_of(key).entry_by_ref(key).and_upsert_with(|known| {
                match known.map(|known| known.into_value()) {
                    Some(newer) if newer.0.generation > entry.generation => newer,
                    _ => (entry, ends),
                }
            });
            if self.deleted.contains_key(key) {
                self.memory_of(key).invalidate(key); // after inserting: an earlier deletion found nothing to remove
            }
        }
    }

    /// Called when the store lacks an entry. It never was, or was ended, which left a tombstone beside it, or it was lost:
    /// with all other data, so that the store counts as unavailable until the replicas have written back what they hold, or
    /// with one node of a cluster. Then it is written back alone and returned, if this replica remembers it.
    async fn lost(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        if self.may_stand_in(key).is_err() || self.deleted.contains_key(key) {
            return Ok(None);
        }
        let before = self.epoch.lock().clone();
        let now = self.inner.get(&Key::only(Space::Epoch)).await.map(|epoch| epoch.map(|epoch| epoch.value));
        if before.is_some() && now != Ok(before) {
            self.note_failure();
            return Err(Unavailable);
        }
        let Some((entry, ends)) = self.remembered(key) else { return Ok(None) };
        let left = self.clock.now().until(ends);
        // It may have expired there, a moment before it does here.
        if left < ABOUT_TO_EXPIRE || !self.ask(self.write_back_one(key, entry.clone(), left)).await? {
            return Ok(None);
        }
        tracing::warn!("the store has lost an entry; what this replica holds is written back");
        if key.space() == Space::Session {
            // Another replica may have ended it while it was nowhere.
            self.inner.announce(&Change::Session(key.id().into())).await;
        }
        Ok(Some((entry, left)))
    }

    /// True also after the replay of a deletion, which removes it from the journal, until the store is used again.
    fn is_deleted(&self, key: &Key) -> bool {
        self.deleted.contains_key(key) || self.journal.lock().has_deleted(key)
    }
}

#[cfg(test)]
mod tests;
