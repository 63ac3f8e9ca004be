//! A store for tests that can be unavailable, act as a fallback, and lose its data.

use crate::kit::clock::test::SetClock;
use crate::store::kv::{Change, Entry, Key, Kv, Unavailable};
use crate::store::memory::Memory;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

pub(crate) struct Faulty {
    memory: Mutex<Arc<Memory>>,
    pub(crate) clock: Arc<SetClock>,
    tombstones: Mutex<Vec<Key>>,
    /// Every call fails.
    pub(crate) away: AtomicBool,
    /// Answers, but reports that the store is unavailable, as a fallback does.
    pub(crate) stands_in: AtomicBool,
    pub(crate) asked: AtomicUsize,
    pub(crate) announced: Mutex<Vec<Change>>,
}

impl Faulty {
    pub(crate) fn new(clock: &Arc<SetClock>) -> Arc<Self> {
        Arc::new(Faulty {
            memory: Mutex::new(Arc::new(Memory::new(clock.clone()))),
            clock: clock.clone(),
            tombstones: Mutex::default(),
            away: AtomicBool::default(),
            stands_in: AtomicBool::default(),
            asked: AtomicUsize::default(),
            announced: Mutex::default(),
        })
    }

    pub(crate) fn lose_everything(&self) {
        *self.memory.lock() = Arc::new(Memory::new(self.clock.clone()));
        self.tombstones.lock().clear();
    }

    /// As a node of a cluster that has this key, and not the epoch.
    pub(crate) async fn lose(&self, key: &Key) {
        let memory = self.memory.lock().clone();
        let _ = memory.delete(key, Duration::ZERO).await;
        self.tombstones.lock().retain(|known| known != key);
    }

    fn there(&self) -> Result<Arc<Memory>, Unavailable> {
        self.asked.fetch_add(1, SeqCst);
        if self.away.load(SeqCst) { Err(Unavailable) } else { Ok(self.memory.lock().clone()) }
    }
}

#[async_trait]
impl Kv for Faulty {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        self.there()?.get_with_ttl(key).await
    }
    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        self.there()?.put(key, entry, ttl).await
    }
    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.there()?.put_new(key, entry, ttl).await
    }
    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.there()?.replace(key, entry, ttl).await
    }
    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable> {
        let memory = self.there()?;
        self.tombstones.lock().push(key.clone());
        memory.delete(key, remember).await
    }
    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let memory = self.there()?;
        if self.tombstones.lock().iter().any(|deleted| deleted == key) {
            return Ok(false);
        }
        memory.restore(key, entry, ttl).await
    }
    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        self.there()?.extend(key, value, ttl).await
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        self.there()?.add(key, member, ttl).await
    }

    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        self.there()?.members(key).await
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        self.there()?.remove(key, member).await
    }
    async fn announce(&self, change: &Change) {
        if self.there().is_ok() {
            self.announced.lock().push(change.clone());
        }
    }

    fn is_unavailable(&self) -> bool {
        self.stands_in.load(SeqCst)
    }
}
