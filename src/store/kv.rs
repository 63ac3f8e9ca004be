//! The seam between what is kept and where.

use async_trait::async_trait;
use std::time::Duration;

/// A value, and the generation of the write that put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub generation: u64,
    pub value: Vec<u8>,
}

/// The store cannot be asked now: nothing is known of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// A key-value store. Each verb is atomic: of two callers of `put_new` or `take` for one key, one succeeds. An entry is
/// gone when its time is over, whether or not it was swept. A write that was answered survives what the store promises:
/// nothing (memory), or the end of the process (file).
#[async_trait]
pub trait Kv: Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Away>;

    async fn put(&self, key: &str, entry: Entry, ttl: Duration) -> Result<(), Away>;

    /// Only where the key is not there; says whether it wrote.
    async fn put_new(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away>;

    /// Only where the key is there with a lower generation; says whether it wrote. A late write neither revives what was
    /// deleted nor undoes what came after it.
    async fn replace(&self, key: &str, entry: Entry, ttl: Duration) -> Result<bool, Away>;

    /// Says whether it was there.
    async fn delete(&self, key: &str) -> Result<bool, Away>;
}
