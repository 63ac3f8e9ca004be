//! The verbs of the store: asked of it where it answers, and done here where it does not and this replica may.

use crate::store::fallback::journal::Change;
use crate::store::fallback::{Fallback, REPLAY};
use crate::store::kv::{Away, Entry, Invalidation, Kv};
use async_trait::async_trait;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::broadcast;

#[async_trait]
impl Kv for Fallback {
    async fn get_with_ttl(&self, key: &str) -> Result<Option<(Entry, Duration)>, Away> {
        let answer = match self.ask(self.inner.get_with_ttl(key)).await {
            Ok(None) if self.has_lost(key).await => Err(Away),
            answer => answer,
        };
        match answer {
            // Deleted here a moment ago, and there: the store has come back with what it held before.
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
            Err(Away) => {
                self.may_stand_in(key)?;
                if self.is_deleted(key) {
                    return Ok(None);
                }
                let (entry, ends) = self.remembered(key).ok_or(Away)?;
                Ok(Some((entry, self.clock.now().until(ends))))
            }
        }
    }

    async fn put(&self, key: &str, entry: Entry, ttl: Duration) -> Result<(), Away> {
        if self.ask(self.inner.put(key, entry.clone(), ttl)).await.is_err() {
            self.may_stand_in(key)?;
            self.journal.lock().note(key, Change::Made(entry.clone(), self.clock.now().plus(ttl)))?;
        }
        self.remember(key, entry, ttl);
        Ok(())
    }

    async fn put_new(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        match self.ask(self.inner.put_new(key, entry.clone(), ttl)).await {
            Ok(wrote) => {
                if wrote {
                    self.remember(key, entry, ttl);
                }
                Ok(wrote)
            }
            Err(Away) => {
                // A lease that others cannot see leases nothing; a login's mark holds at least here.
                self.may_stand_in(key)?;
                if self.remembered(key).is_some() || self.journal.lock().has_made(key) {
                    return Ok(false);
                }
                self.journal.lock().note(key, Change::Made(entry.clone(), self.clock.now().plus(ttl)))?;
                self.remember(key, entry, ttl);
                Ok(true)
            }
        }
    }

    async fn replace(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        let answer = match self.ask(self.inner.replace(key, entry.clone(), ttl)).await {
            Ok(false) if self.has_lost(key).await => Err(Away),
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
            Err(Away) => {
                self.may_stand_in(key)?;
                if self.is_deleted(key) {
                    return Ok(false);
                }
                let (there, _) = self.remembered(key).ok_or(Away)?;
                if there.generation >= entry.generation {
                    return Ok(false);
                }
                self.journal.lock().note(key, Change::Renewed(entry.clone(), self.clock.now().plus(ttl)))?;
                self.remember(key, entry, ttl);
                Ok(true)
            }
        }
    }

    async fn delete(&self, key: &str, remember: Duration) -> Result<bool, Away> {
        let known = self.remembered(key).is_some();
        self.deleted.insert(key.to_string(), ());
        self.memory_of(key).invalidate(key);
        match self.ask(self.inner.delete(key, remember)).await {
            Ok(was) => Ok(was),
            Err(Away) => {
                let ends = self.clock.now().plus(remember);
                let noted = self.may_stand_in(key).and_then(|()| self.journal.lock().note(key, Change::Deleted(ends)));
                if noted.is_err() {
                    self.deleted.invalidate(key); // nothing was
                }
                noted.map(|()| known)
            }
        }
    }

    async fn restore(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.ask(self.inner.restore(key, entry, ttl)).await
    }

    async fn extend(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, Away> {
        self.ask(self.inner.extend(key, value, ttl)).await
    }

    async fn announce(&self, place: &str) {
        {
            let mut journal = self.journal.lock();
            if self.suspect.load(SeqCst) {
                return journal.say_later(place);
            }
        }
        self.inner.announce(place).await;
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

    fn is_away(&self) -> bool {
        self.suspect.load(SeqCst)
    }

    /// Other replicas may not yet have replayed what they hold. They look as soon as this one is heard again.
    fn is_settling(&self) -> bool {
        self.back.lock().is_some_and(|back| back.elapsed() < REPLAY)
    }
}
