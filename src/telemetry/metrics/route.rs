//! The metrics of one route.

use crate::telemetry::durations::Durations;
use crate::telemetry::history::Tally;
use crate::telemetry::metrics::labels::{AuthLabels, RequestLabels, ResponseLabels, RouteLabel};
use crate::telemetry::metrics::{Credential, Metrics, Outcome};
use crate::telemetry::reason::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The handles of one route.
#[derive(Clone)]
pub struct RouteMetrics {
    name: Arc<str>,
    route: String,
    requests: Family<RequestLabels, Counter>,
    forwarded: Counter,
    duration: Durations,
    rate_limited: Counter,
    large_identities: Counter,
    /// By the first digit of the status.
    responses: [Counter; 5],
    streams: Gauge,
    /// For the history alone.
    reasons: Reasons,
    auth: [Durations; 4],
}

/// How often each reason was given, by its number.
pub(super) type Reasons = Arc<[AtomicU64; Reason::ALL.len()]>;

/// Classes of status codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// An open stream, in the metrics.
pub struct CountedStream(Gauge);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// The handles of a route; `-` stands for no route.
    pub fn route(&self, name: &str) -> RouteMetrics {
        let label = RouteLabel { route: name.to_string() };
        let forwarded = RequestLabels { route: name.to_string(), outcome: Outcome::forwarded };
        let auth =
            |credential| self.auth_duration.get_or_create_owned(&AuthLabels { route: name.to_string(), credential });
        let response = |class| self.responses.get_or_create_owned(&ResponseLabels { route: name.to_string(), class });
        for outcome in Outcome::ALL {
            drop(self.requests.get_or_create(&RequestLabels { route: name.to_string(), outcome }));
        }
        let metrics = RouteMetrics {
            name: name.into(),
            route: name.to_string(),
            forwarded: self.requests.get_or_create_owned(&forwarded),
            requests: self.requests.clone(),
            duration: self.request_duration.get_or_create_owned(&label),
            rate_limited: self.rate_limited.get_or_create_owned(&label),
            large_identities: self.large_identities.get_or_create_owned(&label),
            responses: CLASSES.map(response),
            streams: self.streams.get_or_create_owned(&label),
            auth: [Credential::none, Credential::bearer, Credential::session, Credential::api_key].map(auth),
            reasons: self.reasons.get_or_create_owned(&label),
        };
        let own = metrics.clone();
        self.history.follow(&metrics.name, move || own.tally());
        metrics
    }
}

impl RouteMetrics {
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn ended(&self, outcome: Outcome, reason: Option<Reason>, took: Duration) {
        if let Some(count) = reason.and_then(|reason| self.reasons.get(reason as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if outcome == Outcome::forwarded {
            self.forwarded.inc();
        } else {
            self.requests.get_or_create(&RequestLabels { route: self.route.clone(), outcome }).inc();
        }
        if outcome == Outcome::rate_limited {
            self.rate_limited.inc();
        }
        self.duration.observe(took);
    }

    /// What the counters say now.
    fn tally(&self) -> Tally {
        let count = |outcome| self.requests.get(&RequestLabels { route: self.route.clone(), outcome });
        Tally {
            outcomes: Outcome::ALL.map(|outcome| count(outcome).map_or(0, |counter| counter.get())),
            durations: self.duration.counts(),
            reasons: std::array::from_fn(|at| self.reasons.get(at).map_or(0, |count| count.load(Ordering::Relaxed))),
        }
    }

    pub fn app_answered(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// Counts an open stream until it is dropped.
    pub fn stream(&self) -> CountedStream {
        self.streams.inc();
        CountedStream(self.streams.clone())
    }

    pub fn had_large_identity(&self) {
        self.large_identities.inc();
    }

    pub fn judged(&self, credential: Credential, took: Duration) {
        let [none, bearer, session, api_key] = &self.auth;
        let histogram = match credential {
            Credential::none => none,
            Credential::bearer => bearer,
            Credential::session => session,
            Credential::api_key => api_key,
        };
        histogram.observe(took);
    }
}
