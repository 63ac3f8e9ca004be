//! The process's own log: our rooms at the configured level, libraries only when they warn. Libraries may
//! print what passes through them, headers and queries included; so none of them is ever shown below that.

use crate::watch::access::Format;
use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    pub format: Format,
    pub level: Level,
}

/// Starts the log. The guard writes what waits when it is dropped; keep it until the process ends.
pub fn start(logging: Logging) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stdout());
    // Pingora reports a client's broken connection as an error of its own; ours is the line that counts.
    let directives = format!("warn,pingora_core=off,pingora_proxy=off,doorward={}", logging.level);
    let lines =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::new(directives)).with_writer(writer).with_target(false);
    let started = match logging.format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        Format::Text => lines.with_ansi(false).try_init(),
    };
    // A second start in one process (tests) keeps the first log.
    let _ = started;
    guard
}
