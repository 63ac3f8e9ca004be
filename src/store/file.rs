//! The store in an embedded database (redb): one replica whose sessions survive a restart. Reads go directly to the
//! database, concurrently; one thread collects writes, commits them in groups, and answers after the commit.

use crate::kit::clock::{Clock, Timestamp};
use crate::store::kv::{Entry, Key, Kv, MOST_MEMBERS, Unavailable};
use async_trait::async_trait;
use nix::fcntl::OFlag;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub struct File {
    clock: Arc<dyn Clock>,
    database: Arc<Reopened>,
    writes: SyncSender<Write>,
}

/// The database, which refuses everything after a failed write (a full disk) until it is opened anew.
struct Reopened {
    /// `None` while it cannot be opened.
    database: RwLock<Option<Database>>,
    open: Box<dyn Fn() -> Result<Database, String> + Send + Sync>,
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
/// Between two tries to open the database anew.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

impl File {
    /// Opens or creates the database; no other process may have it open.
    ///
    /// # Errors
    /// The database cannot be opened; the text is for the operator.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let path = path.to_path_buf();
        let open = move || {
            let told = |problem: String| format!("store {}: {problem}", path.display());
            let file = open_own(&path).map_err(|e| told(e.to_string()))?;
            let database = Database::builder().create_file(file).map_err(|e| told(e.to_string()))?;
            with_tables(database).map_err(|e| told(e.to_string()))
        };
        File::with(Box::new(open), clock)
    }

    fn with(
        open: Box<dyn Fn() -> Result<Database, String> + Send + Sync>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let database = Arc::new(Reopened { database: RwLock::new(Some(open()?)), open });
        let (writes, waiting) = sync_channel(QUEUE);
        let writer = Writer { clock: clock.clone(), database: database.clone(), waiting };
        std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(|e| e.to_string())?;
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

/// Both tables exist from the start: a read finds no table missing. Where they do, nothing is written: the disk may be full.
fn with_tables(database: Database) -> Result<Database, redb::Error> {
    let there = database.begin_read()?;
    if there.open_table(ENTRIES).is_ok() && there.open_table(SETS).is_ok() {
        return Ok(database);
    }
    drop(there);
    let begun = database.begin_write()?;
    drop((begun.open_table(ENTRIES)?, begun.open_table(SETS)?));
    begun.commit()?;
    Ok(database)
}

impl Reopened {
    fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.database.read().as_ref().ok_or(redb::Error::PreviousIo)?.begin_read()?)
    }

    fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        Ok(self.database.read().as_ref().ok_or(redb::Error::PreviousIo)?.begin_write()?)
    }

    fn is_open(&self) -> bool {
        self.database.read().is_some()
    }

    /// The old one is closed first: it holds the lock of the file.
    fn reopen(&self) {
        *self.database.write() = None;
        match (self.open)() {
            Ok(opened) => {
                *self.database.write() = Some(opened);
                tracing::info!("the store was opened anew");
            }
            Err(problem) => tracing::error!(%problem, "the store cannot be opened"),
        }
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
    database: Arc<Reopened>,
    waiting: Receiver<Write>,
}

impl Writer {
    fn run(self) {
        let (mut swept, mut failed) = (Instant::now(), None::<Instant>);
        loop {
            let first = self.waiting.recv_timeout(if self.database.is_open() { SWEEP_EVERY } else { REOPEN_EVERY });
            if !self.database.is_open() && failed.is_none_or(|at| at.elapsed() >= REOPEN_EVERY) {
                self.database.reopen();
            }
            // Also where something is always written.
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                if let Err(problem) = self.sweep() {
                    tracing::warn!(%problem, "expired entries stay in the store");
                    failed = Some(Instant::now());
                    self.database.reopen();
                }
            }
            let mut group = match first {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            group.extend(self.waiting.try_iter().take(GROUP - 1));
            // Opened anew after each failure, so that it can be read; and so not written for a moment.
            let may_write = failed.is_none_or(|at| at.elapsed() >= REOPEN_EVERY);
            let outcome = if may_write { self.commit(&group) } else { Ok(Vec::new()) };
            if let Err(problem) = &outcome {
                tracing::error!(%problem, "the store cannot write");
                failed = Some(Instant::now());
                self.database.reopen();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::test::SetClock;
    use crate::store::kv::key;
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use std::io::{Error, ErrorKind};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    /// A disk that can be full.
    #[derive(Debug)]
    struct Disk {
        inner: FileBackend,
        is_full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> Result<(), Error> {
            if self.is_full.load(SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, Error> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), Error> {
            self.room()?;
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> Result<(), Error> {
            self.room()?;
            self.inner.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
            self.room()?;
            self.inner.write(offset, data)
        }
    }

    /// A full disk fails writes while it is full, and no longer.
    #[tokio::test]
    async fn a_disk_that_was_full_is_written_again() {
        let path = std::env::temp_dir().join(format!("doorward-full-disk-{}.db", std::process::id()));
        let (is_full, hour) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(3600));
        let entry = |value: &str| Entry { generation: 1, value: value.into() };
        let (own, full) = (path.clone(), is_full.clone());
        let open = move || {
            let inner = FileBackend::new(open_own(&own).unwrap()).map_err(|e| e.to_string())?;
            let disk = Disk { inner, is_full: full.clone() };
            let database = Database::builder().create_with_backend(disk).map_err(|e| e.to_string())?;
            with_tables(database).map_err(|e| e.to_string())
        };
        let file = File::with(Box::new(open), Arc::new(SetClock::at(1000))).unwrap();
        file.put(&key("session:a"), entry("a"), hour).await.unwrap();
        is_full.store(true, SeqCst);
        for _ in 0..2 {
            assert_eq!(file.put(&key("session:b"), entry("b"), hour).await, Err(Unavailable));
        }
        is_full.store(false, SeqCst);
        let deadline = Instant::now() + Duration::from_secs(30);
        while file.put(&key("session:c"), entry("c"), hour).await.is_err() {
            assert!(Instant::now() < deadline, "it is written again by itself");
            tokio::task::yield_now().await;
        }
        assert_eq!(file.get(&key("session:a")).await, Ok(Some(entry("a"))), "what was written before is there");
        assert_eq!(file.get(&key("session:b")).await, Ok(None));
        drop(file);
        std::fs::remove_file(path).unwrap();
    }
}
