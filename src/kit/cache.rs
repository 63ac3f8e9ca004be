//! The one kind of cache: bounded, with a deadline for each entry by our own clock. A value that was read before an
//! invalidation is not kept after it, however late its reader comes: see [`Cache::keep`].

use crate::kit::clock::Timestamp;
use crate::kit::digest::DigestState;
use crate::kit::setting::Wait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// `S`: a hasher that suits the keys; for digests their own bytes do, for anything that a client chooses a keyed one.
pub struct Cache<K, V, S = DigestState> {
    // moka's own expiry only bounds memory.
    entries: moka::sync::Cache<K, (V, Timestamp), S>,
    /// The number of the last invalidation of a key.
    forgotten: moka::sync::Cache<K, u64, S>,
    all_forgotten: AtomicU64,
    invalidations: AtomicU64,
    ttl: Duration,
}

/// When a read began: invalidations with a higher number came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(u64);

/// Longer than any read of a store or a provider takes.
const LONGEST_READ: Duration = Duration::from_secs(60);

impl<K, V, S> Cache<K, V, S>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Default + Send + Sync + 'static,
{
    pub fn new<const ENTRIES: u64, const SECONDS: u64>(settings: &Settings<ENTRIES, SECONDS>) -> Self {
        Cache {
            entries: bounded(settings.max_entries, *settings.ttl),
            forgotten: bounded(settings.max_entries, LONGEST_READ),
            all_forgotten: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            ttl: *settings.ttl,
        }
    }

    pub fn find(&self, key: &K, now: Timestamp) -> Option<V> {
        self.entries.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// To be called before the value is read that is to be kept.
    pub fn begin(&self) -> Begun {
        Begun(self.invalidations.load(SeqCst))
    }

    /// Keeps a value until `until` or for the TTL, whichever is sooner; not if its key was invalidated since the read began.
    pub fn keep(&self, key: K, value: V, until: Timestamp, begun: Begun, now: Timestamp) {
        if self.is_forgotten(&key, begun) {
            return;
        }
        self.entries.insert(key, (value, until.min(now.plus(self.ttl))));
        // Once more: an invalidation that came between the two has removed nothing.
        if self.is_forgotten(&key, begun) {
            self.entries.invalidate(&key);
        }
    }

    /// Whether the key was invalidated since; known for a minute.
    pub fn is_forgotten(&self, key: &K, begun: Begun) -> bool {
        self.forgotten.get(key).unwrap_or(0).max(self.all_forgotten.load(SeqCst)) > begun.0
    }

    /// First counts, then removes: see [`Cache::keep`].
    pub fn forget(&self, key: &K) {
        let number = self.invalidations.fetch_add(1, SeqCst) + 1;
        // Of two at once the higher number stays, whichever comes last.
        let highest = |before: Option<moka::Entry<K, u64>>| before.map_or(number, |b| number.max(b.into_value()));
        self.forgotten.entry(*key).and_upsert_with(highest);
        self.entries.invalidate(key);
    }

    pub fn forget_all(&self) {
        self.all_forgotten.fetch_max(self.invalidations.fetch_add(1, SeqCst) + 1, SeqCst);
        self.entries.invalidate_all();
    }

    pub fn entries(&self) -> u64 {
        self.entries.run_pending_tasks(); // the count lags behind without it
        self.entries.entry_count()
    }
}

fn bounded<K, V, S>(max_entries: u64, ttl: Duration) -> moka::sync::Cache<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Default + Send + Sync + 'static,
{
    moka::sync::Cache::builder().max_capacity(max_entries).time_to_live(ttl).build_with_hasher(S::default())
}

/// How large a cache is, and how long an entry lives; the parameters are the defaults, in entries and seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub struct Settings<const ENTRIES: u64, const SECONDS: u64> {
    /// `false`: the cache is neither read nor written.
    pub enabled: bool,
    /// Above it, the least used entries are dropped.
    pub max_entries: u64,
    /// How long an entry may be used.
    pub ttl: Wait,
}

impl<const ENTRIES: u64, const SECONDS: u64> Default for Settings<ENTRIES, SECONDS> {
    fn default() -> Self {
        Settings { enabled: true, max_entries: ENTRIES, ttl: Wait::seconds(SECONDS) }
    }
}

// serde derives nothing for a structure with numbers as parameters and a default of its own.
impl<'de, const ENTRIES: u64, const SECONDS: u64> Deserialize<'de> for Settings<ENTRIES, SECONDS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Written {
            enabled: Option<bool>,
            max_entries: Option<u64>,
            ttl: Option<Wait>,
        }
        let (written, own) = (Written::deserialize(deserializer)?, Self::default());
        Ok(Settings {
            enabled: written.enabled.unwrap_or(own.enabled),
            max_entries: written.max_entries.unwrap_or(own.max_entries),
            ttl: written.ttl.unwrap_or(own.ttl),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

    fn cache() -> Cache<u8, &'static str> {
        Cache::new(&Settings::<100, 10>::default())
    }

    fn far() -> Timestamp {
        NOW.plus(Duration::from_secs(1000))
    }

    #[test]
    fn an_entry_ends_at_its_deadline_or_with_the_ttl() {
        let cache = cache();
        cache.keep(1, "short", NOW.plus(Duration::from_secs(3)), cache.begin(), NOW);
        cache.keep(2, "long", far(), cache.begin(), NOW);
        let found = |key: u8, after: u64| cache.find(&key, NOW.plus(Duration::from_millis(after)));
        assert_eq!((found(1, 2999), found(1, 3000)), (Some("short"), None));
        assert_eq!((found(2, 9999), found(2, 10_000)), (Some("long"), None));
        assert_eq!((cache.entries(), found(3, 0)), (2, None));
    }

    /// A read, an invalidation and the keeping, in every order: what was read before an invalidation is not kept after it.
    #[test]
    fn what_was_read_before_an_invalidation_is_not_kept() {
        type Invalidate = fn(&Cache<u8, &'static str>);
        let of_key: Invalidate = |cache| cache.forget(&1);
        let of_all: Invalidate = Cache::forget_all;
        let of_other: Invalidate = |cache| cache.forget(&2);
        for (invalidate, touches) in [(of_key, true), (of_all, true), (of_other, false)] {
            for (before, between, after) in [(true, false, false), (false, true, false), (false, false, true)] {
                let cache = cache();
                cache.keep(1, "older", far(), cache.begin(), NOW);
                if before {
                    invalidate(&cache);
                    assert_eq!(cache.find(&1, NOW).is_none(), touches);
                }
                let begun = cache.begin();
                if between {
                    invalidate(&cache);
                }
                cache.keep(1, "read", far(), begun, NOW);
                if after {
                    invalidate(&cache);
                }
                let kept = !(touches && (between || after));
                assert_eq!(cache.find(&1, NOW), kept.then_some("read"), "{before} {between} {after}");
            }
        }
    }

    #[test]
    fn of_two_reads_only_the_one_from_before_the_invalidation_is_dropped() {
        let cache = cache();
        let early = cache.begin();
        cache.forget(&1);
        let late = cache.begin();
        cache.keep(1, "late", far(), late, NOW);
        cache.keep(1, "early", far(), early, NOW);
        assert_eq!(cache.find(&1, NOW), Some("late"));
    }

    #[test]
    fn invalidations_from_many_threads_lose_none() {
        let cache = cache();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let begun = cache.begin();
                        cache.forget(&1);
                        cache.keep(1, "stale", far(), begun, NOW);
                        assert_eq!(cache.find(&1, NOW), None);
                    }
                });
            }
        });
    }
}
