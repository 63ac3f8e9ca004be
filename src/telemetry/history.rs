//! The last hour in minutes, for the status page: of each route, what became of its requests, how long they took, and
//! why some were refused.

use crate::telemetry::metrics::labels::Outcome;
use crate::telemetry::reason::Reason;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The history of all routes. It reads the counters of their metrics once a minute; a request pays nothing for it.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<Arc<str>, Series>>);

/// The minutes that are kept.
pub const MINUTES: usize = 60;

/// What happened in a minute, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub outcomes: [u64; Outcome::ALL.len()],
    /// By the buckets of `REQUEST_BUCKETS`; empty if there are none.
    pub durations: Vec<u64>,
    pub reasons: [u64; Reason::ALL.len()],
}

struct Series {
    /// What the counters say.
    read: Box<dyn Fn() -> Tally + Send + Sync>,
    /// What the counters said at the end of the last minute.
    before: Tally,
    /// The oldest first; `None`: nothing happened.
    minutes: VecDeque<Option<Box<Tally>>>,
}

impl History {
    pub(super) fn follow(&self, route: &Arc<str>, read: impl Fn() -> Tally + Send + Sync + 'static) {
        let series = || Series { before: read(), read: Box::new(read), minutes: VecDeque::new() };
        self.0.lock().entry(route.clone()).or_insert_with(series);
    }

    /// Drops the routes that a reload has removed.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| is_kept(name));
    }

    /// To be called at the end of each minute.
    pub fn minute_passed(&self) {
        for series in self.0.lock().values_mut() {
            let now = (series.read)();
            let minute = now.since(&series.before);
            if series.minutes.len() >= MINUTES {
                series.minutes.pop_front();
            }
            series.minutes.push_back((minute != Tally::default()).then(|| Box::new(minute)));
            series.before = now;
        }
    }

    /// The minutes of a route, the one under way last.
    pub fn of(&self, route: &str) -> Vec<Tally> {
        let all = self.0.lock();
        let Some(series) = all.get(route) else { return Vec::new() };
        let past = series.minutes.iter().skip((series.minutes.len() + 1).saturating_sub(MINUTES));
        let past = past.map(|minute| minute.as_deref().cloned().unwrap_or_default());
        past.chain([(series.read)().since(&series.before)]).collect()
    }
}

impl Tally {
    fn since(&self, before: &Tally) -> Tally {
        let less = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
        let mut durations: Vec<u64> = self.durations.iter().zip(&before.durations).map(less).collect();
        if durations.iter().all(|count| *count == 0) {
            durations = Vec::new();
        }
        let mut since = Tally { durations, ..Tally::default() };
        let outcomes = self.outcomes.iter().zip(&before.outcomes).map(less);
        since.outcomes.iter_mut().zip(outcomes).for_each(|(count, less)| *count = less);
        let reasons = self.reasons.iter().zip(&before.reasons).map(less);
        since.reasons.iter_mut().zip(reasons).for_each(|(count, less)| *count = less);
        since
    }

    pub fn add(&mut self, other: &Tally) {
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(count, more)| *count += more);
        self.reasons.iter_mut().zip(other.reasons).for_each(|(count, more)| *count += more);
        if self.durations.len() < other.durations.len() {
            self.durations.resize(other.durations.len(), 0);
        }
        self.durations.iter_mut().zip(&other.durations).for_each(|(count, more)| *count += more);
    }

    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use std::time::Duration;

    #[test]
    fn an_hour_is_kept_in_minutes() {
        let metrics = Metrics::default();
        let route = metrics.route("main");
        let requests = |of: &[Tally]| of.iter().map(Tally::requests).collect::<Vec<_>>();
        let refuse = |reason| route.ended(Outcome::unauthorized, Some(reason), Duration::from_millis(3));
        route.ended(Outcome::forwarded, None, Duration::from_millis(3));
        assert_eq!(requests(&metrics.history.of("main")), [1], "the minute under way");
        metrics.history.minute_passed();
        refuse(Reason::InvalidToken);
        refuse(Reason::InvalidToken);
        let route = metrics.route("main"); // a reload
        route.ended(Outcome::unauthorized, Some(Reason::InvalidToken), Duration::from_millis(3));
        let hour = metrics.history.of("main");
        assert_eq!(requests(&hour), [1, 3]);
        assert_eq!(hour[1].reasons[Reason::InvalidToken as usize], 3);
        assert_eq!(hour[1].durations.iter().sum::<u64>(), 3);
        for _ in 0..59 {
            metrics.history.minute_passed();
        }
        assert_eq!(requests(&metrics.history.of("main")), [&[3][..], &[0; 59]].concat(), "the oldest is gone");
        let mut all = Tally::default();
        metrics.history.of("main").iter().for_each(|minute| all.add(minute));
        assert_eq!((all.requests(), all.durations.iter().sum::<u64>()), (3, 3));
        metrics.history.keep(|name| name == "other");
        assert_eq!((metrics.history.of("main"), metrics.history.of("other")), (Vec::new(), Vec::new()));
    }
}
