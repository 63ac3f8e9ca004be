//! This replica's cache of stored sessions, by the session's place in the store. A ticket is compared whole, by its digest: an
//! attacker who knows the place alone finds nothing.

use crate::kit::cache::{self, Begun, Cache};
use crate::kit::clock::Timestamp;
use crate::kit::digest::TokenDigest;
use crate::session::session::Session;
use crate::telemetry::metrics::CacheMetrics;
use std::sync::Arc;

/// One dashboard's burst of requests reads the store once.
pub type Settings = cache::Settings<100_000, 5>;

pub struct SessionCache {
    entries: Cache<TokenDigest, (TokenDigest, Arc<Session>)>,
    metrics: CacheMetrics,
}

impl SessionCache {
    pub fn new(settings: &Settings, metrics: CacheMetrics) -> Self {
        SessionCache { entries: Cache::new(settings), metrics }
    }

    /// `proof`: the digest of the whole ticket, and of what shapes the identity.
    pub fn find(&self, place: TokenDigest, proof: TokenDigest, now: Timestamp) -> Option<Arc<Session>> {
        let found = self.entries.find(&place, now).filter(|(own, _)| *own == proof);
        match found {
            Some(_) => self.metrics.hit(),
            None => self.metrics.miss(),
        }
        found.map(|(_, session)| session)
    }

    /// To be called before the store is read.
    pub fn begin(&self) -> Begun {
        self.entries.begin()
    }

    pub fn keep(&self, place: TokenDigest, proof: TokenDigest, session: Arc<Session>, begun: Begun, now: Timestamp) {
        self.entries.keep(place, (proof, session), Timestamp::FAR, begun, now);
    }

    /// Whether the session changed since then.
    pub fn is_forgotten(&self, place: TokenDigest, begun: Begun) -> bool {
        self.entries.is_forgotten(&place, begun)
    }

    /// The session changed, or ended: the next request reads the store.
    pub fn forget(&self, place: TokenDigest) {
        self.entries.forget(&place);
    }

    /// Invalidations may have been missed.
    pub fn forget_all(&self) {
        self.entries.forget_all();
    }

    pub fn len(&self) -> u64 {
        self.entries.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
