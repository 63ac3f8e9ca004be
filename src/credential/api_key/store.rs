//! API keys in the store: records sealed with the store's secret, each bound to its id, and a sealed index of the ids,
//! because a store cannot list its keys. A dump of the store authenticates nobody; a writer without the secret can
//! remove a key, or restore an old one, but not create one. Must not know of the cache, or of verification.

use crate::credential::api_key::{KeyId, Record};
use crate::kit::clock::Timestamp;
use crate::kit::seal::Secrets;
use crate::store::kv::{Entry, Key, Kv, Space, Unavailable};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct KeyStore {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) secrets: Secrets,
}

/// A key's line in the index.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Line {
    id: KeyId,
    /// The Unix second at which the record expires in the store.
    until: i64,
}

const RECORD_PURPOSE: &[u8] = b"api key";
const INDEX_PURPOSE: &[u8] = b"api key index";
/// Maximum number of keys: as many as the cache holds by default; the index is read and written as a whole.
pub(super) const MOST: usize = 10_000;
/// Lifetime of a key without expiry: the store has no writes without one.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long an expired key is still listed, and distinguished from an unknown one.
const KEPT_EXPIRED: Duration = Duration::from_secs(30 * 86_400);
/// Lifetime of a tombstone; may be short, because replicas do not restore keys.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The last use is written at most once in this many seconds.
const USE_EVERY: i64 = 60;
/// Attempts at an index write, which only loses against another one; there are not this many administrators at once.
const TRIES: usize = 100;
/// Records read concurrently for a list.
const ABREAST: usize = 32;

impl KeyStore {
    /// The record and its generation. A record that does not open was not made by us: it is absent.
    pub(super) async fn read(&self, id: KeyId) -> Result<Option<(Record, u64)>, Unavailable> {
        let Some(entry) = self.kv.get(&key(id)).await? else { return Ok(None) };
        let plain = self.secrets.open(b"", &[RECORD_PURPOSE], id.as_str().as_bytes(), &entry.value);
        let record = plain.ok().and_then(|plain| serde_json::from_slice::<Record>(&plain).ok());
        let record = record.filter(|record| record.id == id);
        if record.is_none() {
            self.kv.count_unreadable();
        }
        Ok(record.map(|record| (record, entry.generation)))
    }

    /// False where the id is taken.
    pub(super) async fn put_new(&self, record: &Record, now: Timestamp) -> Result<bool, Unavailable> {
        let ttl = now.until(ends(record, now));
        self.kv.put_new(&key(record.id), self.sealed(record, 1)?, ttl).await
    }

    /// Records a use, unless one was recorded within the minute. False if the key no longer exists.
    pub(super) async fn note_use(&self, id: KeyId, now: Timestamp) -> Result<bool, Unavailable> {
        let Some((mut record, generation)) = self.read(id).await? else { return Ok(false) };
        if is_due(record.last_used, now) {
            record.last_used = Some(now.seconds());
            let (entry, ttl) = (self.sealed(&record, generation.saturating_add(1))?, now.until(ends(&record, now)));
            // Lost against another replica's write, or against a revocation: either is fine.
            let _ = self.kv.replace(&key(id), entry, ttl).await?;
        }
        Ok(true)
    }

    /// False if it did not exist.
    pub(super) async fn delete(&self, id: KeyId) -> Result<bool, Unavailable> {
        self.kv.delete(&key(id), REMEMBERED).await
    }

    /// All records, in order of creation.
    pub(super) async fn list(&self) -> Result<Vec<Record>, Unavailable> {
        let (lines, _) = self.index().await?;
        let reading = stream::iter(lines.into_iter().map(|line| self.read(line.id))).buffered(ABREAST);
        // A line without a record belongs to a key whose creation or revocation was interrupted.
        reading.try_filter_map(|found| async { Ok(found.map(|(record, _)| record)) }).try_collect().await
    }

    /// Adds the record's line; false if the index is full. The longest-expired key gives way: its record stays.
    pub(super) async fn enlist(&self, record: &Record, now: Timestamp) -> Result<bool, Unavailable> {
        let line = Line { id: record.id, until: ends(record, now).seconds() };
        self.edit(now, |mut lines| {
            lines.retain(|other| other.id != line.id);
            if lines.len() >= MOST {
                let expired = |line: &Line| Timestamp::from_seconds(line.until) <= now.plus(KEPT_EXPIRED);
                let (longest_ago, _) =
                    lines.iter().enumerate().filter(|(_, line)| expired(line)).min_by_key(|(_, line)| line.until)?;
                lines.remove(longest_ago);
            }
            lines.push(line);
            Some(lines)
        })
        .await
    }

    pub(super) async fn strike(&self, id: KeyId, now: Timestamp) -> Result<bool, Unavailable> {
        self.edit(now, |mut lines| {
            let before = lines.len();
            lines.retain(|line| line.id != id);
            (lines.len() < before).then_some(lines)
        })
        .await
    }

    /// Rewrites the index without expired lines; false if `edit` has nothing to write.
    async fn edit(&self, now: Timestamp, edit: impl Fn(Vec<Line>) -> Option<Vec<Line>>) -> Result<bool, Unavailable> {
        let (mut was_taken, index) = (false, Key::only(Space::ApiKeys));
        for _ in 0..TRIES {
            let (mut lines, generation) = self.index().await?;
            lines.retain(|line| line.until > now.seconds());
            let Some(lines) = edit(lines) else { return Ok(false) };
            let plain = serde_json::to_vec(&lines).map_err(|_| Unavailable)?;
            let value = self.secrets.seal(b"", &[INDEX_PURPOSE], b"api_keys", &plain).map_err(|_| Unavailable)?;
            let written = match generation {
                // It reads as absent, yet `put_new` fails: someone has written a value that is not an entry.
                None if was_taken => {
                    self.kv.put(&index, Entry { generation: 1, value }, FOR_GOOD).await?;
                    true
                }
                None => {
                    let written = self.kv.put_new(&index, Entry { generation: 1, value }, FOR_GOOD).await?;
                    was_taken = !written;
                    written
                }
                Some(before) => {
                    let generation = before.saturating_add(1);
                    self.kv.replace(&index, Entry { generation, value }, FOR_GOOD).await?
                }
            };
            if written {
                return Ok(true);
            }
        }
        Err(Unavailable)
    }

    /// The lines and their generation. An index that does not open is begun anew: its keys do not open either.
    async fn index(&self) -> Result<(Vec<Line>, Option<u64>), Unavailable> {
        let Some(entry) = self.kv.get(&Key::only(Space::ApiKeys)).await? else { return Ok((Vec::new(), None)) };
        let plain = self.secrets.open(b"", &[INDEX_PURPOSE], b"api_keys", &entry.value);
        let lines = plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
        if lines.is_none() {
            self.kv.count_unreadable();
        }
        Ok((lines.unwrap_or_default(), Some(entry.generation)))
    }

    fn sealed(&self, record: &Record, generation: u64) -> Result<Entry, Unavailable> {
        let plain = serde_json::to_vec(record).map_err(|_| Unavailable)?;
        let value = self.secrets.seal(b"", &[RECORD_PURPOSE], record.id.as_str().as_bytes(), &plain);
        Ok(Entry { generation, value: value.map_err(|_| Unavailable)? })
    }
}

/// Whether a use now is to be recorded.
pub(super) fn is_due(last_used: Option<i64>, now: Timestamp) -> bool {
    last_used.is_none_or(|last| last.saturating_add(USE_EVERY) <= now.seconds())
}

pub(super) fn key(id: KeyId) -> Key {
    Key::of(Space::ApiKey, id)
}

/// When the record expires in the store.
fn ends(record: &Record, now: Timestamp) -> Timestamp {
    let over = record.expires_at.map_or(Timestamp::FAR, |expires| Timestamp::from_seconds(expires).plus(KEPT_EXPIRED));
    over.min(now.plus(FOR_GOOD))
}
