//! This replica's copies of stored sessions, by their place and the digest of the whole ticket. What was ended here is never copied again,
//! not even by a request that had read it a moment before.

use crate::kit::clock::Timestamp;
use crate::kit::digest::{DigestState, TokenDigest};
use crate::session::vault::Session;
use crate::watch::metrics::CacheMetrics;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

pub struct Copies {
    kept: Cache<TokenDigest, Copy, DigestState>,
    ended: Cache<TokenDigest, (), DigestState>,
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

/// Longer than any look-up in a store takes.
const REMEMBER_ENDED: Duration = Duration::from_secs(60);

impl Copies {
    pub fn new(max_entries: u64, ttl: Duration, metrics: CacheMetrics) -> Self {
        let cache = |ttl| Cache::builder().max_capacity(max_entries).time_to_live(ttl);
        Copies {
            kept: cache(ttl).build_with_hasher(DigestState::default()),
            ended: Cache::builder()
                .max_capacity(max_entries)
                .time_to_live(REMEMBER_ENDED)
                .build_with_hasher(DigestState::default()),
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

    pub fn keep(&self, place: TokenDigest, proof: TokenDigest, session: Arc<Session>, now: Timestamp) {
        self.kept.insert(place, Copy { proof, session, good_until: now.plus(self.ttl) });
        // After the insertion: an end that came before it has removed nothing.
        if self.ended.contains_key(&place) {
            self.kept.invalidate(&place);
        }
    }

    /// Marks first and removes then; see [`Copies::keep`].
    pub fn end(&self, place: TokenDigest) {
        self.ended.insert(place, ());
        self.kept.invalidate(&place);
    }

    /// It has changed elsewhere: the next request looks again.
    pub fn forget(&self, place: TokenDigest) {
        self.kept.invalidate(&place);
    }

    /// Something may have changed that was not heard of.
    pub fn forget_all(&self) {
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
