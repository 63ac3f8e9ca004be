//! Wall time, for claims and deadlines. The one place that reads the system clock; waits and back-offs
//! use tokio's own clock, which tests can pause.

use std::time::{Duration, SystemTime};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The time of day. Must never go backwards by more than the operating system's own clock does.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one reader of the system's clock
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Timestamp {
    pub const FAR: Timestamp = Timestamp(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    pub const fn from_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(1000))
    }

    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub fn plus(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_add(millis(by)))
    }

    pub fn minus(self, by: Duration) -> Self {
        Timestamp(self.0.saturating_sub(millis(by)))
    }

    /// The time left until `later`; zero if that has passed.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

fn millis(by: Duration) -> i64 {
    i64::try_from(by.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A clock that moves only when it is advanced.
    #[derive(Debug)]
    pub(crate) struct SetClock(AtomicI64);

    impl SetClock {
        pub(crate) fn at(seconds: i64) -> Self {
            SetClock(AtomicI64::new(seconds * 1000))
        }

        pub(crate) fn advance(&self, by: Duration) {
            self.0.fetch_add(millis(by), Ordering::SeqCst);
        }
    }

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn what_is_left_is_never_negative() {
        let now = Timestamp::from_seconds(100);
        assert_eq!(now.until(Timestamp::from_seconds(90)), Duration::ZERO);
        assert_eq!(now.until(now.plus(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(Timestamp::FAR.plus(Duration::from_secs(1)), Timestamp::FAR);
    }
}
