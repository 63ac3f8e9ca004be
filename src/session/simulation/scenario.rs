//! The scenario that a seed decides before a run begins, and the dice that decide the rest.

use crate::kit::entropy::Entropy;
use parking_lot::Mutex;
use std::ops::Range;
use std::time::Duration;

/// Random numbers that follow from one seed (splitmix64).
pub(super) struct Dice(Mutex<u64>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(Mutex::new(seed.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    pub(super) fn next(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn of(&self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(super) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.of(range))
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.of(0..100) < percent
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).unwrap()]
    }
}

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next().to_le_bytes()[0]);
    }
}

/// The kinds of faults in a run, and its settings. Most runs have few, so that their effects can be told apart.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) replicas: usize,
    pub(super) lease: Duration,
    /// How long an access token lives.
    pub(super) life: Duration,
    /// Replicas use a fallback, with its memory and journal; otherwise they see store failures directly.
    pub(super) fallback: bool,
    pub(super) copies: bool,
    /// When the store is unavailable, for one replica or (None) for all.
    pub(super) outages: Vec<(Option<usize>, Range<Duration>)>,
    /// Percent of the calls whose answer is lost.
    pub(super) losses: u64,
    pub(super) slow_store: bool,
    pub(super) freezes: bool,
    pub(super) crashes: bool,
    pub(super) provider_fails: bool,
    /// The provider answers no refresh until faults end.
    pub(super) provider_hangs: bool,
    /// The provider rotates its keys at any time, and signs refreshed ID tokens with the newest.
    pub(super) rotates: bool,
    /// The provider denies a reused token without revoking the others.
    pub(super) lenient: bool,
    /// Percent of the refreshed ID tokens that cannot be verified, because the provider's keys are unavailable.
    pub(super) untold: u64,
}

impl Scenario {
    pub(super) fn roll(dice: &Dice) -> Self {
        let replicas = usize::try_from(dice.of(2..5)).unwrap();
        let mut outages = Vec::new();
        if dice.chance(40) {
            for _ in 0..dice.of(1..4) {
                let whose = dice.chance(60).then(|| usize::try_from(dice.of(0..replicas as u64)).unwrap());
                let from = dice.millis(0..25_000);
                outages.push((whose, from..from + dice.millis(20..12_000)));
            }
        }
        Scenario {
            replicas,
            lease: Duration::from_secs(dice.pick(&[2, 6, 10])),
            life: Duration::from_secs(dice.pick(&[2, 4, 20, 300])),
            fallback: dice.chance(50),
            copies: dice.chance(35),
            outages,
            losses: if dice.chance(35) { dice.of(1..15) } else { 0 },
            slow_store: dice.chance(50),
            freezes: dice.chance(20),
            crashes: dice.chance(25),
            provider_fails: dice.chance(30),
            provider_hangs: dice.chance(5),
            rotates: dice.chance(25),
            lenient: dice.chance(40),
            untold: if dice.chance(20) { dice.pick(&[30, 90]) } else { 0 },
        }
    }
}
