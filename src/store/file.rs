//! The store in an embedded database (redb): one replica whose sessions survive a restart. Reads go directly to the
//! database, concurrently; one thread collects writes, commits them in groups, and answers after the commit.

use crate::kit::clock::{Clock, Timestamp};
use crate::store::kv::Key;
use crate::store::kv::{Away, Entry, Kv};
use async_trait::async_trait;
use nix::fcntl::OFlag;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

pub struct File {
    clock: Arc<dyn Clock>,
    database: Arc<Database>,
    writes: SyncSender<Write>,
}

struct Write {
    key: String,
    what: What,
    answer: oneshot::Sender<Result<bool, Away>>,
}

enum What {
    Put(Entry, Duration, When),
    Delete,
    Extend(Vec<u8>, Duration),
}

enum When {
    Always,
    Absent,
    Older,
    AbsentOrOlder,
}

/// Key to (expiry in milliseconds, generation, value).
const ENTRIES: TableDefinition<'_, &str, (i64, u64, &[u8])> = TableDefinition::new("entries");
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

    async fn write(&self, key: &Key, what: What) -> Result<bool, Away> {
        let (answer, answered) = oneshot::channel();
        // A full queue means that the disk does not keep up: fail rather than let requests wait for it.
        self.writes.try_send(Write { key: key.as_str().to_string(), what, answer }).map_err(|_| Away)?;
        answered.await.map_err(|_| Away)?
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
        loop {
            let mut group = match self.waiting.recv_timeout(SWEEP_EVERY) {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(problem) = self.sweep() {
                        tracing::warn!(%problem, "what is over stays in the store");
                    }
                    continue;
                }
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
                let _ = write.answer.send(results.next().ok_or(Away));
            }
        }
    }

    fn commit(&self, group: &[Write]) -> Result<Vec<bool>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let now = self.clock.now();
        let results = {
            let mut table = transaction.open_table(ENTRIES)?;
            group.iter().map(|write| apply(&mut table, write, now)).collect::<Result<_, _>>()?
        };
        transaction.commit()?;
        Ok(results)
    }

    fn sweep(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let now = self.clock.now().millis();
        transaction.open_table(ENTRIES)?.retain(|_, (ends, ..)| ends > now)?;
        transaction.commit()?;
        Ok(())
    }
}

fn apply(table: &mut Table<'_, &str, (i64, u64, &[u8])>, write: &Write, now: Timestamp) -> Result<bool, redb::Error> {
    let key = write.key.as_str();
    let there = table.get(key)?.and_then(|found| {
        let (ends, generation, _) = found.value();
        (ends > now.millis()).then_some(generation)
    });
    match &write.what {
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
    async fn get_with_ttl(&self, key: &Key) -> Result<Option<(Entry, Duration)>, Away> {
        self.read(key).map_err(|problem| {
            tracing::error!(%problem, "the store cannot be read");
            Away
        })
    }

    async fn put(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<(), Away> {
        self.write(key, What::Put(entry, ttl, When::Always)).await.map(drop)
    }

    async fn put_new(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.write(key, What::Put(entry, ttl, When::Absent)).await
    }

    async fn replace(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.write(key, What::Put(entry, ttl, When::Older)).await
    }

    async fn delete(&self, key: &Key, _remember: Duration) -> Result<bool, Away> {
        self.write(key, What::Delete).await
    }

    async fn restore(&self, key: &Key, entry: Entry, ttl: Duration) -> Result<bool, Away> {
        self.write(key, What::Put(entry, ttl, When::AbsentOrOlder)).await
    }

    async fn extend(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<bool, Away> {
        self.write(key, What::Extend(value.to_vec(), ttl)).await
    }
}
