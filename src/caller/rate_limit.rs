//! The rate limit on refusals: a token bucket per client address (GCRA), in this replica's memory. The callers decide
//! what is counted; it must not know of tokens, routes or replies.

use crate::kit::setting::{Count, Wait};
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant as MokaInstant};
use tokio::time::Instant;

/// `requests` in a burst, and as many again in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "UnknownTokens")]
pub struct Settings {
    /// `false`: refused credentials are not counted.
    pub enabled: bool,
    /// Refused credentials of one client before the next are answered 429.
    pub requests: Count,
    /// The time in which that many are allowed again.
    pub per: Wait,
    /// IPv6 addresses that share this many leading bits are one client.
    pub ipv6_prefix: PrefixLength,
}

/// Leading bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "u8")]
#[schemars(with = "u8", extend("minimum" = 1, "maximum" = 128))]
pub struct PrefixLength(u8);

/// The defaults do not stop a person who mistypes, but a program that guesses.
impl Default for Settings {
    fn default() -> Self {
        let (requests, per, ipv6_prefix) = (Count::of(10), Wait::seconds(60), PrefixLength(64));
        Settings { enabled: true, requests, per, ipv6_prefix }
    }
}

impl TryFrom<u8> for PrefixLength {
    type Error = &'static str;
    fn try_from(bits: u8) -> Result<Self, Self::Error> {
        if (1..=128).contains(&bits) { Ok(PrefixLength(bits)) } else { Err("must be from 1 to 128") }
    }
}

/// The rate limiter of all routes. Routes with equal settings share counts; others count separately, since a count
/// means nothing under another limit.
pub struct Limiter {
    /// When all charges will have drained, as the time after `start`. moka updates an entry under that key's own lock,
    /// so that no concurrent charge is lost and clients do not wait for each other.
    drained: Cache<Key, Duration, Hasher>,
    start: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    Within,
    /// Nothing was counted. `retry_after`: whole seconds, at least one, after which the next charge is within.
    Above {
        retry_after: Duration,
    },
}

/// One client's account under one limit.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub limiter: &'a Limiter,
    pub limit: &'a Settings,
    pub client: IpAddr,
}

/// A charge made before remote work. If this is dropped, the charge remains.
#[derive(Debug)]
pub struct Reservation(Option<Held>);

#[derive(Debug)]
struct Held {
    key: Key,
    /// When this charge will have drained.
    drained: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    settings: Settings,
}

/// Randomly keyed: clients choose their addresses.
type Hasher = std::hash::RandomState;

/// Expires drained entries, which equal absent ones. An entry has drained `per` after its last charge.
struct Idle;

/// Addresses that are counted at one time, some 20 MB. If there are more, moka keeps the most frequent ones, which are
/// those to limit.
const MOST: u64 = 100_000;

/// moka has a clock of its own; it must not expire entries that still count by the limiter's clock.
const SPARE: Duration = Duration::from_secs(60);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

impl Limiter {
    #[allow(clippy::new_without_default)] // it records its start time
    pub fn new() -> Self {
        let drained = Cache::builder().max_capacity(MOST).expire_after(Idle).build_with_hasher(Hasher::default());
        Limiter { drained, start: Instant::now() }
    }

    /// Counts a refusal; above the limit it counts nothing.
    pub fn charge(&self, settings: &Settings, client: IpAddr, now: Instant) -> Charge {
        match self.reserve(settings, client, now) {
            Ok(_) => Charge::Within,
            Err(retry_after) => Charge::Above { retry_after },
        }
    }

    /// What a charge would return now; counts nothing.
    pub fn look(&self, settings: &Settings, client: IpAddr, now: Instant) -> Charge {
        let at = self.at(now);
        let held = settings.enabled.then(|| self.drained.get(&Key::new(settings, client))).flatten();
        match held.map_or(Ok(at), |drained| settings.charged(drained, at)) {
            Ok(_) => Charge::Within,
            Err(wait) => Charge::Above { retry_after: whole_seconds(wait) },
        }
    }

    /// Charges before remote work, so that concurrent requests cannot all do it; above the limit, how long to wait.
    pub fn reserve(&self, settings: &Settings, client: IpAddr, now: Instant) -> Result<Reservation, Duration> {
        if !settings.enabled {
            return Ok(Reservation(None));
        }
        let (key, at) = (Key::new(settings, client), self.at(now));
        let mut charged = Ok(at);
        self.drained.entry(key).and_compute_with(|held| {
            charged = settings.charged(held.map_or(at, |held| held.into_value()), at);
            charged.map_or(Op::Nop, Op::Put)
        });
        charged.map(|drained| Reservation(Some(Held { key, drained }))).map_err(whole_seconds)
    }

    /// Refunds the charge: the work showed a good token, or had no result.
    pub fn give_back(&self, reservation: Reservation, now: Instant) {
        let Some(Held { key, drained }) = reservation.0 else { return };
        // The part that has drained meanwhile is not refunded: that would cancel a later charge.
        let left = drained.saturating_sub(self.at(now)).min(key.settings.interval());
        if left.is_zero() {
            return;
        }
        self.drained
            .entry(key)
            .and_compute_with(|held| held.map_or(Op::Nop, |held| Op::Put(held.into_value().saturating_sub(left))));
    }

    pub fn len(&self) -> u64 {
        self.drained.run_pending_tasks(); // the count lags behind without it
        self.drained.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

impl Account<'_> {
    /// Counts a refusal.
    ///
    /// # Errors
    /// Above the limit: how long to wait.
    pub fn charge(&self) -> Result<(), Duration> {
        self.limiter.charge(self.limit, self.client, Instant::now()).within()
    }

    /// # Errors
    /// As [`Account::charge`] would return; counts nothing.
    pub fn look(&self) -> Result<(), Duration> {
        self.limiter.look(self.limit, self.client, Instant::now()).within()
    }

    /// # Errors
    /// Above the limit: how long to wait.
    pub fn reserve(&self) -> Result<Reservation, Duration> {
        self.limiter.reserve(self.limit, self.client, Instant::now())
    }

    pub fn give_back(&self, reservation: Option<Reservation>) {
        if let Some(reservation) = reservation {
            self.limiter.give_back(reservation, Instant::now());
        }
    }
}

impl Charge {
    fn within(self) -> Result<(), Duration> {
        match self {
            Charge::Within => Ok(()),
            Charge::Above { retry_after } => Err(retry_after),
        }
    }
}

impl Settings {
    /// Adds a charge at `at`: when all charges will have drained, or else how long to wait until it fits.
    fn charged(&self, drained: Duration, at: Duration) -> Result<Duration, Duration> {
        let after = drained.max(at).saturating_add(self.interval());
        let above = after.saturating_sub(at).saturating_sub(self.burst());
        if above.is_zero() { Ok(after) } else { Err(above) }
    }

    /// The time in which one charge drains.
    fn interval(&self) -> Duration {
        (*self.per / self.requests.get()).max(Duration::from_nanos(1))
    }

    /// The time in which `requests` charges drain: `per`, less the rounding of the division.
    fn burst(&self) -> Duration {
        self.interval().saturating_mul(self.requests.get())
    }
}

impl Key {
    fn new(settings: &Settings, client: IpAddr) -> Self {
        let client = match client.to_canonical() {
            IpAddr::V6(address) => {
                let host_bits = 128_u32.saturating_sub(settings.ipv6_prefix.0.into());
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
            address => address,
        };
        Key { client, settings: *settings }
    }
}

impl Expiry<Key, Duration> for Idle {
    fn expire_after_create(&self, key: &Key, _: &Duration, _: MokaInstant) -> Option<Duration> {
        Some(key.settings.per.saturating_add(SPARE))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        _: &Duration,
        _: MokaInstant,
        _until: Option<Duration>,
    ) -> Option<Duration> {
        Some(key.settings.per.saturating_add(SPARE))
    }
}

/// Rounded up, so that a client that waits this long is within the limit.
fn whole_seconds(wait: Duration) -> Duration {
    let begun = u64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(wait.as_secs().saturating_add(begun)).max(SHORTEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const TEN: Settings =
        Settings { enabled: true, requests: Count::of(10), per: Wait::seconds(60), ipv6_prefix: PrefixLength(64) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn above(seconds: u64) -> Charge {
        Charge::Above { retry_after: Duration::from_secs(seconds) }
    }

    /// How many charges are within the limit now.
    fn free(limiter: &Limiter, settings: &Settings, client: IpAddr, now: Instant) -> u32 {
        (0..1000).take_while(|_| limiter.charge(settings, client, now) == Charge::Within).count() as u32
    }

    #[test]
    fn a_burst_is_within_and_drains_evenly() {
        let (limiter, now, a) = (Limiter::new(), Instant::now(), ip("192.0.2.1"));
        assert_eq!(limiter.look(&TEN, a, now), Charge::Within);
        for _ in 0..10 {
            assert_eq!(limiter.charge(&TEN, a, now), Charge::Within);
        }
        for _ in 0..3 {
            assert_eq!(limiter.look(&TEN, a, now), above(6));
            assert_eq!(limiter.charge(&TEN, a, now), above(6), "what is above counts nothing");
        }
        assert_eq!(free(&limiter, &TEN, ip("192.0.2.2"), now), 10, "another address is another client");
        let after = |millis| now + Duration::from_millis(millis);
        assert_eq!(limiter.charge(&TEN, a, after(5_999)), above(1), "at least one second");
        assert_eq!(limiter.charge(&TEN, a, after(2_500)), above(4), "rounded up");
        assert_eq!(free(&limiter, &TEN, a, after(6_000)), 1);
        assert_eq!(free(&limiter, &TEN, a, after(24_000)), 3);
        assert_eq!(free(&limiter, &TEN, a, after(24_000 + 60_000)), 10);
        assert_eq!(free(&limiter, &TEN, a, after(9_000_000)), 10, "a long rest saves nothing up");
    }

    #[test]
    fn any_limit_lets_exactly_its_burst_pass() {
        let now = Instant::now();
        for (requests, per) in [(1, 60_000), (3, 1_000), (7, 60_000), (999, 1)] {
            let settings = Settings { requests: Count::of(requests), per: Duration::from_millis(per).into(), ..TEN };
            let limiter = Limiter::new();
            assert_eq!(free(&limiter, &settings, ip("192.0.2.1"), now), requests, "{requests} per {per} ms");
        }
        let forever = Settings { requests: Count::of(2), per: Duration::MAX.into(), ..TEN };
        let key = Key::new(&forever, ip("192.0.2.1"));
        assert!(key.settings.charged(Duration::MAX, Duration::ZERO).is_err(), "nothing overflows");
    }

    #[test]
    fn who_waits_as_told_is_within() {
        let (limiter, mut now, a) = (Limiter::new(), Instant::now(), ip("192.0.2.1"));
        let settings = Settings { requests: Count::of(7), per: Wait::seconds(10), ..TEN };
        assert_eq!(free(&limiter, &settings, a, now), 7);
        for _ in 0..50 {
            let Charge::Above { retry_after } = limiter.charge(&settings, a, now) else { panic!("it is full") };
            now += retry_after;
            assert!(free(&limiter, &settings, a, now) >= 1);
        }
    }

    #[test]
    fn addresses_are_told_apart_as_networks_give_them_out() {
        let check = |prefix: u8, one: &str, other: &str, same: bool| {
            let (limiter, now) = (Limiter::new(), Instant::now());
            let settings = Settings { ipv6_prefix: PrefixLength(prefix), ..TEN };
            assert_eq!(free(&limiter, &settings, ip(one), now), 10);
            let left = if same { 0 } else { 10 };
            assert_eq!(free(&limiter, &settings, ip(other), now), left, "{one} and {other} by {prefix} bits");
        };
        check(64, "192.0.2.1", "::ffff:192.0.2.1", true);
        check(64, "::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        check(64, "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true);
        check(64, "2001:db8::1", "2001:db8:0:1::1", false);
        check(56, "2001:db8::1", "2001:db8:0:ff::1", true);
        check(128, "2001:db8::1", "2001:db8::2", false);
        check(0, "2001:db8::1", "fe80::2", true);
        check(255, "2001:db8::1", "2001:db8::2", false);
    }

    #[test]
    fn other_settings_count_apart_and_none_count_nothing() {
        let (limiter, now, a) = (Limiter::new(), Instant::now(), ip("192.0.2.1"));
        let (two, off) = (Settings { requests: Count::of(2), ..TEN }, Settings { enabled: false, ..TEN });
        assert_eq!((free(&limiter, &TEN, a, now), free(&limiter, &two, a, now)), (10, 2));
        assert_eq!(free(&limiter, &off, a, now), 1000);
        assert_eq!(limiter.look(&off, a, now), Charge::Within);
        limiter.give_back(limiter.reserve(&off, a, now).unwrap(), now);
        assert_eq!(limiter.len(), 2);
    }

    #[test]
    fn what_is_given_back_was_never_charged() {
        let (limiter, now, a) = (Limiter::new(), Instant::now(), ip("192.0.2.1"));
        let held: Vec<_> = (0..10).map(|_| limiter.reserve(&TEN, a, now).unwrap()).collect();
        assert_eq!(limiter.reserve(&TEN, a, now).unwrap_err(), Duration::from_secs(6));
        assert_eq!(limiter.charge(&TEN, a, now), above(6), "a reservation counts");
        for reservation in held.into_iter().step_by(2) {
            limiter.give_back(reservation, now);
        }
        assert_eq!(free(&limiter, &TEN, a, now), 5, "what was dropped stays charged");
    }

    #[test]
    fn what_has_drained_forgives_no_later_charge() {
        let (limiter, now, a) = (Limiter::new(), Instant::now(), ip("192.0.2.1"));
        let (early, half) = (limiter.reserve(&TEN, a, now).unwrap(), limiter.reserve(&TEN, a, now).unwrap());
        let later = now + Duration::from_secs(9); // the first has drained, half of the second
        assert_eq!(free(&limiter, &TEN, a, later), 9);
        limiter.give_back(early, later);
        assert_eq!(limiter.look(&TEN, a, later), above(3));
        limiter.give_back(half, later);
        assert_eq!(free(&limiter, &TEN, a, later), 1);
    }

    #[test]
    fn of_many_at_once_as_many_are_within_as_may_be() {
        let (limiter, now) = (Arc::new(Limiter::new()), Instant::now());
        let settings = Settings { requests: Count::of(1000), ..TEN };
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let limiter = limiter.clone();
                std::thread::spawn(move || {
                    let within = |_: &u32| limiter.charge(&settings, ip("192.0.2.1"), now) == Charge::Within;
                    (0..500).filter(within).count()
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 1000);
    }

    #[test]
    fn addresses_without_number_take_no_memory_without_number() {
        let (limiter, now) = (Limiter::new(), Instant::now());
        let busy = ip("192.0.2.1");
        assert_eq!(free(&limiter, &TEN, busy, now), 10);
        for i in 0..u32::try_from(MOST).unwrap() + 50_000 {
            limiter.charge(&TEN, IpAddr::from(i.to_be_bytes()), now);
            if i % 1000 == 0 {
                assert_ne!(limiter.charge(&TEN, busy, now), Charge::Within, "who comes often is not forgotten");
            }
        }
        assert!(limiter.len() <= MOST);
    }

    #[test]
    fn an_idle_entry_is_dropped_by_its_own_settings() {
        let key = Key::new(&TEN, ip("192.0.2.1"));
        let now = std::time::Instant::now();
        let idle = Some(Duration::from_secs(60 + 60));
        assert_eq!(Idle.expire_after_create(&key, &Duration::ZERO, now), idle);
        assert_eq!(Idle.expire_after_update(&key, &Duration::ZERO, now, None), idle);
    }
}
