//! Delays refusals of credentials while good requests are served: refusals above a rate wait, so that a flood, from
//! however many addresses, leaves time for requests with good credentials. Must not know who the clients are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Evenly spaced slots, of which as many as fit into `BURST` may be taken at once (GCRA).
pub struct Tarpit {
    start: Instant,
    /// The end of the last slot that was taken, in nanoseconds after `start`.
    given: AtomicU64,
    /// Until when refusals are delayed, in nanoseconds after `start`.
    until: AtomicU64,
}

/// 5,000 a second: a small part of what one core can answer, and more than honest clients need.
const EACH: u64 = nanos(Duration::from_micros(200));
const BURST: u64 = nanos(Duration::from_millis(100));
/// The longest delay: a waiting client holds a connection, perhaps one of a proxy in front of us.
const LONGEST: u64 = nanos(Duration::from_millis(50));
/// How long refusals are still delayed after a good credential.
const GIVES_WAY: u64 = nanos(Duration::from_secs(1));
/// `until` is not written more often: it is shared by all threads.
const COARSE: u64 = nanos(Duration::from_millis(10));

impl Tarpit {
    #[allow(clippy::new_without_default)] // it records its start time
    pub fn new() -> Self {
        Tarpit { start: Instant::now(), given: AtomicU64::new(0), until: AtomicU64::new(0) }
    }

    /// A good credential was seen.
    pub fn saw_good(&self, now: Instant) {
        let until = self.at(now) + GIVES_WAY;
        if until.saturating_sub(self.until.load(Ordering::Relaxed)) > COARSE {
            self.until.store(until, Ordering::Relaxed);
        }
    }

    /// Waits, 50 ms at most, until one more refusal may be answered.
    pub async fn turn(&self) {
        let wait = self.take(Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    fn take(&self, now: Instant) -> Duration {
        let now = self.at(now);
        if self.until.load(Ordering::Relaxed) <= now {
            return Duration::ZERO;
        }
        let next = |given: u64| Some(given.max(now).saturating_add(EACH).min(now + BURST + LONGEST));
        let given = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(now);
        Duration::from_nanos(given.saturating_sub(now + BURST))
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }
}

const fn nanos(span: Duration) -> u64 {
    span.as_secs() * 1_000_000_000 + span.subsec_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const AT_ONCE: u64 = BURST / EACH + 1;

    /// The delays of `many` refusals at one moment, while good requests are served.
    fn waits(pace: &Tarpit, now: Instant, many: u64) -> Vec<Duration> {
        pace.saw_good(now);
        (0..many).map(|_| pace.take(now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_beside_good_requests_is_spread_and_nobody_waits_for_long() {
        let (pace, now) = (Tarpit::new(), Instant::now() + SECOND);
        let waited = waits(&pace, now, AT_ONCE + 1000);
        let (first, rest) = waited.split_at(AT_ONCE as usize);
        assert!(first.iter().all(Duration::is_zero));
        let turns = |n: u32| Duration::from_nanos(EACH) * n;
        assert_eq!(rest[..3], [turns(1), turns(2), turns(3)]);
        assert_eq!(rest.last(), Some(&Duration::from_nanos(LONGEST)));
        // Delayed refusals do not delay later ones further.
        let later = now + Duration::from_nanos(LONGEST + BURST);
        assert!(waits(&pace, later, AT_ONCE).iter().all(Duration::is_zero));
    }

    #[tokio::test(start_paused = true)]
    async fn without_good_requests_nobody_waits() {
        let (pace, now) = (Tarpit::new(), Instant::now() + SECOND);
        assert!((0..2 * AT_ONCE).all(|_| pace.take(now).is_zero()), "none was seen yet");
        assert!(waits(&pace, now, 2 * AT_ONCE).iter().any(|wait| !wait.is_zero()));
        let later = now + Duration::from_nanos(GIVES_WAY);
        assert!((0..2 * AT_ONCE).all(|_| pace.take(later).is_zero()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_takes_its_time() {
        let pace = Tarpit::new();
        let begun = Instant::now();
        pace.saw_good(begun + SECOND);
        for _ in 0..AT_ONCE + 50 {
            pace.turn().await;
        }
        assert!(begun.elapsed() >= Duration::from_nanos(10 * EACH), "{:?}", begun.elapsed());
    }
}
