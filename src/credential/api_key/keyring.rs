//! All API keys, those of the configuration and those of the store, and the judging of a presented one. A miss asks the
//! store once, however many ask at once; what was ended here is never copied again, not even by a request that had read it
//! a moment before. Must not know of requests, limits, or how replicas tell each other.

use crate::credential::api_key::store::{KeyStore, is_due};
use crate::credential::api_key::{ApiKey, KeyDigest, KeyId, Presented, Record};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::entropy::Entropy;
use crate::kit::seal::Secrets;
use crate::kit::singleflight::{LeaderLost, Role, Singleflight};
use crate::provider::identity::Identity;
use crate::store::kv::{Away, Kv};
use crate::telemetry::metrics::CacheMetrics;
use crate::telemetry::reason::Reason;
use arc_swap::ArcSwap;
use moka::sync::Cache;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a presented key comes to.
#[derive(Clone)]
pub enum KeyVerdict {
    Valid(Arc<Known>),
    /// `UnknownToken` or `TokenExpired`.
    Rejected(Reason),
    /// The store could not be asked.
    Unavailable,
}

/// A key as this replica holds it.
pub struct Known {
    pub record: Record,
    is_stored: bool,
    last_used: AtomicI64,
    identity: OnceLock<Arc<Identity>>,
}

/// What a key to be made is for.
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
    /// The store could not be asked.
    Away,
    /// There are as many as may be.
    Full,
}

/// How large the cache is, and how long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Of keys that are there, and as many again of ids that are not.
    pub max_entries: u64,
    pub ttl: Duration,
}

/// What the keys need of the world.
pub struct Outside {
    pub kv: Arc<dyn Kv>,
    pub secrets: Secrets,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: CacheMetrics,
}

/// Lives as long as the process; a reload gives it other configured keys.
pub struct Keyring {
    shelf: KeyStore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: CacheMetrics,
    /// Swapped whole by a reload.
    held: ArcSwap<Held>,
    /// How many keys were made or ended. What was read from the store before the last of these is not copied; which key it
    /// was about does not matter: they are rare, and not to copy is always right.
    changes: AtomicU64,
    /// Readings under way, by id and `changes`: who asks after a key ended must not join a reading from before it.
    readings: Singleflight<(KeyId, u64), Reading>,
}

type Reading = Result<Option<Arc<Known>>, NotRead>;

#[derive(Clone, Copy)]
enum NotRead {
    Away,
    /// Whoever began to read may not.
    Withheld(Duration),
}

struct Held {
    configured: HashMap<KeyId, Arc<Known>>,
    copies: Option<SessionCache>,
}

/// Two caches, so that a flood of made-up ids evicts no key. Their own expiry only bounds memory.
struct SessionCache {
    present: Cache<KeyId, (Arc<Known>, Timestamp)>,
    absent: Cache<KeyId, Timestamp>,
    ttl: Duration,
}

/// Another id is tried where one is taken; twice in a row that does not happen by chance.
const TRIES: usize = 5;

impl Keyring {
    pub fn new(outside: Outside, configured: Vec<Record>, cache: &Settings) -> Self {
        let Outside { kv, secrets, clock, entropy, metrics } = outside;
        Keyring {
            shelf: KeyStore { kv, secrets },
            clock,
            entropy,
            metrics,
            held: ArcSwap::from_pointee(Held::new(configured, cache)),
            changes: AtomicU64::new(0),
            readings: Singleflight::default(),
        }
    }

    /// Other configured keys, and an empty cache.
    pub fn configure(&self, configured: Vec<Record>, cache: &Settings) {
        self.held.store(Arc::new(Held::new(configured, cache)));
    }

    /// Judges by what is known here; None = the store must be asked. To be called within a runtime.
    pub fn recall(self: &Arc<Self>, key: &Presented) -> Option<KeyVerdict> {
        let (held, now) = (self.held.load(), self.clock.now());
        if let Some(known) = held.configured.get(&key.id) {
            return Some(self.judge(Some(known), key, now));
        }
        let found = held.copies.as_ref()?.find(key.id, now);
        match found {
            Some(_) => self.metrics.hit(),
            None => self.metrics.miss(),
        }
        Some(self.judge(found?.as_ref(), key, now))
    }

    /// Asks the store, once for all who ask at once. A request that goes away leaves the work to the others. `reserve` says
    /// whether the store may be asked on this request's behalf, else when to come again; who only waits is not asked for that.
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
                    keys.read(place.0, place.1).await.map_err(|Away| NotRead::Away)
                }
            };
            match self.readings.join(place, work).await {
                Ok((Ok(found), _)) => return Ok(self.judge(found.as_ref(), key, self.clock.now())),
                Ok((Err(NotRead::Withheld(wait)), Role::Leader)) => return Err(wait),
                // It was another's budget that was spent; ours may not be.
                Ok((Err(NotRead::Withheld(_)), Role::Follower)) => {}
                Ok((Err(NotRead::Away), _)) | Err(LeaderLost) => return Ok(KeyVerdict::Unavailable),
            }
        }
    }

    /// Makes a key. Its id is to be announced to the other replicas, which may hold that there is none.
    pub async fn create(&self, new: NewKey) -> Result<Created, NotCreated> {
        let now = self.clock.now();
        for _ in 0..TRIES {
            let key = ApiKey::generate(self.entropy.as_ref());
            let Some(Presented { id, digest }) = ApiKey::parse(key.expose()) else { continue };
            let record = new.clone().record(id, digest, now);
            // The index comes first: there must be no key that works and is not listed.
            match self.shelf.enlist(&record, now).await {
                Ok(true) => {}
                Ok(false) => return Err(NotCreated::Full),
                Err(Away) => return Err(NotCreated::Away),
            }
            let configured = self.held.load().configured.contains_key(&id);
            if !configured && self.shelf.put_new(&record, now).await.map_err(|Away| NotCreated::Away)? {
                self.forget(id);
                return Ok(Created { key, record });
            }
        }
        Err(NotCreated::Away)
    }

    /// The stored keys, in the order in which they were made.
    pub async fn list(&self) -> Result<Vec<Record>, Away> {
        self.shelf.list().await
    }

    pub fn configured(&self) -> Vec<Record> {
        self.held.load().configured.values().map(|known| known.record.clone()).collect()
    }

    /// Ends a stored key, here and in the store; false where there is none. Its id is to be announced to the other replicas.
    /// It goes on when the caller goes away.
    pub async fn revoke(self: &Arc<Self>, id: KeyId) -> Result<bool, Away> {
        let keys = self.clone();
        let ending = tokio::spawn(async move {
            let was_there = keys.shelf.delete(id).await;
            keys.forget(id); // also where the store did not answer: it may have heard
            if was_there.is_ok() {
                // A line without a record is passed over.
                let _ = keys.shelf.strike(id, keys.clock.now()).await;
            }
            was_there
        });
        ending.await.unwrap_or(Err(Away))
    }

    /// Somebody made or ended this key: look again. Counts first and removes then; see `read`.
    pub fn forget(&self, id: KeyId) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(copies) = &self.held.load().copies {
            copies.forget(id);
        }
    }

    /// Announcements may have been missed.
    pub fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(copies) = &self.held.load().copies {
            copies.present.invalidate_all();
            copies.absent.invalidate_all();
        }
    }

    /// Entries of the cache.
    pub fn len(&self) -> u64 {
        self.held.load().copies.as_ref().map_or(0, SessionCache::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn read(&self, id: KeyId, before: u64) -> Result<Option<Arc<Known>>, Away> {
        let now = self.clock.now();
        // Look again: somebody who asked the store may have landed between this caller's recall and its turn.
        if let Some(found) = self.held.load().copies.as_ref().and_then(|copies| copies.find(id, now)) {
            return Ok(found);
        }
        let found = self.shelf.read(id).await?.map(|(record, _)| Arc::new(Known::new(record, true)));
        if let Some(copies) = &self.held.load().copies {
            copies.keep(id, found.clone(), now);
            // After the insertion: a change that came before it has removed nothing.
            if self.changes.load(Ordering::SeqCst) != before {
                copies.forget(id);
            }
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

    /// Beside the request.
    fn note_use(self: &Arc<Self>, known: &Arc<Known>, now: Timestamp) {
        let last = known.last_used.load(Ordering::Relaxed);
        let due = known.is_stored && is_due(Some(last), now);
        // Of many requests at once, one notes it.
        let claim = |last| known.last_used.compare_exchange(last, now.seconds(), Ordering::Relaxed, Ordering::Relaxed);
        if !due || claim(last).is_err() {
            return;
        }
        let (keys, id) = (self.clone(), known.record.id);
        tokio::spawn(async move {
            // A store that is away only makes the key look a little less used.
            if keys.shelf.note_use(id, now).await == Ok(false) {
                keys.forget(id); // it was ended elsewhere
            }
        });
    }
}

impl Known {
    fn new(record: Record, is_stored: bool) -> Self {
        let last_used = AtomicI64::new(record.last_used.unwrap_or(i64::MIN));
        Known { record, is_stored, last_used, identity: OnceLock::new() }
    }

    /// Made once for as long as this replica holds the key.
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
            copies: cache.enabled.then(|| SessionCache::new(cache)),
        }
    }
}

impl SessionCache {
    fn new(settings: &Settings) -> Self {
        SessionCache {
            present: Cache::builder().max_capacity(settings.max_entries).time_to_live(settings.ttl).build(),
            absent: Cache::builder().max_capacity(settings.max_entries).time_to_live(settings.ttl).build(),
            ttl: settings.ttl,
        }
    }

    /// The key, or that there is none, or (None) that nothing is known.
    fn find(&self, id: KeyId, now: Timestamp) -> Option<Option<Arc<Known>>> {
        if let Some((known, good_until)) = self.present.get(&id)
            && now < good_until
        {
            return Some(Some(known));
        }
        self.absent.get(&id).filter(|good_until| now < *good_until).map(|_| None)
    }

    fn keep(&self, id: KeyId, found: Option<Arc<Known>>, now: Timestamp) {
        let good_until = now.plus(self.ttl);
        match found {
            Some(known) => self.present.insert(id, (known, good_until)),
            None => self.absent.insert(id, good_until),
        }
    }

    fn forget(&self, id: KeyId) {
        self.present.invalidate(&id);
        self.absent.invalidate(&id);
    }

    fn len(&self) -> u64 {
        self.present.run_pending_tasks(); // the counts lag behind without it
        self.absent.run_pending_tasks();
        self.present.entry_count() + self.absent.entry_count()
    }
}
