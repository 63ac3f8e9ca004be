//! The status page. It names nobody: whoever reaches the listener may read it.

use crate::admin::chart::{durations, requests, scale, seconds};
use crate::admin::pages::{HTML, Page, TEXT, day, time};
use crate::admin::state::{Admin, RouteLine, State};
use crate::provider::Provider;
use crate::provider::remote::RemoteProvider;
use crate::session::census::Census;
use crate::telemetry::durations::quantile;
use crate::telemetry::history::Tally;
use crate::telemetry::metrics::REQUEST_BUCKETS;
use crate::telemetry::reason::Reason;
use askama::Template;
use http::{HeaderValue, StatusCode};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// What the page says of the store.
struct Store {
    kind: &'static str,
    up: bool,
    problem: Option<String>,
}

struct Listener {
    address: String,
    tls: bool,
    open: usize,
    in_flight: usize,
}

struct ProviderRow {
    name: String,
    issuer: String,
    up: bool,
    clock: String,
    sessions: String,
}

struct RouteRow {
    name: String,
    from: String,
    upstreams: Vec<(String, bool)>,
    requests: u64,
    /// The most requests in a minute, and the longest p99 of one.
    busiest: u64,
    slowest: String,
    reasons: Vec<(&'static str, u64)>,
    p50: String,
    p99: String,
    chart: String,
    durations: String,
}

struct Decision {
    time: String,
    route: Arc<str>,
    method: String,
    status: u16,
    reason: &'static str,
    request_id: String,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    version: &'static str,
    state: &'static str,
    uptime: String,
    connections: usize,
    in_flight: usize,
    store: Store,
    /// Its time, and whether it is in force.
    reload: Option<(String, bool)>,
    listeners: Vec<Listener>,
    /// Its file, when it expires, and whether that is soon.
    certificates: Vec<(String, String, bool)>,
    providers: Vec<ProviderRow>,
    /// The busiest first.
    routes: Vec<RouteRow>,
    more_routes: usize,
    decisions: Vec<Decision>,
}

const CSS: &str = include_str!("../../templates/status.css");
/// The most routes and decisions on the page.
const ROUTES: usize = 100;
const DECISIONS: usize = 20;
/// A certificate that ends earlier should have been renewed.
const SOON: i64 = 14 * 86_400;

/// The page runs no scripts and loads nothing.
pub(super) fn policy() -> HeaderValue {
    let hash =
        data_encoding::BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, CSS.as_bytes()).as_ref());
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'");
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

impl Admin {
    pub(super) fn status_page(&self, ready: StatusCode, census: Option<Census>) -> Page {
        let state = self.state.read();
        let (store, now) = ((self.store)(), self.clock.now());
        let connections = &self.connections;
        let is_stopping = connections.are_ending();
        let (routes, more_routes) = self.routes(&state);
        let is_tls = |address: &str| self.tls_listeners.iter().any(|own| own == address);
        let listeners = self
            .connections
            .listeners
            .lock()
            .iter()
            .map(|one| {
                let (open, in_flight) = one.in_use();
                Listener { address: one.listener.clone(), tls: is_tls(&one.listener), open, in_flight }
            })
            .collect();
        let page = StatusPage {
            version: env!("CARGO_PKG_VERSION"),
            state: match (is_stopping, ready) {
                (true, _) => "draining",
                (false, StatusCode::OK) => "ready",
                _ => "starting",
            },
            uptime: humantime::format_duration(Duration::from_secs(self.begun.elapsed().as_secs())).to_string(),
            connections: self.connections.open.len(),
            in_flight: self.connections.in_flight(),
            store: Store { kind: self.store_kind, up: store.up, problem: store.problem },
            reload: self.reload.lock().map(|(at, in_force)| (time(Some(at.seconds())).unwrap_or_default(), in_force)),
            listeners,
            certificates: state
                .certificates
                .iter()
                .map(|(file, expires)| {
                    let left = expires - now.seconds();
                    let when = if left < 0 { "expired on" } else { "expires on" };
                    (file.clone(), format!("{when} {}", day(*expires)), left < SOON)
                })
                .collect(),
            providers: state.providers.iter().map(|provider| provider_row(provider, census.as_ref())).collect(),
            routes,
            more_routes,
            decisions: self
                .access_log
                .decisions()
                .records(DECISIONS)
                .iter()
                .map(|record| Decision {
                    time: record.rfc3339(),
                    route: record.route.clone(),
                    method: known(&record.method),
                    status: record.status,
                    reason: record.reason.unwrap_or("-"),
                    request_id: record.request_id.clone(),
                })
                .collect(),
        };
        match page.render() {
            Ok(html) => (StatusCode::OK, HTML, html),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
        }
    }

    /// The busiest routes, and how many there are beside them.
    fn routes(&self, state: &State) -> (Vec<RouteRow>, usize) {
        let hour = |name: &str| {
            let mut hour = Tally::default();
            self.metrics.history.of(name).iter().for_each(|minute| hour.add(minute));
            hour
        };
        let mut all: Vec<_> = state.routes.iter().map(|route| (route, hour(&route.name))).collect();
        all.sort_by_key(|(_, hour)| Reverse(hour.requests()));
        let more = all.len().saturating_sub(ROUTES);
        let row = |(route, hour): (&RouteLine, Tally)| {
            let mut row = RouteRow::of(&route.name, &self.metrics.history.of(&route.name), &hour);
            row.from = format!("{} · {}", route.from, route.access);
            row.upstreams = route.upstreams.health().collect();
            row
        };
        let mut rows: Vec<RouteRow> = all.into_iter().take(ROUTES).map(row).collect();
        let none = RouteRow::of("-", &self.metrics.history.of("-"), &hour("-"));
        rows.extend(Some(RouteRow { from: "requests of no route".into(), ..none }).filter(|row| row.requests > 0));
        (rows, more)
    }
}

impl RouteRow {
    fn of(name: &str, minutes: &[Tally], hour: &Tally) -> Self {
        let at = |share| quantile(&REQUEST_BUCKETS, &hour.durations, share).map_or("-".into(), seconds);
        let mut reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).zip(hour.reasons).collect();
        reasons.retain(|(_, count)| *count > 0);
        reasons.sort_by_key(|(_, count)| Reverse(*count));
        let (busiest, slowest) = scale(minutes);
        RouteRow {
            name: name.to_owned(),
            from: String::new(),
            upstreams: Vec::new(),
            requests: hour.requests(),
            busiest,
            slowest: slowest.map_or("-".into(), seconds),
            reasons,
            p50: at(0.5),
            p99: at(0.99),
            chart: requests(name, minutes),
            durations: durations(name, minutes),
        }
    }
}

/// Clients choose the method: one that is not a usual one could be any text.
fn known(method: &str) -> String {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.iter().find(|known| **known == method).map_or("other", |known| *known).to_owned()
}

fn provider_row(provider: &Arc<RemoteProvider>, census: Option<&Census>) -> ProviderRow {
    let sessions = match census {
        None => "unknown".to_owned(),
        Some(census) => {
            let count = census.by_provider.get(provider.name()).copied().unwrap_or_default();
            if census.is_estimate { format!("about {count}") } else { count.to_string() }
        }
    };
    let clock = match provider.clock_skew() {
        None => "unknown".to_owned(),
        Some(0) => "as ours".to_owned(),
        Some(skew) => format!("{} s {}", skew.abs(), if skew > 0 { "ahead" } else { "behind" }),
    };
    let (name, issuer) = (provider.name().to_string(), provider.issuer().to_string());
    ProviderRow { name, issuer, up: provider.is_up(), clock, sessions }
}
