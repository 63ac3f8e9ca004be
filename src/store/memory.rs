//! The store in this process's memory: for one replica whose sessions may end with it, and for tests.

use crate::kit::clock::{Clock, Timestamp};
use crate::store::kv::Key;
use crate::store::kv::{Away, Entry, Kv};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub struct Memory {
    clock: Arc<dyn Clock>,
    // A plain mutex: it is held for a look-up, never over an await.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    entries: HashMap<String, (Entry, Timestamp)>,
    /// Writes since expired entries were last swept.
    writes: usize,
}

/// Room for a million sessions, hot and cold parts; a login beyond it fails as if the store were unavailable.
const MOST: usize = 2_000_000;
const SWEEP_EVERY: usize = 4096;

impl Memory {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Memory { clock, held: Mutex::default() }
    }

    fn write(
        &self,
        key: &Key,
        entry: Entry,
        ttl: Duration,
        may: impl FnOnce(Option<&Entry>) -> bool,
    ) -> Result<bool, Away> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        held.writes += 1;
        if held.writes >= SWEEP_EVERY {
            held.writes = 0;
            held.entries.retain(|_, (_, ends)| *ends > now);
        }
        let there = held.entries.get(key.as_str()).filter(|(_, ends)| *ends > now).map(|(entry, _)| entry);
        if !may(there) {
            return Ok(false);
        }
        if held.entries.len() >= MOST && !held.entries.contains_key(key.as_str()) {
            return Err(Away);
        }
        held.entries.insert(key.as_str().to_string(), (entry, now.plus(ttl)));
        Ok(true)
    }
}

#[async_trait]
impl Kv for Memory {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Away> {
        let now = self.clock.now();
        let held = self.held.lock();
        let live = held.entries.get(key.as_str()).filter(|(_, ends)| *ends > now);
        Ok(live.map(|(entry, ends)| (entry.clone(), now.until(*ends))))
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Away> {
        self.write(key, entry, ttl, |_| true).map(drop)
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.write(key, entry, ttl, |there| there.is_none())
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        let generation = entry.generation;
        self.write(key, entry, ttl, |there| there.is_some_and(|there| there.generation < generation))
    }

    async fn delete(&self, key: &Key, _remember: Duration) -> Result<bool, Away> {
        let now = self.clock.now();
        Ok(self.held.lock().entries.remove(key.as_str()).is_some_and(|(_, ends)| ends > now))
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        let generation = entry.generation;
        self.write(key, entry, ttl, |there| there.is_none_or(|there| there.generation < generation))
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Away> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        let own = held.entries.get_mut(key.as_str()).filter(|(entry, ends)| *ends > now && entry.value == value);
        Ok(own.map(|(_, ends)| *ends = now.plus(ttl)).is_some())
    }
}
