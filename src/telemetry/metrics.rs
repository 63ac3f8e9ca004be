//! Metric families and their handles. Handles are looked up once, when the gate is built, not per request.

pub(in crate::telemetry) mod labels;
mod process;
mod provider;
mod route;

pub use labels::{Cache, Credential, Logout, Lookup, Operation, Outcome, Refresh, Reload, SessionEvent};
pub use provider::ProviderMetrics;
pub use route::{CountedStream, RouteMetrics};

use crate::telemetry::durations::Durations;
use crate::telemetry::history::History;
use crate::telemetry::spans;
use labels::{
    AuthLabels, BuildLabels, CacheLabel, CacheLabels, CertificateLabel, ListenerLabel, LogoutLabels, OperationLabel,
    ProviderLabel, ProviderResult, RefreshLabels, ReloadLabel, RequestLabels, ResponseLabels, RouteLabel,
    SessionLabels,
};
use parking_lot::Mutex;
use process::Process;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use route::Reasons;
use std::time::Duration;

/// Everything that is measured.
pub struct Metrics {
    pub history: History,
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabel, Durations>,
    rate_limited: Family<RouteLabel, Counter>,
    /// Not for Prometheus: a series for each reason of each route.
    reasons: Family<RouteLabel, Reasons>,
    large_identities: Family<RouteLabel, Counter>,
    auth_duration: Family<AuthLabels, Durations>,
    cache_requests: Family<CacheLabels, Counter>,
    cache_entries: Family<CacheLabel, Gauge>,
    token_verifications: Family<ProviderResult, Counter>,
    provider_up: Family<ProviderLabel, Gauge>,
    jwks_fetches: Family<ProviderResult, Counter>,
    logins: Family<ProviderResult, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    upstream_tokens: Family<ProviderResult, Counter>,
    responses: Family<ResponseLabels, Counter>,
    connections: Family<ListenerLabel, Gauge>,
    in_flight: Family<ListenerLabel, Gauge>,
    streams: Family<RouteLabel, Gauge>,
    sessions: Family<SessionLabels, Counter>,
    logouts: Family<LogoutLabels, Counter>,
    certificates: Family<CertificateLabel, Gauge>,
    clock_skew: Family<ProviderLabel, Gauge>,
    config_reloads: Family<ReloadLabel, Counter>,
    store_up: Gauge,
    store_operations: Family<OperationLabel, Durations>,
    store_unreadable: Counter,
}

/// The handles of the store: how long its operations take, and how many values were unreadable.
#[derive(Clone)]
pub struct StoreMetrics {
    operations: Family<OperationLabel, Durations>,
    unreadable: Counter,
}

/// The two counters of one cache.
#[derive(Clone)]
pub struct CacheMetrics {
    hits: Counter,
    misses: Counter,
}

/// A request's total time: from half a millisecond to the slowest upstream.
pub const REQUEST_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// The gate's own time: from a cache hit (about a microsecond) to a provider's time-out.
const AUTH_BUCKETS: [f64; 12] = [2e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 0.01, 0.1, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Metrics {
            history: History::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| Durations::new(&REQUEST_BUCKETS)),
            rate_limited: Family::default(),
            reasons: Family::default(),
            large_identities: Family::default(),
            auth_duration: Family::new_with_constructor(|| Durations::new(&AUTH_BUCKETS)),
            cache_requests: Family::default(),
            cache_entries: Family::default(),
            token_verifications: Family::default(),
            provider_up: Family::default(),
            jwks_fetches: Family::default(),
            logins: Family::default(),
            refreshes: Family::default(),
            upstream_tokens: Family::default(),
            responses: Family::default(),
            connections: Family::default(),
            in_flight: Family::default(),
            streams: Family::default(),
            sessions: Family::default(),
            logouts: Family::default(),
            certificates: Family::default(),
            clock_skew: Family::default(),
            config_reloads: Family::default(),
            store_up: Gauge::default(),
            store_operations: Family::new_with_constructor(|| Durations::new(&AUTH_BUCKETS)),
            store_unreadable: Counter::default(),
            registry: Mutex::new(Registry::default()),
        };
        metrics.register();
        for operation in Operation::ALL {
            drop(metrics.store_operations.get_or_create(&OperationLabel { operation }));
        }
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let registry = root.sub_registry_with_prefix("doorward");
        registry.register("requests", "Requests by what became of them", self.requests.clone());
        registry.register("request_duration_seconds", "A request's whole time", self.request_duration.clone());
        registry.register("auth_duration_seconds", "The time that judging a request took", self.auth_duration.clone());
        registry.register("rate_limited", "Requests above the limit for unknown tokens", self.rate_limited.clone());
        registry.register(
            "large_identity_headers",
            "Requests whose identity headers exceed 16 KiB",
            self.large_identities.clone(),
        );
        registry.register("cache_requests", "Look-ups in a cache", self.cache_requests.clone());
        registry.register("cache_entries", "Entries that a cache holds", self.cache_entries.clone());
        registry.register(
            "token_verifications",
            "Tokens verified, cache hits left out",
            self.token_verifications.clone(),
        );
        registry.register("provider_up", "1 while the provider answers", self.provider_up.clone());
        registry.register("jwks_fetches", "Fetches of a provider's keys", self.jwks_fetches.clone());
        registry.register("logins", "Logins that ended", self.logins.clone());
        registry.register("refreshes", "Refreshes of sessions", self.refreshes.clone());
        registry.register("upstream_tokens", "Tokens fetched for apps", self.upstream_tokens.clone());
        registry.register("responses", "What the apps answered", self.responses.clone());
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("requests_in_flight", "Requests that are being served", self.in_flight.clone());
        registry.register(
            "streams",
            "Open WebSockets, event streams, gRPC calls and long downloads",
            self.streams.clone(),
        );
        registry.register("sessions", "Sessions by what became of them", self.sessions.clone());
        registry.register("logouts", "Logouts by who began them", self.logouts.clone());
        registry.register(
            "certificate_expiry_seconds",
            "When a listener's certificate expires, in Unix time",
            self.certificates.clone(),
        );
        registry.register("provider_clock_skew_seconds", "The provider's clock less ours", self.clock_skew.clone());
        for result in [Reload::ok, Reload::refused] {
            drop(self.config_reloads.get_or_create(&ReloadLabel { result }));
        }
        registry.register("config_reloads", "Reloads of the configuration", self.config_reloads.clone());
        let build = Family::<BuildLabels, Gauge>::default();
        self.store_up.set(1); // a store in this process is always up
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("store_up", "1 while the session store answers, its journal replayed", self.store_up.clone());
        registry.register("store_operation_seconds", "Calls to the store", self.store_operations.clone());
        registry.register(
            "store_unreadable",
            "Values that could not be made out: truncated, foreign, or of another version",
            self.store_unreadable.clone(),
        );
        registry.register("build_info", "The version that runs", build);
        *self.registry.lock() = root;
    }

    pub fn cache(&self, cache: Cache) -> CacheMetrics {
        drop(self.cache_entries.get_or_create(&CacheLabel { cache })); // the series exists from the start
        let counter = |result| self.cache_requests.get_or_create_owned(&CacheLabels { cache, result });
        CacheMetrics { hits: counter(Lookup::hit), misses: counter(Lookup::miss) }
    }

    pub fn store(&self) -> StoreMetrics {
        StoreMetrics { operations: self.store_operations.clone(), unreadable: self.store_unreadable.clone() }
    }

    pub fn store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    pub fn reloaded(&self, result: Reload) {
        self.config_reloads.get_or_create(&ReloadLabel { result }).inc();
    }

    /// Set when the metrics are read.
    pub fn listener(&self, listener: &str, connections: usize, in_flight: usize) {
        let label = ListenerLabel { listener: listener.to_string() };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.get_or_create(&label).set(number(connections));
        self.in_flight.get_or_create(&label).set(number(in_flight));
    }

    /// `expires`: in Unix time.
    pub fn certificate(&self, file: &str, expires: i64) {
        self.certificates.get_or_create(&CertificateLabel { certificate: file.to_string() }).set(expires);
    }

    /// No alert must stand for a certificate that is in use no more.
    pub fn forget_certificate(&self, file: &str) {
        self.certificates.remove(&CertificateLabel { certificate: file.to_string() });
    }

    /// The state of a provider that was removed; what was counted stays.
    pub fn forget_provider(&self, name: &str) {
        let label = ProviderLabel { provider: name.to_string() };
        self.provider_up.remove(&label);
        self.clock_skew.remove(&label);
    }

    /// Set when the metrics are read, not on every change.
    pub fn entries(&self, cache: Cache, count: u64) {
        self.cache_entries.get_or_create(&CacheLabel { cache }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}

impl CacheMetrics {
    pub fn hit(&self) {
        self.hits.inc();
    }

    pub fn miss(&self) {
        self.misses.inc();
    }
}

impl StoreMetrics {
    pub fn took(&self, operation: Operation, took: Duration) {
        spans::note(|| format!("store {}", operation.word()), took);
        self.operations.get_or_create(&OperationLabel { operation }).observe(took);
    }

    pub fn unreadable(&self) {
        self.unreadable.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        metrics.route("main").ended(Outcome::no_route, None, Duration::from_millis(3));
        metrics.route("main").judged(Credential::bearer, Duration::from_micros(3));
        metrics.cache(Cache::verified_tokens).hit();
        metrics.provider("corp").verified("ok");
        metrics.reloaded(Reload::refused);
        let text = metrics.text();
        for line in [
            "doorward_requests_total{route=\"main\",outcome=\"no_route\"} 1",
            "doorward_request_duration_seconds_count{route=\"main\"} 1",
            "doorward_auth_duration_seconds_count{route=\"main\",credential=\"bearer\"} 1",
            "doorward_cache_requests_total{cache=\"verified_tokens\",result=\"hit\"} 1",
            "doorward_token_verifications_total{provider=\"corp\",result=\"ok\"} 1",
            "doorward_config_reloads_total{result=\"refused\"} 1",
            "doorward_store_up 1",
            "doorward_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
