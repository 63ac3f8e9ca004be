//! What is kept of one request from phase to phase.

use crate::edge::access_entry::AccessEntry;
use crate::edge::connection::has_given_up;
use crate::edge::connections::Capacity;
use crate::edge::live::Live;
use crate::edge::streams::{OpenStream, Streams};
use crate::edge::traces::RequestSpan;
use crate::edge::upstream::Upstreams;
use crate::gate::decision::{Audit, Forward, Why};
use crate::telemetry::metrics::{CountedStream, Outcome};
use crate::telemetry::reason::Reason;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The state of one request.
#[allow(unreachable_pub)] // the context that Pingora's trait makes public
pub struct RequestContext {
    pub(super) live: Arc<Live>,
    pub(super) begun: Instant,
    pub(super) audit: Option<Audit>,
    pub(super) forward: Option<Box<Forward>>,
    /// The upstream that was tried last; `retried`: the one retry after a failed connect is used up.
    pub(super) tried: Option<usize>,
    pub(super) retried: bool,
    /// The reused connection was dead: retry the same upstream on a new one.
    pub(super) renewed: bool,
    /// The app's response has begun.
    pub(super) answered: bool,
    /// The target as the client wrote it, if Pingora holds it in another form.
    pub(super) quoted: Option<Vec<u8>>,
    /// How long the app may take to read a piece of the request.
    pub(super) patience: Duration,
    /// It was long enough to be held.
    pub(super) is_held: bool,
    pub(super) stream: Option<OpenStream>,
    counted: Option<CountedStream>,
    /// It stands in the metrics.
    pub(super) is_counted: bool,
    pub(super) line: Option<AccessEntry>,
    /// Of a sampled request.
    pub(super) span: Option<RequestSpan>,
    /// When a sampled request went to the app.
    pub(super) sent: Option<Instant>,
    _in_flight: InFlight,
}

/// Counts a request in flight until it ends, also by a panic.
struct InFlight(Arc<Capacity>);

impl RequestContext {
    pub(super) fn new(live: Arc<Live>, capacity: &Arc<Capacity>) -> Self {
        capacity.in_flight.fetch_add(1, Ordering::AcqRel);
        RequestContext {
            live,
            begun: Instant::now(),
            audit: None,
            forward: None,
            tried: None,
            retried: false,
            renewed: false,
            answered: false,
            quoted: None,
            patience: Duration::ZERO,
            is_held: false,
            stream: None,
            counted: None,
            is_counted: false,
            line: None,
            span: None,
            sent: None,
            _in_flight: InFlight(capacity.clone()),
        }
    }

    pub(super) fn forwarded(&self) -> Result<(&Forward, &Arc<Upstreams>)> {
        let forward = self.forward.as_deref();
        let found = forward.and_then(|forward| Some((forward, self.live.upstreams.get(forward.route.index)?)));
        // Without a decision nothing is forwarded.
        found.ok_or_else(|| Error::explain(ErrorType::InternalError, "no decision was made"))
    }

    /// The name of the upstream that was tried last.
    pub(super) fn tried_upstream(&self) -> Option<String> {
        let upstreams = self.live.upstreams.get(self.forward.as_ref()?.route.index)?;
        Some(upstreams.target(self.tried?)?.name())
    }

    pub(super) fn is_counted_stream(&self) -> bool {
        self.counted.is_some()
    }

    /// It is a stream, or has become one by taking long.
    pub(super) fn count_stream(&mut self) {
        if self.counted.is_none() {
            self.counted = self.audit.as_ref().map(|audit| audit.route.stream());
        }
    }

    /// From now on until the response has ended, its session stays in use, and it ends with what let it in.
    pub(super) fn hold(&mut self, session: &Session, streams: &Arc<Streams>) {
        if self.is_held {
            return;
        }
        self.is_held = true;
        let (Some(forward), Some(audit)) = (&self.forward, &self.audit) else { return };
        let held = self.live.gate.hold(forward, audit, &session.req_header().headers);
        self.stream = held.and_then(|held| streams.enter(held, self.live.clone()));
    }

    /// The app was silent for too long: no other request goes over the connection to it.
    pub(super) fn leave_connection(&self) {
        let upstreams = self.forward.as_ref().and_then(|forward| self.live.upstreams.get(forward.route.index));
        let target = upstreams.zip(self.tried).and_then(|(upstreams, tried)| upstreams.target(tried));
        target.inspect(|target| target.leave_connection());
    }

    /// It is cut for its silence, and the proxy waits for the app to take more of its body.
    fn was_stuck(&mut self) {
        self.leave_connection();
        let Some(audit) = self.audit.as_mut().filter(|audit| audit.reason.is_none()) else { return };
        (audit.outcome, audit.reason) = (Outcome::upstream_error, Some(Reason::UpstreamTimeout));
        audit.why = Why::of("the app takes no more of the request's body");
        if let Some(line) = &mut self.line {
            line.told(0, audit);
        }
    }

    pub(super) fn count(&mut self) {
        if let Some(audit) = self.audit.as_ref().filter(|_| !self.is_counted) {
            audit.route.ended(audit.outcome, audit.reason, self.begun.elapsed());
            self.is_counted = true;
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        // What is cut off has no last phase.
        if !self.is_counted && !self.answered && has_given_up() {
            self.was_stuck();
        }
        self.count();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
