//! The metrics of one route.

use crate::telemetry::metrics::labels::{AuthLabels, RequestLabels, ResponseLabels, RouteLabel};
use crate::telemetry::metrics::{Credential, Metrics, Outcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::Duration;

/// The handles of one route.
#[derive(Clone)]
pub struct RouteMetrics {
    name: Arc<str>,
    route: String,
    requests: Family<RequestLabels, Counter>,
    forwarded: Counter,
    duration: Histogram,
    rate_limited: Counter,
    large_identities: Counter,
    /// By the first digit of the status.
    responses: [Counter; 5],
    streams: Gauge,
    auth: [Histogram; 4],
}

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
        RouteMetrics {
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
        }
    }
}

impl RouteMetrics {
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn ended(&self, outcome: Outcome, took: Duration) {
        if outcome == Outcome::forwarded {
            self.forwarded.inc();
        } else {
            self.requests.get_or_create(&RequestLabels { route: self.route.clone(), outcome }).inc();
        }
        if outcome == Outcome::rate_limited {
            self.rate_limited.inc();
        }
        self.duration.observe(took.as_secs_f64());
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
        histogram.observe(took.as_secs_f64());
    }
}
