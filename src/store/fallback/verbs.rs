//! The store's operations: forwarded to it while it is available, otherwise served by this replica where it may.

use crate::store::fallback::journal::Replay;
use crate::store::fallback::{Fallback, REPLAY};
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, Unavailable};
use async_trait::async_trait;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::broadcast;

#[async_trait]
impl Kv for Fallback {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        let answer = match self.ask(self.inner.get_with_ttl(key)).await {
            Ok(None) => self.lost(key).await,
            answer => answer,
        };
        match answer {
            // Deleted here recently, but present: the store has come back with older data.
            Ok(Some((_, ttl))) if self.deleted.contains_key(key) => {
                self.ask(self.inner.delete(key, ttl)).await?;
                Ok(None)
            }
            Ok(Some((entry, ttl))) => {
                self.remember(key, entry.clone(), ttl);
                Ok(Some((entry, ttl)))
            }
            Ok(None) => {
                self.memory_of(key).invalidate(key);
                Ok(None)
            }
            Err(Unavailable) => {
                self.may_stand_in(key)?;
                if self.is_deleted(key) {
                    return Ok(None);
                }
                let (entry, ends) = self.remembered(key).ok_or(Unavailable)?;
                Ok(Some((entry, self.clock.now().until(ends))))
            }
        }
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        if self.ask(self.inner.put(key, entry.clone(), ttl)).await.is_err() {
            self.may_stand_in(key)?;
            self.journal.lock().note(key, Replay::Made(entry.clone(), self.clock.now().plus(ttl)))?;
        }
        self.remember(key, entry, ttl);
        Ok(())
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        match self.ask(self.inner.put_new(key, entry.clone(), ttl)).await {
            Ok(wrote) => {
                if wrote {
                    self.remember(key, entry, ttl);
                }
                Ok(wrote)
            }
            Err(Unavailable) => {
                // A lease that other replicas cannot see is worthless; a login mark protects at least this replica.
                self.may_stand_in(key)?;
                if self.remembered(key).is_some() || self.journal.lock().has_made(key) {
                    return Ok(false);
                }
                self.journal.lock().note(key, Replay::Made(entry.clone(), self.clock.now().plus(ttl)))?;
                self.remember(key, entry, ttl);
                Ok(true)
            }
        }
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let answer = match self.ask(self.inner.replace(key, entry.clone(), ttl)).await {
            Ok(false) => match self.lost(key).await {
                Ok(Some(_)) => self.ask(self.inner.replace(key, entry.clone(), ttl)).await,
                Ok(None) => Ok(false),
                Err(Unavailable) => Err(Unavailable),
            },
            answer => answer,
        };
        match answer {
            Ok(false) => {
                self.memory_of(key).invalidate(key);
                Ok(false)
            }
            Ok(true) => {
                self.remember(key, entry, ttl);
                Ok(true)
            }
            Err(Unavailable) => {
                self.may_stand_in(key)?;
                if self.is_deleted(key) {
                    return Ok(false);
                }
                let (there, _) = self.remembered(key).ok_or(Unavailable)?;
                if there.generation >= entry.generation {
                    return Ok(false);
                }
                self.journal.lock().note(key, Replay::Renewed(entry.clone(), self.clock.now().plus(ttl)))?;
                self.remember(key, entry, ttl);
                Ok(true)
            }
        }
    }

    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable> {
        let known = self.remembered(key).is_some();
        self.deleted.insert(key.clone(), ());
        self.memory_of(key).invalidate(key);
        match self.ask(self.inner.delete(key, remember)).await {
            Ok(was) => Ok(was),
            Err(Unavailable) => {
                let ends = self.clock.now().plus(remember);
                let noted = self.may_stand_in(key).and_then(|()| self.journal.lock().note(key, Replay::Deleted(ends)));
                if noted.is_err() {
                    self.deleted.invalidate(key); // nothing was deleted
                }
                noted.map(|()| known)
            }
        }
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.ask(self.inner.restore(key, entry, ttl)).await
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        self.ask(self.inner.extend(key, value, ttl)).await
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let added = self.ask(self.inner.add(key, member, ttl)).await;
        added.or_else(|Unavailable| {
            self.journal.lock().note_member(key, member, Some(self.clock.now().plus(ttl)));
            Ok(true)
        })
    }

    /// What other replicas added is not known during an outage.
    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        self.ask(self.inner.members(key)).await
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        let removed = self.ask(self.inner.remove(key, member)).await;
        removed.or_else(|Unavailable| {
            self.journal.lock().note_member(key, member, None);
            Ok(())
        })
    }

    async fn announce(&self, change: &Change) {
        {
            let mut journal = self.journal.lock();
            if self.suspect.load(SeqCst) {
                return journal.say_later(change);
            }
        }
        self.inner.announce(change).await;
    }

    fn count_unreadable(&self) {
        self.inner.count_unreadable();
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        self.inner.announcements()
    }

    fn is_unavailable(&self) -> bool {
        self.suspect.load(SeqCst)
    }

    /// Other replicas may not have replayed their journals yet. They probe the store at this replica's announcement.
    fn is_settling(&self) -> bool {
        self.back.lock().is_some_and(|back| back.elapsed() < REPLAY)
    }
}
