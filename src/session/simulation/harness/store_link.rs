//! One replica's link to the store: slow, lossy, and away at times.

use super::Harness;
use crate::session::simulation::invariants::COMMAND_TIMEOUT;
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, Unavailable};
use crate::store::memory::Memory;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::sleep;

/// One replica's link to the store.
pub(in crate::session::simulation) struct StoreLink {
    pub(in crate::session::simulation) harness: Arc<Harness>,
    pub(in crate::session::simulation) replica: usize,
    /// The last call had no answer.
    pub(in crate::session::simulation) failed: AtomicBool,
}

impl StoreLink {
    async fn call<T, F>(
        &self,
        key: &Key,
        act: impl FnOnce(Arc<Memory>, Key) -> F + Send + 'static,
    ) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Unavailable>> + Send + 'static,
    {
        let (harness, dice, scenario) = (&self.harness, &self.harness.dice, &self.harness.scenario);
        if scenario.freezes && dice.chance(2) {
            harness.freeze(self.replica, dice.millis(0..15_000));
        }
        harness.going(self.replica).await;
        let healed = harness.healed.load(SeqCst);
        let slowest = if scenario.slow_store && !healed { dice.pick(&[2, 20, 120]) } else { 3 };
        let (there, back) = (dice.millis(0..slowest), dice.millis(0..slowest));
        let act = act(harness.memory.clone(), key.clone());
        let fails = if harness.is_unavailable(self.replica) {
            sleep(dice.pick(&[Duration::ZERO, COMMAND_TIMEOUT])).await;
            true
        } else if !healed && dice.chance(scenario.losses) {
            // The request or its answer is lost; or the request arrives after the caller has given up.
            if dice.chance(60) {
                let (harness, key, late) = (harness.clone(), key.clone(), dice.pick(&[there, dice.millis(0..4000)]));
                tokio::spawn(async move {
                    sleep(late).await;
                    let _ = act.await;
                    harness.invariants.lock().saw_write(key.as_str(), harness.now());
                });
            }
            sleep(COMMAND_TIMEOUT).await;
            true
        } else {
            sleep(there).await;
            let answer = act.await;
            harness.invariants.lock().saw_write(key.as_str(), harness.now());
            sleep(back).await;
            harness.going(self.replica).await;
            self.failed.store(false, SeqCst);
            return answer;
        };
        harness.going(self.replica).await;
        self.failed.store(fails, SeqCst);
        harness.invariants.lock().store_failed(self.replica, key.as_str(), harness.now());
        Err(Unavailable)
    }
}

#[async_trait]
impl Kv for StoreLink {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        self.call(key, |memory, key| async move { memory.get_with_ttl(&key).await }).await
    }
    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        let (harness, replica) = (self.harness.clone(), self.replica);
        let put = move |memory: Arc<Memory>, key: Key| async move {
            let known = memory.get_with_ttl(&key).await?.map(|(known, _)| known.generation);
            harness.is_put(replica, &key, known, entry.generation);
            memory.put(&key, entry, ttl).await
        };
        self.call(key, put).await
    }
    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let (harness, replica) = (self.harness.clone(), self.replica);
        let put = move |memory: Arc<Memory>, key: Key| async move {
            let is_new = memory.put_new(&key, entry, ttl).await?;
            if is_new {
                harness.owners.lock().insert(key.as_str().to_owned(), replica);
            }
            Ok(is_new)
        };
        self.call(key, put).await
    }
    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.call(key, move |memory, key| async move { memory.replace(&key, entry, ttl).await }).await
    }
    async fn delete(&self, key: &Key, remember: Duration) -> Result<bool, Unavailable> {
        let (harness, replica) = (self.harness.clone(), self.replica);
        let delete = move |memory: Arc<Memory>, key: Key| async move {
            let is_there = memory.get_with_ttl(&key).await?.is_some();
            harness.is_deleted(replica, &key, is_there);
            harness.deleted.lock().insert(key.clone());
            memory.delete(&key, remember).await
        };
        self.call(key, delete).await
    }
    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        let harness = self.harness.clone();
        let restore = move |memory: Arc<Memory>, key: Key| async move {
            let is_deleted = harness.deleted.lock().contains(&key);
            if is_deleted { Ok(false) } else { memory.restore(&key, entry, ttl).await }
        };
        self.call(key, restore).await
    }
    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        let value = value.to_vec();
        self.call(key, move |memory, key| async move { memory.extend(&key, &value, ttl).await }).await
    }
    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        let member = member.to_string();
        self.call(key, move |memory, key| async move { memory.add(&key, &member, ttl).await }).await
    }
    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        self.call(key, |memory, key| async move { memory.members(&key).await }).await
    }
    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        let member = member.to_string();
        self.call(key, move |memory, key| async move { memory.remove(&key, &member).await }).await
    }
    async fn announce(&self, change: &Change) {
        self.harness.going(self.replica).await;
        if !self.harness.is_unavailable(self.replica) && !self.harness.dice.chance(self.harness.scenario.losses) {
            let _ = self.harness.news.send(Invalidation::Key(change.clone()));
        }
    }
    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        Some(self.harness.news.subscribe())
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn is_unavailable(&self) -> bool {
        self.failed.load(SeqCst)
    }
}
