//! The process log: our own modules at the configured level, libraries at `warn` only. Libraries may log what
//! passes through them, including headers and queries, so they are never enabled below that level.

use crate::telemetry::access_log::{self, Access, Format};
use crate::telemetry::escape::{Form, escape, is_plain};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{Compact, DefaultFields, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format, time::SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How much is logged, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// The format of the access log and the process log.
    pub format: Format,
    /// Lines below this level are omitted; access log lines are of level info.
    pub level: LogLevel,
    /// Which requests get a line in the access log.
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Default for Logging {
    fn default() -> Self {
        Logging { format: Format::Json, level: LogLevel::Info, access: Access::All }
    }
}

impl LogLevel {
    fn filter(self) -> Level {
        match self {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Trace => Level::TRACE,
        }
    }
}

impl Logging {
    /// The access log, whose lines are of level info; `None` if that level is off.
    pub fn of_access(self) -> Option<access_log::Lines> {
        let Logging { format, level, access } = self;
        (level >= LogLevel::Info).then_some(access_log::Lines { format, access })
    }
}

/// The log that was started; a reload changes its level and format.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    is_json: Arc<AtomicBool>,
    guard: Mutex<Option<WorkerGuard>>,
}

/// Starts the log.
pub fn start(logging: Logging) -> Log {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(std::io::stdout());
    let (filter, handle) = reload::Layer::new(filter(logging.level.filter()));
    let is_json = Arc::new(AtomicBool::new(logging.format == Format::Json));
    let lines = Lines {
        is_json: is_json.clone(),
        json: format().json().flatten_event(true).with_current_span(false).with_span_list(false).with_target(false),
        text: format().with_ansi(false).with_target(false).compact(),
    };
    let layer = tracing_subscriber::fmt::layer()
        .fmt_fields(DefaultFields::new())
        .with_ansi(false)
        .event_format(lines)
        .with_writer(writer);
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Log { filter: handle, is_json, guard: Mutex::new(Some(guard)) }
}

impl Log {
    pub fn apply(&self, logging: Logging) {
        self.is_json.store(logging.format == Format::Json, Ordering::Relaxed);
        let _ = self.filter.reload(filter(logging.level.filter())); // it fails only where the subscriber is gone
    }

    /// Flushes the queued lines; nothing is logged after it.
    pub fn close(&self) {
        drop(self.guard.lock().take());
    }
}

fn filter(level: Level) -> EnvFilter {
    // Pingora logs a client's broken connection as an error; our own lines cover it.
    EnvFilter::new(format!("warn,pingora_core=off,pingora_proxy=off,doorward={level}"))
}

/// Lines that may wait for the writer; they are some hundred bytes long.
const LINES: usize = 16_384;

/// Formats lines in the current format.
struct Lines {
    is_json: Arc<AtomicBool>,
    json: format::Format<Json, SystemTime>,
    text: format::Format<Compact, SystemTime>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        let form = if self.is_json.load(Ordering::Relaxed) {
            self.json.format_event(context, Writer::new(&mut line), event)?;
            Form::Json
        } else {
            self.text.format_event(context, Writer::new(&mut line), event)?;
            Form::Text
        };
        if is_plain(line.as_bytes()) {
            return writer.write_str(&line);
        }
        let mut shown = String::with_capacity(line.len() + 64);
        escape(&line, form, &mut shown);
        writer.write_str(&shown)
    }
}
