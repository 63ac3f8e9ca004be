//! This replica's failed refreshes: a failing provider is not asked again by every request, and a refusal without an
//! error code counts only the second time.

use crate::kit::digest::{DigestState, TokenDigest};
use moka::sync::Cache;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Tries(Cache<TokenDigest, Try, DigestState>);

#[derive(Clone, Copy)]
struct Try {
    failed: Instant,
    /// When the provider first refused the token without an error code.
    unnamed: Option<Instant>,
}

/// Minimum time between two tries for one session.
const PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of sessions whose tries are remembered.
const MOST: u64 = 100_000;
/// How long a failure is remembered; failures further apart are unrelated.
const REMEMBER: Duration = Duration::from_secs(3600);

impl Tries {
    pub(crate) fn new() -> Self {
        Tries(Cache::builder().max_capacity(MOST).time_to_live(REMEMBER).build_with_hasher(DigestState::default()))
    }

    /// Whether the last failed try is too recent for another one.
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
