//! Sessions whose end by age or disuse this replica has told: each is told once, however often its cookie still comes.

use crate::kit::digest::{DigestState, TokenDigest};
use moka::sync::Cache;
use std::time::Duration;

pub(super) struct Told(Cache<TokenDigest, (), DigestState>);

/// Maximum number of sessions that are remembered.
const MOST: u64 = 100_000;
/// A cookie seldom outlives it.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);

impl Default for Told {
    fn default() -> Self {
        Told(Cache::builder().max_capacity(MOST).time_to_live(REMEMBER).build_with_hasher(DigestState::default()))
    }
}

impl Told {
    pub(super) fn is_first(&self, place: TokenDigest) -> bool {
        self.0.entry(place).or_insert(()).is_fresh()
    }
}
