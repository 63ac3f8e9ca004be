//! The cache of verified tokens. A hit means that exactly these bytes were verified under exactly this policy;
//! whether that still holds is asked of our clock and of the key's standing, not of the cache.

use crate::kit::clock::Timestamp;
use crate::kit::digest::{DigestState, Fingerprint, TokenDigest};
use crate::provider::identity::Identity;
use crate::provider::keys::KeyLiveness;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// How large the cache is, and how long an entry lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    pub max_entries: u64,
    /// At most; never beyond the token's own `exp` and the clock skew.
    pub ttl: Duration,
}

pub struct VerifiedTokens {
    entries: Cache<Key, Arc<Entry>, DigestState>,
    ttl: Duration,
}

/// What was verified under one policy says nothing about another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Fingerprint, TokenDigest);

struct Entry {
    identity: Arc<Identity>,
    good_until: Timestamp,
    standing: Arc<KeyLiveness>,
}

impl VerifiedTokens {
    pub fn new(settings: &Settings) -> Self {
        VerifiedTokens {
            // The cache's own expiry only bounds memory.
            entries: Cache::builder()
                .max_capacity(settings.max_entries)
                .time_to_live(settings.ttl)
                .build_with_hasher(DigestState::default()),
            ttl: settings.ttl,
        }
    }

    pub fn find(&self, policy: Fingerprint, token: TokenDigest, now: Timestamp) -> Option<Arc<Identity>> {
        let entry = self.entries.get(&Key(policy, token))?;
        (now < entry.good_until && entry.standing.is_good()).then(|| entry.identity.clone())
    }

    /// `expires`: the token's own end, clock skew included.
    pub fn keep(
        &self,
        policy: Fingerprint,
        token: TokenDigest,
        identity: Arc<Identity>,
        standing: Arc<KeyLiveness>,
        expires: Timestamp,
        now: Timestamp,
    ) {
        let good_until = now.plus(self.ttl).min(expires);
        self.entries.insert(Key(policy, token), Arc::new(Entry { identity, good_until, standing }));
    }

    pub fn len(&self) -> u64 {
        self.entries.run_pending_tasks(); // the count lags behind without it
        self.entries.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
