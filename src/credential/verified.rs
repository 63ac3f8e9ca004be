//! The cache of verified tokens. A hit means that exactly these bytes were verified under exactly this policy; our
//! clock and the key's liveness decide whether that still holds, not the cache's expiry.

use crate::kit::cache::{self, Cache};
use crate::kit::clock::Timestamp;
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::provider::identity::Identity;
use crate::provider::keys::KeyLiveness;
use std::sync::Arc;

/// 100,000 tokens take some 100 MB; a revoked token is accepted for the TTL at most, never beyond its own `exp` and the
/// clock skew.
pub type Settings = cache::Settings<100_000, 300>;

pub struct VerifiedTokens(Cache<Key, Arc<Entry>>);

/// What was verified under one policy says nothing about another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Fingerprint, TokenDigest);

struct Entry {
    identity: Arc<Identity>,
    liveness: Arc<KeyLiveness>,
}

impl VerifiedTokens {
    pub fn new(settings: &Settings) -> Self {
        VerifiedTokens(Cache::new(settings))
    }

    pub fn find(&self, policy: Fingerprint, token: TokenDigest, now: Timestamp) -> Option<Arc<Identity>> {
        let entry = self.0.find(&Key(policy, token), now)?;
        entry.liveness.is_good().then(|| entry.identity.clone())
    }

    /// `expires`: the token's own expiry, clock skew included.
    pub fn keep(
        &self,
        policy: Fingerprint,
        token: TokenDigest,
        identity: Arc<Identity>,
        liveness: Arc<KeyLiveness>,
        expires: Timestamp,
        now: Timestamp,
    ) {
        // Nothing invalidates an entry but its key's liveness.
        self.0.keep(Key(policy, token), Arc::new(Entry { identity, liveness }), expires, self.0.begin(), now);
    }

    pub fn len(&self) -> u64 {
        self.0.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
