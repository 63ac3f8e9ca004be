//! Refreshes that brought nothing, as far as this replica made them: a provider in trouble is not asked again with every
//! request, and one that refuses a token without a word is believed the second time.

use crate::kit::digest::{DigestState, TokenDigest};
use moka::sync::Cache;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Tries(Cache<TokenDigest, Try, DigestState>);

#[derive(Clone, Copy)]
struct Try {
    failed: Instant,
    /// When the provider first refused it without a word.
    unnamed: Option<Instant>,
}

/// Between two tries for one session.
const PAUSE: Duration = Duration::from_secs(5);
/// Sessions whose tries are remembered at one time.
const MOST: u64 = 100_000;
/// Longer than anybody waits between two tries, and still the same trouble.
const REMEMBER: Duration = Duration::from_secs(3600);

impl Tries {
    pub(crate) fn new() -> Self {
        Tries(Cache::builder().max_capacity(MOST).time_to_live(REMEMBER).build_with_hasher(DigestState::default()))
    }

    /// Whether a try failed so short a time ago that none is made.
    pub(super) fn are_paused(&self, place: &str) -> bool {
        self.of(place).is_some_and(|tried| tried.failed.elapsed() < PAUSE)
    }

    pub(super) fn failed(&self, place: &str) {
        let unnamed = self.of(place).and_then(|tried| tried.unnamed);
        self.0.insert(key(place), Try { failed: Instant::now(), unnamed });
    }

    pub(super) fn was_unnamed_before(&self, place: &str) -> bool {
        self.of(place).and_then(|tried| tried.unnamed).is_some_and(|first| first.elapsed() >= PAUSE)
    }

    pub(super) fn unnamed(&self, place: &str) {
        let now = Instant::now();
        let first = self.of(place).and_then(|tried| tried.unnamed).unwrap_or(now);
        self.0.insert(key(place), Try { failed: now, unnamed: Some(first) });
    }

    pub(super) fn succeeded(&self, place: &str) {
        self.0.invalidate(&key(place));
    }

    fn of(&self, place: &str) -> Option<Try> {
        self.0.get(&key(place))
    }
}

fn key(place: &str) -> TokenDigest {
    TokenDigest::of(place.as_bytes())
}
