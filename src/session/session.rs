//! One live session, and the limits by which a route judges it.

use crate::kit::clock::Timestamp;
use crate::kit::digest::TokenDigest;
use crate::session::record::{Envelope, Hot};
use crate::session::ticket::Ticket;
use crate::telemetry::metrics::{ProviderMetrics, SessionEvent};
use crate::telemetry::requester::Requester;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// When a route refreshes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshLimits {
    pub before_expiry: Duration,
    /// None: a refresh token is used whatever its age.
    pub max_token_age: Option<Duration>,
}

/// The limits by which a route judges a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_age: Duration,
    /// None: no idle time-out.
    pub idle_timeout: Option<Duration>,
}

/// A live session, as this replica last read or wrote it.
pub struct Session {
    pub hot: Hot,
    pub(crate) ticket: Ticket,
    pub(crate) label: Envelope,
    pub(crate) generation: u64,
    pub(super) seen: AtomicI64,
}

impl Session {
    /// Whether the session is still valid under a route's limits.
    pub fn is_within(&self, limits: Limits, now: Timestamp) -> bool {
        let fresh = now < Timestamp::from_millis(self.hot.created).plus(limits.max_age);
        let used = |idle: Duration| now < Timestamp::from_millis(self.seen.load(Ordering::Relaxed)).plus(idle);
        fresh && limits.idle_timeout.is_none_or(used)
    }

    /// A digest that tells the session and its access token apart from all others.
    pub fn mark(&self) -> TokenDigest {
        TokenDigest::of(format!("session {} {}", self.ticket.place(), self.hot.access_expires).as_bytes())
    }

    /// Tells that a request found the session too old or too long unused.
    pub(super) fn tell_expired(&self, metrics: &ProviderMetrics, limits: Limits, now: Timestamp, by: &Requester) {
        metrics.session(SessionEvent::expired);
        let is_old = now >= Timestamp::from_millis(self.hot.created).plus(limits.max_age);
        let why = if is_old { "max_age" } else { "idle_timeout" };
        let (provider, user) = (metrics.name(), &self.hot.identity.user);
        let Requester { client, request_id } = by;
        tracing::info!(event = "session_ended", provider, %user, %client, request_id, why, "a session has expired");
    }

    /// The Unix second at which the session reaches its maximum age.
    pub fn ends(&self, limits: Limits) -> i64 {
        Timestamp::from_millis(self.hot.created).plus(limits.max_age).seconds()
    }

    /// A copy whose `seen` is the recorded one.
    pub(crate) fn again(&self) -> Session {
        Session::new(self.hot.clone(), self.ticket.clone(), self.label.clone(), self.generation)
    }

    pub(crate) fn new(hot: Hot, ticket: Ticket, label: Envelope, generation: u64) -> Self {
        let seen = AtomicI64::new(hot.seen);
        Session { hot, ticket, label, generation, seen }
    }
}
