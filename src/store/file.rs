//! The store in an embedded database (redb): one replica whose sessions survive a restart. Reads go directly to the
//! database, concurrently; one thread collects writes, commits them in groups, and answers after the commit.

use crate::kit::clock::{Clock, Timestamp};
use crate::store::kv::{Entry, Key, Kv, MOST_MEMBERS, Unavailable};
use async_trait::async_trait;
use nix::fcntl::OFlag;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub struct File {
    clock: Arc<dyn Clock>,
    database: Arc<Database>,
    writes: SyncSender<Write>,
}

struct Write {
    key: String,
    what: What,
    answer: oneshot::Sender<Result<bool, Unavailable>>,
}

enum What {
    Put(Entry, Duration, When),
    Delete,
    Extend(Vec<u8>, Duration),
    Add(String, Duration),
    Remove(String),
}

enum When {
    Always,
    Absent,
    Older,
    AbsentOrOlder,
}

/// Key to (expiry in milliseconds, generation, value).
const ENTRIES: TableDefinition<'_, &str, (i64, u64, &[u8])> = TableDefinition::new("entries");
/// By set and member: when it ends.
const SETS: TableDefinition<'static, (&str, &str), i64> = TableDefinition::new("sets");
/// Maximum number of queued writes; more than disks commit in a second.
const QUEUE: usize = 4096;
/// Maximum number of writes in a commit.
const GROUP: usize = 512;
const SWEEP_EVERY: Duration = Duration::from_secs(300);

impl File {
    /// Opens or creates the database; no other process may have it open.
    ///
    /// # Errors
    /// The database cannot be opened; the text is for the operator.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let told = |problem: String| format!("store {}: {problem}", path.display());
        let file = open_own(path).map_err(|e| told(e.to_string()))?;
        let database = Database::builder().create_file(file).map_err(|e| told(e.to_string()))?;
        let begun = database.begin_write().map_err(|e| told(e.to_string()))?;
        drop(begun.open_table(ENTRIES).map_err(|e| told(e.to_string()))?);
        begun.commit().map_err(|e| told(e.to_string()))?;
        let (database, (writes, waiting)) = (Arc::new(database), sync_channel(QUEUE));
        let writer = Writer { clock: clock.clone(), database: database.clone(), waiting };
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|e| told(e.to_string()))?;
        Ok(File { clock, database, writes })
    }

    fn read(&self, key: &Key) -> Result<Option<(Entry, Duration)>, redb::Error> {
        let table = self.database.begin_read()?.open_table(ENTRIES)?;
        let now = self.clock.now();
        let found = table.get(key.as_str())?;
        Ok(found.and_then(|found| {
            let (ends, generation, value) = found.value();
            (ends > now.millis())
                .then(|| (Entry { generation, value: value.to_vec() }, now.until(Timestamp::from_millis(ends))))
        }))
    }

    fn read_set(&self, key: &Key) -> Result<Vec<String>, redb::Error> {
        let table = self.database.begin_read()?.open_table(SETS)?;
        let now = self.clock.now().millis();
        let mut members = Vec::new();
        for row in table.range((key.as_str(), "")..)? {
            let (at, ends) = row?;
            let (set, member) = at.value();
            if set != key.as_str() {
                break;
            }
            if ends.value() > now {
                members.push(member.to_string());
            }
        }
        Ok(members)
    }

    async fn write(&self, key: &Key, what: What) -> Result<bool, Unavailable> {
        let (answer, answered) = oneshot::channel();
        // A full queue means that the disk does not keep up: fail rather than let requests wait for it.
        self.writes.try_send(Write { key: key.as_str().to_string(), what, answer }).map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)?
    }
}

/// Created with access for this user only; a symbolic link at the path is not followed.
fn open_own(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

struct Writer {
    clock: Arc<dyn Clock>,
    database: Arc<Database>,
    waiting: Receiver<Write>,
}

impl Writer {
    fn run(self) {
        let mut swept = Instant::now();
        loop {
            let first = self.waiting.recv_timeout(SWEEP_EVERY);
            // Also where something is always written.
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                if let Err(problem) = self.sweep() {
                    tracing::warn!(%problem, "expired entries stay in the store");
                }
            }
            let mut group = match first {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            group.extend(self.waiting.try_iter().take(GROUP - 1));
            let outcome = self.commit(&group);
            if let Err(problem) = &outcome {
                tracing::error!(%problem, "the store cannot write");
            }
            let mut results = outcome.unwrap_or_default().into_iter();
            for write in group {
                // Without a commit nothing was written.
                let _ = write.answer.send(results.next().ok_or(Unavailable));
            }
        }
    }

    fn commit(&self, group: &[Write]) -> Result<Vec<bool>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let now = self.clock.now();
        let results = {
            let (mut table, mut sets) = (transaction.open_table(ENTRIES)?, transaction.open_table(SETS)?);
            let one = |write: &Write| match &write.what {
                What::Add(member, ttl) => add(&mut sets, &write.key, member, *ttl, now),
                What::Remove(member) => Ok(sets.remove((write.key.as_str(), member.as_str()))?.is_some()),
                _ => apply(&mut table, write, now),
            };
            group.iter().map(one).collect::<Result<_, _>>()?
        };
        transaction.commit()?;
        Ok(results)
    }

    fn sweep(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let now = self.clock.now().millis();
        transaction.open_table(ENTRIES)?.retain(|_, (ends, ..)| ends > now)?;
        transaction.open_table(SETS)?.retain(|_, ends| ends > now)?;
        transaction.commit()?;
        Ok(())
    }
}

fn add(
    sets: &mut Table<'_, (&'static str, &'static str), i64>,
    key: &str,
    member: &str,
    ttl: Duration,
    now: Timestamp,
) -> Result<bool, redb::Error> {
    let is_there = sets.get((key, member))?.is_some();
    if !is_there {
        let (mut living, mut expired) = (0, Vec::new());
        for row in sets.range((key, "")..)? {
            let (at, ends) = row?;
            match at.value() {
                (set, _) if set != key => break,
                (_, member) if ends.value() <= now.millis() => expired.push(member.to_string()),
                _ => living += 1,
            }
        }
        for member in expired {
            sets.remove((key, member.as_str()))?;
        }
        if living >= MOST_MEMBERS {
            return Ok(false);
        }
    }
    sets.insert((key, member), now.plus(ttl).millis())?;
    Ok(true)
}

fn apply(table: &mut Table<'_, &str, (i64, u64, &[u8])>, write: &Write, now: Timestamp) -> Result<bool, redb::Error> {
    let key = write.key.as_str();
    let there = table.get(key)?.and_then(|found| {
        let (ends, generation, _) = found.value();
        (ends > now.millis()).then_some(generation)
    });
    match &write.what {
        What::Add(..) | What::Remove(_) => Ok(false), // of the other table
        What::Delete => {
            table.remove(key)?;
            Ok(there.is_some())
        }
        What::Extend(value, ttl) => {
            let own = table.get(key)?.is_some_and(|found| found.value().2 == value.as_slice());
            if let Some(generation) = there.filter(|_| own) {
                table.insert(key, (now.plus(*ttl).millis(), generation, value.as_slice()))?;
                return Ok(true);
            }
            Ok(false)
        }
        What::Put(entry, ttl, when) => {
            let may = match when {
                When::Always => true,
                When::Absent => there.is_none(),
                When::Older => there.is_some_and(|there| there < entry.generation),
                When::AbsentOrOlder => there.is_none_or(|there| there < entry.generation),
            };
            if may {
                table.insert(key, (now.plus(*ttl).millis(), entry.generation, entry.value.as_slice()))?;
            }
            Ok(may)
        }
    }
}

#[async_trait]
impl Kv for File {
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Unavailable> {
        self.read(key).map_err(|problem| {
            tracing::error!(%problem, "the store cannot be read");
            Unavailable
        })
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Unavailable> {
        self.write(key, What::Put(entry, ttl, When::Always)).await.map(drop)
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Put(entry, ttl, When::Absent)).await
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Put(entry, ttl, When::Older)).await
    }

    async fn delete(&self, key: &Key, _remember: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Delete).await
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Put(entry, ttl, When::AbsentOrOlder)).await
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Extend(value.to_vec(), ttl)).await
    }

    async fn add(&self, key: &Key, member: &str, ttl: Duration) -> Result<bool, Unavailable> {
        self.write(key, What::Add(member.to_string(), ttl)).await
    }

    async fn members(&self, key: &Key) -> Result<Vec<String>, Unavailable> {
        self.read_set(key).map_err(|problem| {
            tracing::error!(%problem, "the store cannot be read");
            Unavailable
        })
    }

    async fn remove(&self, key: &Key, member: &str) -> Result<(), Unavailable> {
        self.write(key, What::Remove(member.to_string())).await.map(drop)
    }
}
