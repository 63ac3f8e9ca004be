//! API keys in the store: records sealed with the store's secret, each bound to its id, and a sealed index of the ids,
//! because a store lists nothing. A dump of it lets nobody in, and whoever writes to it without the secret can take a key
//! away, or put back one that was there, but make none. Must not know of copies, or of judging.

use crate::credential::api_key::{KeyId, Record};
use crate::kit::clock::Timestamp;
use crate::kit::seal::Secrets;
use crate::store::kv::{Away, Entry, Kv};
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
    /// The Unix second at which the store lets go of the record.
    until: i64,
}

/// The place of the index, which it is bound to as well.
const INDEX: &str = "api_keys";
const RECORD_PURPOSE: &[u8] = b"api key";
const INDEX_PURPOSE: &[u8] = b"api key index";
/// As many as the cache holds by default, and an index that is still read and written in one piece.
pub(super) const MOST: usize = 10_000;
/// For a key without an end: the store knows no writes for ever.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 86_400);
/// For so long an expired key is still listed, and told from an unknown one.
const KEPT_EXPIRED: Duration = Duration::from_secs(30 * 86_400);
/// A replica restores no keys, so that this need not be long.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The last use is written at most once in so many seconds.
const USE_EVERY: i64 = 60;
/// A write of the index is lost only to another one; no administrators are so many at once.
const TRIES: usize = 100;
/// Records that are read at a time for a list.
const ABREAST: usize = 32;

impl KeyStore {
    /// The record, and the generation of its write. What does not open was not made here: it is absent.
    pub(super) async fn read(&self, id: KeyId) -> Result<Option<(Record, u64)>, Away> {
        let Some(entry) = self.kv.get(&place(id)).await? else { return Ok(None) };
        let plain = self.secrets.open(b"", &[RECORD_PURPOSE], id.as_str().as_bytes(), &entry.value);
        let record = plain.ok().and_then(|plain| serde_json::from_slice::<Record>(&plain).ok());
        let record = record.filter(|record| record.id == id);
        if record.is_none() {
            self.kv.count_unreadable();
        }
        Ok(record.map(|record| (record, entry.generation)))
    }

    /// False where the id is taken.
    pub(super) async fn put_new(&self, record: &Record, now: Timestamp) -> Result<bool, Away> {
        let ttl = now.until(ends(record, now));
        self.kv.put_new(&place(record.id), self.sealed(record, 1)?, ttl).await
    }

    /// Notes a use, unless somebody did within the minute. False where the key is no longer there.
    pub(super) async fn note_use(&self, id: KeyId, now: Timestamp) -> Result<bool, Away> {
        let Some((mut record, generation)) = self.read(id).await? else { return Ok(false) };
        if is_due(record.last_used, now) {
            record.last_used = Some(now.seconds());
            let (entry, ttl) = (self.sealed(&record, generation.saturating_add(1))?, now.until(ends(&record, now)));
            // LeaderLost to another replica's note, or to the key's end: either is as it should be.
            let _ = self.kv.replace(&place(id), entry, ttl).await?;
        }
        Ok(true)
    }

    /// False where it was not there.
    pub(super) async fn delete(&self, id: KeyId) -> Result<bool, Away> {
        self.kv.delete(&place(id), REMEMBERED).await
    }

    /// All records, in the order in which they were made.
    pub(super) async fn list(&self) -> Result<Vec<Record>, Away> {
        let (lines, _) = self.index().await?;
        let reading = stream::iter(lines.into_iter().map(|line| self.read(line.id))).buffered(ABREAST);
        // A line without a record is of a key whose making or ending was cut short.
        reading.try_filter_map(|found| async { Ok(found.map(|(record, _)| record)) }).try_collect().await
    }

    /// Adds the record's line; false where there are as many as may be. One that has expired gives way: its record stays.
    pub(super) async fn enlist(&self, record: &Record, now: Timestamp) -> Result<bool, Away> {
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

    pub(super) async fn strike(&self, id: KeyId, now: Timestamp) -> Result<bool, Away> {
        self.edit(now, |mut lines| {
            let before = lines.len();
            lines.retain(|line| line.id != id);
            (lines.len() < before).then_some(lines)
        })
        .await
    }

    /// Writes the index anew, less what is over; false where `edit` wants nothing written.
    async fn edit(&self, now: Timestamp, edit: impl Fn(Vec<Line>) -> Option<Vec<Line>>) -> Result<bool, Away> {
        let mut was_taken = false;
        for _ in 0..TRIES {
            let (mut lines, generation) = self.index().await?;
            lines.retain(|line| line.until > now.seconds());
            let Some(lines) = edit(lines) else { return Ok(false) };
            let plain = serde_json::to_vec(&lines).map_err(|_| Away)?;
            let value = self.secrets.seal(b"", &[INDEX_PURPOSE], INDEX.as_bytes(), &plain).map_err(|_| Away)?;
            let written = match generation {
                // It reads as absent, and its place is taken: somebody has written there what is no entry.
                None if was_taken => {
                    self.kv.put(INDEX, Entry { generation: 1, value }, FOR_GOOD).await?;
                    true
                }
                None => {
                    let written = self.kv.put_new(INDEX, Entry { generation: 1, value }, FOR_GOOD).await?;
                    was_taken = !written;
                    written
                }
                Some(before) => {
                    let generation = before.saturating_add(1);
                    self.kv.replace(INDEX, Entry { generation, value }, FOR_GOOD).await?
                }
            };
            if written {
                return Ok(true);
            }
        }
        Err(Away)
    }

    /// The lines, and the generation of their write. An index that does not open lists keys that do not open either, and
    /// is begun anew.
    async fn index(&self) -> Result<(Vec<Line>, Option<u64>), Away> {
        let Some(entry) = self.kv.get(INDEX).await? else { return Ok((Vec::new(), None)) };
        let plain = self.secrets.open(b"", &[INDEX_PURPOSE], INDEX.as_bytes(), &entry.value);
        let lines = plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
        if lines.is_none() {
            self.kv.count_unreadable();
        }
        Ok((lines.unwrap_or_default(), Some(entry.generation)))
    }

    fn sealed(&self, record: &Record, generation: u64) -> Result<Entry, Away> {
        let plain = serde_json::to_vec(record).map_err(|_| Away)?;
        let value = self.secrets.seal(b"", &[RECORD_PURPOSE], record.id.as_str().as_bytes(), &plain);
        Ok(Entry { generation, value: value.map_err(|_| Away)? })
    }
}

/// Whether a use now is worth a note.
pub(super) fn is_due(last_used: Option<i64>, now: Timestamp) -> bool {
    last_used.is_none_or(|last| last.saturating_add(USE_EVERY) <= now.seconds())
}

pub(super) fn place(id: KeyId) -> String {
    format!("api_key:{id}")
}

/// When the store may let go of the record.
fn ends(record: &Record, now: Timestamp) -> Timestamp {
    let over = record.expires_at.map_or(Timestamp::FAR, |expires| Timestamp::from_seconds(expires).plus(KEPT_EXPIRED));
    over.min(now.plus(FOR_GOOD))
}
