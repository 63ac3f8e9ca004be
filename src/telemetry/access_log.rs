//! The access log: one line per request, written by a thread of its own. Serving a request only puts a record
//! into a bounded queue; if the writer cannot keep up, lines are dropped and counted, and requests are not delayed.

use crate::telemetry::decisions::Decisions;
use crate::telemetry::escape::{Form, escape, is_plain};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::record::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Json,
    Text,
}

/// Which requests get a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    All,
    /// What was not forwarded to an app.
    Refused,
    None,
}

/// The lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    pub format: Format,
    pub access: Access,
}

/// The sending half of the queue to the writer.
#[derive(Clone)]
pub struct AccessLog {
    queue: SyncSender<Line>,
    shared: Arc<Shared>,
}

enum Line {
    /// A record, and the bytes that it counts towards [`QUEUED_BYTES`].
    Of(Box<Record>, usize),
    /// Signalled once everything queued before it is written.
    Mark(SyncSender<()>),
}

#[derive(Default)]
struct Shared {
    /// Off, JSON or text; a reload changes it.
    mode: AtomicU8,
    /// What is forwarded gets no line.
    refused_only: AtomicBool,
    decisions: Decisions,
    dropped: AtomicU64,
    /// Bytes that wait for the writer.
    queued: AtomicUsize,
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const TEXT: u8 = 2;

/// Lines that may wait for the writer: about a second's worth at full speed.
const QUEUE: usize = 32_768;
/// Bytes that may wait for the writer: clients choose how long a path is.
const QUEUED_BYTES: usize = 16 << 20;
/// How long lines are collected before they are written: waking the writer for each line costs a request more than the
/// line itself, and a write to standard output for each costs even more.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;
/// How long writing the last lines may take when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

impl AccessLog {
    /// Starts the writer; it ends when the last sender is gone.
    pub fn start(lines: Option<Lines>, mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE);
        let log = AccessLog { queue, shared: Arc::default() };
        log.apply(lines);
        let shared = log.shared.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&records, &shared, &mut out))?;
        Ok(log)
    }

    /// None: no lines, because `logging.level` is above info.
    pub fn apply(&self, lines: Option<Lines>) {
        let mode = match lines.filter(|lines| lines.access != Access::None) {
            None => OFF,
            Some(Lines { format: Format::Json, .. }) => JSON,
            Some(Lines { format: Format::Text, .. }) => TEXT,
        };
        let refused_only = lines.is_some_and(|lines| lines.access == Access::Refused);
        self.shared.refused_only.store(refused_only, Ordering::Relaxed);
        self.shared.mode.store(mode, Ordering::Relaxed);
    }

    /// Whether anything is done with the record of a forwarded request. Others are kept for a while in any case.
    pub fn wants_forwarded(&self) -> bool {
        self.shared.mode.load(Ordering::Relaxed) != OFF && !self.shared.refused_only.load(Ordering::Relaxed)
    }

    /// The last requests that were not forwarded.
    pub fn decisions(&self) -> &Decisions {
        &self.shared.decisions
    }

    pub fn write(&self, record: Box<Record>) {
        let is_forwarded = record.outcome == Outcome::forwarded.word();
        if !is_forwarded && record.outcome != Outcome::own_page.word() {
            self.shared.decisions.keep(&record);
        }
        if self.shared.mode.load(Ordering::Relaxed) == OFF || (is_forwarded && !self.wants_forwarded()) {
            return;
        }
        let bytes = record.size();
        let queued = self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        if queued + bytes > QUEUED_BYTES || self.queue.try_send(Line::Of(record, bytes)).is_err() {
            self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when all lines so far are written, or `LAST_LINES` is over.
    pub fn finish(&self) {
        let ends = Instant::now() + LAST_LINES;
        let (told, written) = sync_channel(1);
        while self.queue.try_send(Line::Mark(told.clone())).is_err() {
            if Instant::now() >= ends {
                return;
            }
            std::thread::sleep(GATHER);
        }
        let _ = written.recv_timeout(ends.saturating_duration_since(Instant::now()));
    }
}

fn write_all(records: &Receiver<Line>, shared: &Shared, out: &mut impl Write) {
    // Only whole lines are written, so that the process log, on the same standard output, does not break them.
    let mut lines = Vec::with_capacity(BATCH);
    loop {
        let line = match records.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                if !flush(&mut lines, out, shared) {
                    return;
                }
                let dropped = shared.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(dropped, "the access log could not keep up");
                }
                let Ok(first) = records.recv() else { break };
                std::thread::sleep(GATHER);
                first
            }
        };
        let record = match line {
            Line::Of(record, bytes) => {
                shared.queued.fetch_sub(bytes, Ordering::Relaxed);
                record
            }
            Line::Mark(told) => {
                if !flush(&mut lines, out, shared) {
                    return;
                }
                let _ = told.try_send(());
                continue;
            }
        };
        let (line, form) = match shared.mode.load(Ordering::Relaxed) == JSON {
            true => (serde_json::to_string(&record).unwrap_or_default(), Form::Json), // strings and numbers cannot fail
            false => (text(&record), Form::Text),
        };
        if is_plain(line.as_bytes()) {
            lines.extend_from_slice(line.as_bytes());
        } else {
            let mut shown = String::with_capacity(line.len() + 64);
            escape(&line, form, &mut shown);
            lines.extend_from_slice(shown.as_bytes());
        }
        lines.push(b'\n');
        if lines.len() >= BATCH && !flush(&mut lines, out, shared) {
            return;
        }
    }
    flush(&mut lines, out, shared);
}

/// False if the reader is gone (broken pipe). Any other error, such as a full disk, may be temporary.
fn flush(lines: &mut Vec<u8>, out: &mut impl Write, shared: &Shared) -> bool {
    let written = out.write_all(lines).and_then(|()| out.flush());
    if written.is_err() {
        let lost = lines.iter().filter(|b| **b == b'\n').count();
        shared.dropped.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    lines.clear();
    !written.is_err_and(|problem| problem.kind() == ErrorKind::BrokenPipe)
}

fn text(r: &Record) -> String {
    let reason = r.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
    let user = r.user.as_deref().map(|user| format!(" user={user:?}")).unwrap_or_default();
    format!(
        "{} {} {} {}{} -> {} {}{reason} route={} {:.1}ms client={}{user} id={}",
        r.rfc3339(),
        r.credential,
        r.method,
        r.host,
        r.path,
        r.status,
        r.outcome,
        r.route,
        r.duration_ms,
        r.client,
        r.request_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::Timestamp;
    use crate::telemetry::record::{LONGEST_PATH, cut};
    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const JSON_LINES: Option<Lines> = Some(Lines { format: Format::Json, access: Access::All });

    fn a_record() -> Record {
        Record {
            time: Timestamp::from_millis(0),
            request_id: "r-1".into(),
            route: "main".into(),
            method: "GET".into(),
            host: "app.test".into(),
            path: "/a\"b".into(),
            status: 401,
            outcome: "unauthorized",
            reason: Some("login_required"),
            credential: "none",
            user: None,
            client: "192.0.2.7".into(),
            rule: None,
            why: Some("it has no credential".into()),
            duration_ms: 0.25,
        }
    }

    fn written(format: Format) -> String {
        let out = Page::default();
        let (queue, records) = sync_channel(8);
        queue.try_send(Line::Of(Box::new(a_record()), 0)).unwrap();
        drop(queue);
        let shared = Shared::default();
        shared.mode.store(if format == Format::Json { JSON } else { TEXT }, Ordering::Relaxed);
        write_all(&records, &shared, &mut out.clone());
        let bytes = out.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_is_json_or_text() {
        let line: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!((line["status"].as_u64(), line["path"].as_str()), (Some(401), Some("/a\"b")));
        assert!(line.get("user").is_none());
        assert!(written(Format::Text).contains("GET app.test/a\"b -> 401 unauthorized login_required"));
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let out = Page::default();
        let log = AccessLog::start(JSON_LINES, out.clone()).unwrap();
        for _ in 0..100 {
            log.write(Box::new(a_record()));
        }
        log.finish();
        assert_eq!(out.0.lock().iter().filter(|b| **b == b'\n').count(), 100);
    }

    /// Without a reader, the queue's memory is bounded in bytes.
    #[test]
    fn long_lines_fill_the_queue_sooner() {
        let (queue, _records) = sync_channel(QUEUE);
        let log = AccessLog { queue, shared: Arc::default() };
        log.apply(JSON_LINES);
        for _ in 0..QUEUE {
            log.write(Box::new(Record { path: "a".repeat(LONGEST_PATH), ..a_record() }));
        }
        assert!(log.shared.queued.load(Ordering::Relaxed) <= QUEUED_BYTES);
        assert!(log.shared.dropped.load(Ordering::Relaxed) > QUEUE as u64 / 2);
    }

    #[test]
    fn what_strangers_choose_is_cut() {
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "abc...".to_owned()));
        assert_eq!((cut("aé", 2), cut("éé", 3)), ("a...".to_owned(), "é...".to_owned()));
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let (queue, _records) = sync_channel(1);
        let log = AccessLog { queue, shared: Arc::default() };
        log.apply(JSON_LINES);
        log.write(Box::new(a_record()));
        log.write(Box::new(a_record()));
        assert_eq!(log.shared.dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_not_forwarded_is_kept_whatever_is_written() {
        let (queue, records) = sync_channel(8);
        let log = AccessLog { queue, shared: Arc::default() };
        let forwarded = || Box::new(Record { outcome: "forwarded", ..a_record() });
        for (access, lines) in [(Access::None, 0), (Access::Refused, 1), (Access::All, 2)] {
            log.apply(Some(Lines { format: Format::Text, access }));
            assert_eq!(log.wants_forwarded(), access == Access::All);
            log.write(forwarded());
            log.write(Box::new(a_record()));
            assert_eq!(records.try_iter().count(), lines, "{access:?}");
        }
        let kept = log.decisions().last(100);
        assert_eq!(kept.len(), 3, "{kept:?}");
        assert_eq!(
            (kept[0]["time"].as_str(), kept[0]["why"].as_str()),
            (Some("1970-01-01T00:00:00.000Z"), Some("it has no credential"))
        );
        for _ in 0..2000 {
            log.write(Box::new(a_record()));
        }
        assert_eq!((log.decisions().last(usize::MAX).len(), log.decisions().last(2).len()), (1000, 2));
    }
}
