//! All API keys, configured and stored, and their verification. A cache miss reads the store once for all concurrent
//! requests; a key revoked here is not cached again, even by a request that read it just before. Must not know of
//! requests, rate limits, or how replicas announce changes.

use crate::credential::api_key::store::{KeyStore, is_due};
use crate::credential::api_key::{ApiKey, KeyDigest, KeyId, Presented, Record};
use crate::kit::cache::{self, Begun, Cache};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::entropy::Entropy;
use crate::kit::seal::Secrets;
use crate::kit::singleflight::{LeaderLost, Role, Singleflight};
use crate::provider::identity::Identity;
use crate::store::kv::{Kv, Unavailable};
use crate::telemetry::metrics::CacheMetrics;
use crate::telemetry::reason::Reason;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The verdict on a presented key.
#[derive(Clone)]
pub enum KeyVerdict {
    Valid(Arc<Known>),
    /// `UnknownToken` or `TokenExpired`.
    Rejected(Reason),
    /// The store is unavailable.
    Unavailable,
}

/// A key in this replica's memory.
pub struct Known {
    pub record: Record,
    is_stored: bool,
    last_used: AtomicI64,
    identity: OnceLock<Arc<Identity>>,
}

/// The properties of a new key.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    pub name: Option<String>,
    pub user: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    pub routes: Option<Vec<String>>,
    pub expires_in: Option<Duration>,
}

#[derive(Debug)]
pub struct Created {
    pub key: ApiKey,
    pub record: Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCreated {
    /// The store is unavailable.
    Unavailable,
    /// The maximum number of keys exists.
    Full,
}

/// Keys are few and live long; a revoked one is refused on all replicas within this time even without an announcement.
/// `max_entries` counts keys, and as many ids again for which there is no key.
pub type Settings = cache::Settings<10_000, 30>;

/// The keyring's dependencies.
pub struct Outside {
    pub kv: Arc<dyn Kv>,
    pub secrets: Secrets,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: CacheMetrics,
}

/// Lives as long as the process; a reload replaces the configured keys.
pub struct Keyring {
    store: KeyStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: CacheMetrics,
    /// Replaced as a whole by a reload.
    held: ArcSwap<Held>,
    /// Number of keys created or revoked.
    changes: AtomicU64,
    /// Store reads in progress, by id and `changes`: a request after a revocation must not join a read from before it.
    readings: Singleflight<(KeyId, u64), Reading>,
}

type Reading = Result<Option<Arc<Known>>, NotRead>;

#[derive(Clone, Copy)]
enum NotRead {
    Unavailable,
    /// The caller that started the read is over its rate limit; when to retry.
    Withheld(Duration),
}

struct Held {
    configured: HashMap<KeyId, Arc<Known>>,
    cache: Option<KeyCache>,
}

/// Two caches, so that a flood of made-up ids evicts no key. Clients choose the ids: the hasher is keyed.
struct KeyCache {
    present: Cache<KeyId, Arc<Known>, RandomState>,
    absent: Cache<KeyId, (), RandomState>,
}

/// Another id is tried if one is taken; that does not happen twice in a row by chance.
const TRIES: usize = 5;

impl Keyring {
    pub fn new(outside: Outside, configured: Vec<Record>, cache: &Settings) -> Self {
        let Outside { kv, secrets, clock, entropy, metrics } = outside;
        Keyring {
            store: KeyStore { kv, secrets },
            clock,
            entropy,
            metrics,
            held: ArcSwap::from_pointee(Held::new(configured, cache)),
            changes: AtomicU64::new(0),
            readings: Singleflight::default(),
        }
    }

    /// Replaces the configured keys, and empties the cache.
    pub fn configure(&self, configured: Vec<Record>, cache: &Settings) {
        self.held.store(Arc::new(Held::new(configured, cache)));
    }

    /// Verifies a key without the store; None: the store must be read. To be called within a runtime.
    pub fn recall(self: &Arc<Self>, key: &Presented) -> Option<KeyVerdict> {
        let (held, now) = (self.held.load(), self.clock.now());
        if let Some(known) = held.configured.get(&key.id) {
            return Some(self.judge(Some(known), key, now));
        }
        let found = held.cache.as_ref()?.find(key.id, now);
        match found {
            Some(_) => self.metrics.hit(),
            None => self.metrics.miss(),
        }
        Some(self.judge(found?.as_ref(), key, now))
    }

    /// The same, for what looks often and is no request: it does not count.
    pub fn peek(self: &Arc<Self>, key: &Presented) -> Option<KeyVerdict> {
        let (held, now) = (self.held.load(), self.clock.now());
        match held.configured.get(&key.id) {
            Some(known) => Some(self.judge(Some(known), key, now)),
            None => Some(self.judge(held.cache.as_ref()?.find(key.id, now)?.as_ref(), key, now)),
        }
    }

    /// Reads the store, once for all concurrent requests, and continues if one is cancelled. `reserve` says whether the
    /// store may be read on this request's behalf, or when to retry; it is not called for a request that only waits.
    pub async fn look_up(
        self: &Arc<Self>,
        key: &Presented,
        mut reserve: impl FnMut() -> Result<(), Duration>,
    ) -> Result<KeyVerdict, Duration> {
        loop {
            let place = (key.id, self.changes.load(Ordering::SeqCst));
            let keys = self.clone();
            let work = || {
                let may = reserve();
                async move {
                    may.map_err(NotRead::Withheld)?;
                    keys.read(place.0).await.map_err(|Unavailable| NotRead::Unavailable)
                }
            };
            match self.readings.join(place, work).await {
                Ok((Ok(found), _)) => return Ok(self.judge(found.as_ref(), key, self.clock.now())),
                Ok((Err(NotRead::Withheld(wait)), Role::Leader)) => return Err(wait),
                // Another caller's rate limit was exhausted; ours may not be.
                Ok((Err(NotRead::Withheld(_)), Role::Follower)) => {}
                Ok((Err(NotRead::Unavailable), _)) | Err(LeaderLost) => return Ok(KeyVerdict::Unavailable),
            }
        }
    }

    /// Creates a key. Its id must be announced to the other replicas, which may have cached that it does not exist.
    pub async fn create(&self, new: NewKey) -> Result<Created, NotCreated> {
        let now = self.clock.now();
        for _ in 0..TRIES {
            let key = ApiKey::generate(self.entropy.as_ref());
            let Some(Presented { id, digest }) = ApiKey::parse(key.expose()) else { continue };
            let record = new.clone().record(id, digest, now);
            // The index comes first: a key that works must be listed.
            match self.store.enlist(&record, now).await {
                Ok(true) => {}
                Ok(false) => return Err(NotCreated::Full),
                Err(Unavailable) => return Err(NotCreated::Unavailable),
            }
            let configured = self.held.load().configured.contains_key(&id);
            if !configured && self.store.put_new(&record, now).await.map_err(|Unavailable| NotCreated::Unavailable)? {
                self.forget(id);
                return Ok(Created { key, record });
            }
        }
        Err(NotCreated::Unavailable)
    }

    /// The stored keys, in order of creation.
    pub async fn list(&self) -> Result<Vec<Record>, Unavailable> {
        self.store.list().await
    }

    /// Whose stored key this is; none where there is none, or nobody can tell.
    pub async fn user_of(&self, id: KeyId) -> Option<String> {
        self.store.read(id).await.ok().flatten().map(|(record, _)| record.user)
    }

    pub fn configured(&self) -> Vec<Record> {
        self.held.load().configured.values().map(|known| known.record.clone()).collect()
    }

    /// Revokes a stored key, in the cache and in the store; false if there is none. Its id must be announced to the
    /// other replicas. Continues if the caller is cancelled.
    pub async fn revoke(self: &Arc<Self>, id: KeyId) -> Result<bool, Unavailable> {
        let keys = self.clone();
        let ending = tokio::spawn(async move {
            let was_there = keys.store.delete(id).await;
            keys.forget(id); // even without an answer: the store may have deleted it
            if was_there.is_ok() {
                // A line without a record is skipped.
                let _ = keys.store.strike(id, keys.clock.now()).await;
            }
            was_there
        });
        ending.await.unwrap_or(Err(Unavailable))
    }

    /// This key was created or revoked: drops its cache entry. Counts first, then removes; see `read`.
    pub fn forget(&self, id: KeyId) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(cache) = &self.held.load().cache {
            cache.forget(id);
        }
    }

    /// Invalidations may have been missed: empties the cache.
    pub fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(cache) = &self.held.load().cache {
            cache.forget_all();
        }
    }

    /// The number of cache entries.
    pub fn len(&self) -> u64 {
        self.held.load().cache.as_ref().map_or(0, KeyCache::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn read(&self, id: KeyId) -> Result<Option<Arc<Known>>, Unavailable> {
        let (held, now) = (self.held.load_full(), self.clock.now());
        let begun = held.cache.as_ref().map(KeyCache::begin);
        // Check again: another read may have finished since this caller's `recall`.
        if let Some(found) = held.cache.as_ref().and_then(|cache| cache.find(id, now)) {
            return Ok(found);
        }
        let found = self.store.read(id).await?.map(|(record, _)| Arc::new(Known::new(record, true)));
        if let Some((cache, begun)) = held.cache.as_ref().zip(begun) {
            cache.keep(id, found.clone(), begun, now);
        }
        Ok(found)
    }

    fn judge(self: &Arc<Self>, known: Option<&Arc<Known>>, key: &Presented, now: Timestamp) -> KeyVerdict {
        let Some(known) = known.filter(|known| known.record.digest == key.digest) else {
            return KeyVerdict::Rejected(Reason::UnknownToken);
        };
        if known.record.expires_at.is_some_and(|expires| expires <= now.seconds()) {
            return KeyVerdict::Rejected(Reason::TokenExpired);
        }
        self.note_use(known, now);
        KeyVerdict::Valid(known.clone())
    }

    /// Records a use in the background.
    fn note_use(self: &Arc<Self>, known: &Arc<Known>, now: Timestamp) {
        let last = known.last_used.load(Ordering::Relaxed);
        let due = known.is_stored && is_due(Some(last), now);
        // Of many concurrent requests, only one records it.
        let claim = |last| known.last_used.compare_exchange(last, now.seconds(), Ordering::Relaxed, Ordering::Relaxed);
        if !due || claim(last).is_err() {
            return;
        }
        let (keys, id) = (self.clone(), known.record.id);
        tokio::spawn(async move {
            // An unavailable store only makes the key look a little less used.
            if keys.store.note_use(id, now).await == Ok(false) {
                keys.forget(id); // it was revoked elsewhere
            }
        });
    }
}

impl Known {
    fn new(record: Record, is_stored: bool) -> Self {
        let last_used = AtomicI64::new(record.last_used.unwrap_or(i64::MIN));
        Known { record, is_stored, last_used, identity: OnceLock::new() }
    }

    /// Built once for as long as this replica holds the key.
    pub fn identity(&self, make: impl FnOnce(&Record) -> Identity) -> &Arc<Identity> {
        self.identity.get_or_init(|| Arc::new(make(&self.record)))
    }
}

impl NewKey {
    fn record(self, id: KeyId, digest: KeyDigest, now: Timestamp) -> Record {
        let NewKey { name, user, email, groups, scopes, routes, expires_in } = self;
        let expires_at = expires_in.map(|expires_in| now.plus(expires_in).seconds());
        let created = Some(now.seconds());
        Record { id, digest, name, user, email, groups, scopes, routes, created, expires_at, last_used: None }
    }
}

impl Held {
    fn new(configured: Vec<Record>, cache: &Settings) -> Self {
        Held {
            configured: configured.into_iter().map(|key| (key.id, Arc::new(Known::new(key, false)))).collect(),
            cache: cache.enabled.then(|| KeyCache::new(cache)),
        }
    }
}

impl KeyCache {
    fn new(settings: &Settings) -> Self {
        KeyCache { present: Cache::new(settings), absent: Cache::new(settings) }
    }

    /// Some(Some): the key; Some(None): there is no such key; None: not cached.
    fn find(&self, id: KeyId, now: Timestamp) -> Option<Option<Arc<Known>>> {
        self.present.find(&id, now).map(Some).or_else(|| self.absent.find(&id, now).map(|()| None))
    }

    fn begin(&self) -> (Begun, Begun) {
        (self.present.begin(), self.absent.begin())
    }

    fn keep(&self, id: KeyId, found: Option<Arc<Known>>, (present, absent): (Begun, Begun), now: Timestamp) {
        match found {
            Some(known) => self.present.keep(id, known, Timestamp::FAR, present, now),
            None => self.absent.keep(id, (), Timestamp::FAR, absent, now),
        }
    }

    fn forget(&self, id: KeyId) {
        self.present.forget(&id);
        self.absent.forget(&id);
    }

    fn forget_all(&self) {
        self.present.forget_all();
        self.absent.forget_all();
    }

    fn len(&self) -> u64 {
        self.present.entries() + self.absent.entries()
    }
}
