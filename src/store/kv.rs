//! The seam between what is kept and where.

use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::broadcast;

/// A value, and the generation of the write that put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub generation: u64,
    pub value: Vec<u8>,
}

/// The store cannot be asked now: nothing is known of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// What another replica has told. It names places and carries nothing to believe: it can but make a replica look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    Key(String),
    /// Something may have been said that was not heard.
    All,
}

/// A key-value store. Each verb is atomic: of two callers of `put_new` for one key, one succeeds. An entry is gone when its
/// time is over, whether or not it was swept. A write that was answered survives what the store promises: nothing (memory),
/// the end of the process (file), the end of this replica (Redis).
#[async_trait]
pub trait Kv: Send + Sync {
    /// The entry, and how long it still lives.
    async fn get_with_ttl(&self, key: &str) -> Result<Option<(Entry, Duration)>, Away>;

    async fn put(&self, key: &str, entry: Entry, ttl: Duration) -> Result<(), Away>;

    /// Only where the key is not there; says whether it wrote.
    async fn put_new(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away>;

    /// Only where the key is there with a lower generation; says whether it wrote. A late write neither revives what was
    /// deleted nor undoes what came after it.
    async fn replace(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away>;

    /// Says whether it was there. A shared store remembers for so long that it was deleted: see `restore`.
    async fn delete(&self, key: &str, remember: Duration) -> Result<bool, Away>;

    /// Only where the key is not remembered as deleted, and is not there with as high a generation; says whether it wrote.
    /// For what a replica held while the store was away.
    async fn restore(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away>;

    /// Only where the key is there with this value: it lives for `ttl` from now on, or is gone where that is nothing.
    async fn extend(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, Away>;

    async fn get(&self, key: &str) -> Result<Option<Entry>, Away> {
        Ok(self.get_with_ttl(key).await?.map(|(entry, _)| entry))
    }

    /// Tells the other replicas that this place has changed; whether they hear it is not known.
    async fn announce(&self, _place: &str) {}

    /// What others tell; nothing where there are no others.
    fn announcements(&self) -> Option<broadcast::Receiver<Invalidation>> {
        None
    }

    /// It was away until a moment ago, and what other replicas did meanwhile may not all be there yet.
    fn is_settling(&self) -> bool {
        false
    }

    /// Counts a value that its reader could not make out: truncated, foreign, or of another version.
    fn count_unreadable(&self) {}

    /// Other replicas may have it, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Others share the store and it is away: what is known here may be out of date.
    fn is_away(&self) -> bool {
        false
    }
}
