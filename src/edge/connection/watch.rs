//! Cuts connections that have waited too long, as seen by a periodic sweep over all.

use crate::edge::connection::{Connection, Phase};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// What the sweep remembers of a connection.
pub struct Watch {
    connection: Arc<Connection>,
    phase: u32,
    since: Instant,
    writing: u32,
    writing_since: Instant,
    moves: u32,
    moved: Instant,
}

/// A client usually sends its first request within this time after connecting.
const NEW: Duration = Duration::from_millis(500);
/// A connection that has not ended this long after `give_up` is cut.
const NOTICE: Duration = Duration::from_secs(5);

impl Watch {
    pub fn over(connection: Arc<Connection>) -> Self {
        let now = Instant::now();
        let (phase, moves) = (connection.phase.load(Relaxed), connection.moves.load(Relaxed));
        Watch { connection, phase, since: now, writing: 0, writing_since: now, moves, moved: now }
    }

    pub fn cut(&self) {
        self.connection.cut();
    }

    /// Whether it was just accepted and its first request head is not complete yet.
    pub fn is_new(&self, now: Instant) -> bool {
        self.connection.is_in(Phase::Head) && now.saturating_duration_since(self.since) < NEW
    }

    /// Whether a write waits for the client.
    pub fn is_written(&self) -> bool {
        self.connection.writing.load(Relaxed) & 1 == 1
    }

    /// Whether it is serving a request.
    pub fn is_served(&self) -> bool {
        self.connection.is_in(Phase::Serving)
    }

    /// Cuts the connection if, as seen by the sweeps, its phase, a pending write or silence has exceeded its limit.
    pub fn sweep(&mut self, now: Instant) {
        let (phase, limits) = (self.connection.phase.load(Relaxed), self.connection.limits);
        let is_another_phase = phase != self.phase;
        if is_another_phase {
            (self.phase, self.since) = (phase, now);
        }
        let waited = now.saturating_duration_since(self.since);
        let head_is_late = Phase::Head.is_of(phase) && waited >= limits.head;
        let writing = self.connection.writing.load(Relaxed);
        if writing != self.writing {
            (self.writing, self.writing_since) = (writing, now);
        }
        let patience = Duration::from_millis(self.connection.patience.load(Relaxed));
        let moves = self.connection.moves.load(Relaxed);
        if moves != self.moves || is_another_phase {
            (self.moves, self.moved) = (moves, now);
        }
        let silence = Duration::from_millis(self.connection.silence.load(Relaxed));
        let silent = if silence.is_zero() { Duration::ZERO } else { now.saturating_duration_since(self.moved) };
        if !silence.is_zero() && silent >= silence {
            self.connection.give_up();
        }
        let takes_no_notice = !silence.is_zero() && silent >= silence.saturating_add(NOTICE);
        let nobody_reads = writing & 1 == 1 && now.saturating_duration_since(self.writing_since) >= patience;
        if nobody_reads || takes_no_notice || head_is_late || (Phase::Pause.is_of(phase) && waited >= limits.idle) {
            self.cut();
        }
    }
}
