//! The invariants of every run, checked as events happen, and the faults that excuse a replica.

use crate::provider::{GrantError, Tokens};
use crate::session::realm::Realm;
use crate::session::sessions::Sessions;
use crate::session::ticket::Ticket;
use futures_util::FutureExt;
use std::ops::Range;
use std::time::Duration;

/// Time between taking the lease and the grant: the lease's answer, the second read, and the way to the provider.
const BEFORE_GRANT: Duration = COMMAND_TIMEOUT.saturating_mul(6);
/// Time between the provider's answer and the stored tokens: publishing, storing, and latencies.
const AFTER_GRANT: Duration = COMMAND_TIMEOUT.saturating_mul(4);

/// The command time-out of the store's client.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);

/// Reads the store directly, bypassing the replicas' links.
pub(super) struct Probe {
    pub(super) sessions: Sessions,
    pub(super) realm: Realm,
    pub(super) ticket: Ticket,
}

impl Probe {
    /// The number of the stored refresh token.
    fn stored(&self) -> Option<u64> {
        let (cold, _) = self.sessions.load_cold(&self.realm, &self.ticket).now_or_never()?.ok()??;
        cold.refresh?.parse().ok()
    }

    /// Whether the hot part exists: without it no request is admitted, whatever is left of the tokens.
    fn is_there(&self) -> bool {
        let found = self.sessions.load(&self.realm, &self.ticket).now_or_never();
        found.is_some_and(|found| !matches!(found, Ok(None)))
    }
}

struct Ask {
    replica: usize,
    number: u64,
    asked: Duration,
    answered: Option<Duration>,
    /// The grant returned a rotated token.
    good: bool,
}

pub(super) struct Invariants {
    fallback: bool,
    lease: Duration,
    probe: Option<Probe>,
    asks: Vec<Ask>,
    /// Store calls without an answer: replica, kind of key, time.
    failures: Vec<(usize, String, Duration)>,
    frozen: Vec<(usize, Range<Duration>)>,
    crashes: Vec<(usize, Duration)>,
    revoked: Option<Duration>,
    leaving: bool,
    /// The number of the newest token that the provider issued.
    granted: u64,
    denied: bool,
    /// The session was ended by the provider or a sign-out.
    over: bool,
    /// The replica that signed out, when, and whether the record was gone from the store then.
    pub(super) signed_out: Option<(usize, Duration, bool)>,
    /// Whether its tokens were gone as well; with a concurrent sign-out they are deleted a moment later.
    tokens_gone: bool,
    stored: u64,
    pub(super) broken: Vec<String>,
    pub(super) story: Option<Vec<String>>,
}

impl Invariants {
    pub(super) fn new(fallback: bool, lease: Duration, tell: bool) -> Self {
        Invariants {
            fallback,
            lease,
            probe: None,
            asks: Vec::new(),
            failures: Vec::new(),
            frozen: Vec::new(),
            crashes: Vec::new(),
            revoked: None,
            leaving: false,
            granted: 0,
            denied: false,
            over: false,
            signed_out: None,
            tokens_gone: false,
            stored: 0,
            broken: Vec::new(),
            story: tell.then(Vec::new),
        }
    }

    pub(super) fn watch(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    pub(super) fn tell(&mut self, at: Duration, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>6} ms  {}", at.as_millis(), what()));
        }
    }

    pub(super) fn broke(&mut self, at: Duration, what: String) {
        self.tell(at, || format!("BROKEN: {what}"));
        self.broken.push(what);
    }

    pub(super) fn crashed(&mut self, replica: usize, at: Duration) {
        self.tell(at, || format!("{replica} crashes"));
        self.crashes.push((replica, at));
    }

    pub(super) fn froze(&mut self, replica: usize, when: Range<Duration>) {
        self.tell(when.start, || format!("{replica} freezes until {} ms", when.end.as_millis()));
        self.frozen.push((replica, when));
    }

    pub(super) fn store_failed(&mut self, replica: usize, key: &str, at: Duration) {
        let kind = key.split(':').next().unwrap_or_default().to_string();
        self.tell(at, || format!("{replica} has no answer about {kind}"));
        self.failures.push((replica, kind, at));
    }

    pub(super) fn revoked(&mut self, at: Duration) {
        self.tell(at, || "the provider revokes them all".into());
        self.revoked.get_or_insert(at);
    }

    pub(super) fn leaving(&mut self, replica: usize, at: Duration) {
        self.tell(at, || format!("{replica} signs out"));
        self.leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn granted(&mut self, number: u64) {
        self.granted = number;
    }

    /// Invariant 5: only the provider and a sign-out may end the session. The provider revoked all tokens, or denied
    /// the stored one after its successor was issued and lost.
    fn may_end(&mut self) -> bool {
        self.over |= self.revoked.is_some() || self.leaving || (self.denied && self.stored < self.granted);
        self.over
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn ended(&mut self, replica: usize, how: &str, at: Duration) {
        self.tell(at, || format!("{replica} is told: {how}"));
        if !self.may_end() {
            self.broke(at, format!("(5) {replica} is told that the session is {how}, and nobody ended it"));
        }
    }

    pub(super) fn was_signed_out(&mut self, replica: usize, at: Duration) {
        let gone = self.probe.as_ref().is_some_and(|probe| !probe.is_there());
        self.tell(at, || {
            format!("{replica} has signed out; the store has {}", if gone { "nothing left" } else { "it still" })
        });
        self.signed_out.get_or_insert((replica, at, gone));
        self.tokens_gone = gone && self.probe.as_ref().is_some_and(|probe| probe.stored().is_none());
        if !gone && !self.fallback {
            self.broke(at, format!("(3) {replica} says that it signed out, and the store has it still"));
        }
    }

    /// After every call that may have changed the store: tokens never go back (2), signed-out sessions stay gone (3).
    pub(super) fn saw_write(&mut self, key: &str, at: Duration) {
        if !key.starts_with("tokens:") && !key.starts_with("session:") {
            return;
        }
        let Some(probe) = &self.probe else { return };
        let (stored, there) = (probe.stored(), probe.is_there());
        let back = self.signed_out.is_some_and(|(.., gone)| gone) && there;
        if back || (self.tokens_gone && stored.is_some()) {
            self.broke(at, "(3) the store has it again".into());
        }
        if !there && !self.may_end() {
            self.broke(at, "(5) the session is deleted, and nobody ended it".into());
        }
        let Some(stored) = stored else { return };
        if stored < self.stored {
            self.broke(at, format!("(2) token {} is replaced by the older {stored}", self.stored));
        }
        if stored > self.stored {
            self.tell(at, || format!("the store has token {stored}"));
        }
        self.stored = stored;
    }

    /// Invariant 1: one grant for one token. The token may be spent again if
    /// - the earlier grant failed: the provider refused or did not answer in time;
    /// - the earlier replica crashed before it stored the tokens, or was frozen, so that its lease expired or it cannot
    ///   have stored them yet;
    /// - the earlier replica had no answer when it renewed the lease or stored the tokens, which may then be missing.
    ///
    /// The replica that spends now may have been frozen since its own read, for at least as long as its lease lived.
    pub(super) fn asked(&mut self, replica: usize, number: u64, at: Duration) -> usize {
        self.tell(at, || format!("{replica} spends token {number}"));
        let excused = |ask: &Ask| {
            let from = ask.asked.saturating_sub(BEFORE_GRANT);
            let until = self.stored_by(ask, at);
            ask.answered.is_some() && !ask.good
                || self.is_troubled(ask.replica, from..until, &["lease", "tokens"])
                || self.froze_in(replica, at.saturating_sub(self.lease + BEFORE_GRANT)..at)
        };
        let twice = self.asks.iter().find(|ask| ask.number == number && !excused(ask));
        if let Some(ask) = twice {
            let (first, when) = (ask.replica, ask.asked.as_millis());
            self.broke(at, format!("(1) {replica} spends token {number}, which {first} spent at {when} ms"));
        }
        self.asks.push(Ask { replica, number, asked: at, answered: None, good: false });
        self.asks.len() - 1
    }

    pub(super) fn answered(&mut self, ask: usize, answer: &Result<Tokens, GrantError>, at: Duration) {
        let (replica, number) = (self.asks[ask].replica, self.asks[ask].number);
        self.tell(at, || format!("{replica} has for token {number}: {:?}", answer.as_ref().map(|_| ())));
        self.asks[ask].answered = Some(at);
        self.asks[ask].good = answer.is_ok();
        self.denied |= matches!(answer, Err(GrantError::Denied));
    }

    /// The time by which the tokens of this grant must be in the store.
    fn stored_by(&self, ask: &Ask, now: Duration) -> Duration {
        let frozen: Duration = self.frozen_for(ask.replica);
        ask.answered.map_or(now, |answered| now.min(answered + AFTER_GRANT + frozen))
    }

    pub(super) fn frozen_for(&self, replica: usize) -> Duration {
        self.frozen.iter().filter(|(who, _)| *who == replica).map(|(_, when)| when.end - when.start).sum()
    }

    fn froze_in(&self, replica: usize, time: Range<Duration>) -> bool {
        self.frozen.iter().any(|(who, when)| *who == replica && when.start < time.end && time.start < when.end)
    }

    fn crashed_in(&self, replica: usize, time: &Range<Duration>) -> bool {
        self.crashes.iter().any(|(who, at)| *who == replica && time.start <= *at && *at <= time.end)
    }

    /// Whether the replica crashed, froze, or had no answer for these kinds of keys. With a fallback, a failure for any
    /// key stops all calls to the store.
    fn is_troubled(&self, replica: usize, time: Range<Duration>, kinds: &[&str]) -> bool {
        let failed = self.failures.iter().any(|(who, kind, at)| {
            *who == replica && time.start <= *at && *at <= time.end && (self.fallback || kinds.contains(&kind.as_str()))
        });
        failed || self.crashed_in(replica, &time) || self.froze_in(replica, time)
    }

    pub(super) fn has_crashed(&self, replica: usize) -> bool {
        self.crashes.iter().any(|(who, _)| *who == replica)
    }

    /// Invariant 2, after all faults: tokens that reached a live replica with a working store are stored. With a
    /// fallback, store failures are no excuse: the journal is replayed, unless the replica crashed before.
    pub(super) fn is_quiet(&mut self, at: Duration) {
        if self.may_end() {
            return;
        }
        let lost = |ask: &&Ask| {
            let Some(answered) = ask.answered.filter(|_| ask.good) else { return false };
            let time = answered..self.stored_by(ask, at);
            let excused = match self.fallback {
                true => self.crashed_in(ask.replica, &(answered..at)),
                false => self.is_troubled(ask.replica, time, &["tokens"]),
            };
            self.stored <= ask.number && !excused
        };
        if let Some(ask) = self.asks.iter().find(lost) {
            let what = format!("(2) token {}, which came to {}, is not in the store", ask.number + 1, ask.replica);
            self.broke(at, what);
        }
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn grants(&self) -> usize {
        self.asks.iter().filter(|ask| ask.good).count()
    }
}
