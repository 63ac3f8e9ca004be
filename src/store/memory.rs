//! The store in this process's memory: for one replica whose sessions may end with it, and for tests.

use crate::kit::clock::{Clock, Timestamp};
use crate::store::kv::{Entry, Key, Kv, MOST_MEMBERS, Unavailable};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
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
    /// Each member with its end.
    sets: HashMap<String, BTreeMap<String, Timestamp>>,
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
    ) -> Result<bool, Unavailable> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        held.writes += 1;
        if held.writes >= SWEEP_EVERY {
            held.writes = 0;
            held.entries.retain(|_, (_, ends)| *ends > now);
            held.sets.retain(|_, members| {
                members.retain(|_, ends| *ends > now);
                !members.is_empty()
            });
        }
        let there = held.entries.get(key.as_str()).filter(|(_, ends)| *ends > now).map(|(entry, _)| entry);
        if !may(there) {
            return Ok(false);
        }
        if held.entries.len() >= MOST && !held.entries.contains_key(key.as_str()) {
            return Err(Unavailable);
        }
        held.entries.insert(key.as_str().to_string(), (entry, now.plus(ttl)));
        Ok(true)
    }
}

#[async_trait]
impl Kv for Memory {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        let now = self.clock.now();
        let held = self.held.lock();
        let live = held.entries.get(key.as_str()).filter(|(_, ends)| *ends > now);
        Ok(live.map(|(entry, ends)| (entry.clone(), now.until(*ends))))
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        self.write(key, entry, ttl, |_| true).map(drop)
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, entry, ttl, |there| there.is_none())
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let generation = entry.generation;
        self.write(key, entry, ttl, |there| there.is_some_and(|there| there.generation < generation))
    }

    async fn delete(&self, key: &Key, _remember: Duration) -> Result<bool, Unavailable> {
        let now = self.clock.now();
        Ok(self.held.lock().entries.remove(key.as_str()).is_some_and(|(_, ends)| ends > now))
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let generation = entry.generation;
        self.write(key, entry, ttl, |there| there.is_none_or(|there| there.generation < generation))
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        let own = held.entries.get_mut(key.as_str()).filter(|(entry, ends)| *ends > now && entry.value == value);
        Ok(own.map(|(_, ends)| *ends = now.plus(ttl)).is_some())
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let (now, mut held) = (self.clock.now(), self.held.lock());
        let members = held.sets.entry(key.as_str().to_string()).or_default();
        members.retain(|_, ends| *ends > now);
        let may = members.len() < MOST_MEMBERS || members.contains_key(member);
        if may {
            members.insert(member.to_string(), now.plus(ttl));
        }
        Ok(may)
    }

    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        let (now, held) = (self.clock.now(), self.held.lock());
        let live = held.sets.get(key.as_str()).into_iter().flatten().filter(|(_, ends)| **ends > now);
        Ok(live.map(|(member, _)| member.clone()).collect())
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        if let Some(members) = self.held.lock().sets.get_mut(key.as_str()) {
            members.remove(member);
        }
        Ok(())
    }
}
