//! This replica's copies of stored sessions, by the digest of the whole ticket. What was ended here is never copied again,
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

    pub fn find(&self, ticket: TokenDigest, now: Timestamp) -> Option<Arc<Session>> {
        let copy = self.kept.get(&ticket).filter(|copy| now < copy.good_until);
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

    pub fn keep(&self, ticket: TokenDigest, session: Arc<Session>, now: Timestamp) {
        self.kept.insert(ticket, Copy { session, good_until: now.plus(self.ttl) });
        // After the insertion: an end that came before it has removed nothing.
        if self.ended.contains_key(&ticket) {
            self.kept.invalidate(&ticket);
        }
    }

    /// Marks first and removes then; see [`Copies::keep`].
    pub fn end(&self, ticket: TokenDigest) {
        self.ended.insert(ticket, ());
        self.kept.invalidate(&ticket);
    }

    pub fn len(&self) -> u64 {
        self.kept.run_pending_tasks(); // the count lags behind without it
        self.kept.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
