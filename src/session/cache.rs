//! This replica's copies of stored sessions, by their place and the digest of the whole ticket. What was ended here is never copied again,
//! not even by a request that had read it a moment before; nor is what was said to have changed since it was read.

use crate::kit::clock::Timestamp;
use crate::kit::digest::{DigestState, TokenDigest};
use crate::session::session::Session;
use crate::telemetry::metrics::CacheMetrics;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

pub struct SessionCache {
    kept: Cache<TokenDigest, Copy, DigestState>,
    ended: Cache<TokenDigest, (), DigestState>,
    /// Which piece of news it was that told of a change.
    changed: Cache<TokenDigest, u64, DigestState>,
    /// Which one told that anything may have changed.
    all_changed: AtomicU64,
    news: AtomicU64,
    ttl: Duration,
    metrics: CacheMetrics,
}

#[derive(Clone)]
struct Copy {
    /// Of the whole ticket: who knows the place alone finds nothing.
    proof: TokenDigest,
    session: Arc<Session>,
    good_until: Timestamp,
}

/// When a look into the store began: what is told after it may have happened after it.
#[derive(Clone, Copy)]
pub struct Begun(u64);

/// Longer than any look-up in a store takes, and any refresh.
const REMEMBER_ENDED: Duration = Duration::from_secs(60);

impl SessionCache {
    pub fn new(max_entries: u64, ttl: Duration, metrics: CacheMetrics) -> Self {
        SessionCache {
            kept: cache(max_entries, ttl),
            ended: cache(max_entries, REMEMBER_ENDED),
            changed: cache(max_entries, REMEMBER_ENDED),
            all_changed: AtomicU64::new(0),
            news: AtomicU64::new(0),
            ttl,
            metrics,
        }
    }

    pub fn find(&self, place: TokenDigest, proof: TokenDigest, now: Timestamp) -> Option<Arc<Session>> {
        let copy = self.kept.get(&place).filter(|copy| copy.proof == proof && now < copy.good_until);
        match copy {
            Some(copy) => {
                self.metrics.hit();
                Some(copy.session)
            }
            None => {
                self.metrics.miss();
                None
            }
        }
    }

    /// Before the store is asked for what is to be kept.
    pub fn begin(&self) -> Begun {
        Begun(self.news.load(SeqCst))
    }

    pub fn keep(&self, place: TokenDigest, proof: TokenDigest, session: Arc<Session>, begun: Begun, now: Timestamp) {
        self.kept.insert(place, Copy { proof, session, good_until: now.plus(self.ttl) });
        // After the insertion: an end or a change that came before it has removed nothing.
        let changed = self.changed.get(&place).unwrap_or(0).max(self.all_changed.load(SeqCst));
        if changed > begun.0 || self.ended.contains_key(&place) {
            self.kept.invalidate(&place);
        }
    }

    /// Marks first and removes then; see [`SessionCache::keep`].
    pub fn end(&self, place: TokenDigest) {
        self.ended.insert(place, ());
        self.kept.invalidate(&place);
    }

    /// It has changed elsewhere: the next request looks again.
    pub fn forget(&self, place: TokenDigest) {
        self.changed.insert(place, self.news.fetch_add(1, SeqCst) + 1);
        self.kept.invalidate(&place);
    }

    /// Something may have changed that was not heard of.
    pub fn forget_all(&self) {
        self.all_changed.store(self.news.fetch_add(1, SeqCst) + 1, SeqCst);
        self.kept.invalidate_all();
    }

    pub fn len(&self) -> u64 {
        self.kept.run_pending_tasks(); // the count lags behind without it
        self.kept.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn cache<V: Clone + Send + Sync + 'static>(max_entries: u64, ttl: Duration) -> Cache<TokenDigest, V, DigestState> {
    Cache::builder().max_capacity(max_entries).time_to_live(ttl).build_with_hasher(DigestState::default())
}
