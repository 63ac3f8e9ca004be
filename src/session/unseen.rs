//! Tickets that were signed out while the store had no record of them. Most were made up or had ended. A replica that was
//! cut off from the store may still write a record of one back, and what was signed out must not return with it.

use crate::kit::clock::Timestamp;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Unseen(Mutex<VecDeque<SignedOut>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedOut {
    pub(super) place: String,
    /// How long its end is to be remembered.
    pub(super) remember: Duration,
    until: Timestamp,
}

/// Anyone can sign out of made-up tickets: the oldest make room.
const MOST: usize = 10_000;
/// Longer than outages last.
const KEPT: Duration = Duration::from_secs(6 * 3600);

impl Unseen {
    pub(super) fn keep(&self, place: String, remember: Duration, now: Timestamp) {
        let mut all = self.0.lock();
        all.retain(|known| known.until > now && known.place != place);
        if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(SignedOut { place, remember, until: now.plus(KEPT.min(remember)) });
    }

    /// Those of a place, or all.
    pub(super) fn of(&self, place: Option<&str>, now: Timestamp) -> Vec<SignedOut> {
        let is_asked = |known: &&SignedOut| known.until > now && place.is_none_or(|place| known.place == place);
        self.0.lock().iter().filter(is_asked).cloned().collect()
    }

    pub(super) fn forget(&self, place: &str) {
        self.0.lock().retain(|known| known.place != place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_for_a_while() {
        let (unseen, hour) = (Unseen::default(), Duration::from_secs(3600));
        let at = Timestamp::from_seconds;
        for n in 0..=MOST {
            unseen.keep(n.to_string(), hour, at(0));
        }
        unseen.keep("7".into(), hour, at(1));
        assert_eq!(unseen.of(None, at(1)).len(), MOST);
        assert!(unseen.of(Some("0"), at(1)).is_empty() && unseen.of(Some("7"), at(1)).len() == 1);
        unseen.forget("7");
        assert!(unseen.of(Some("7"), at(1)).is_empty());
        assert!(unseen.of(None, at(3600)).is_empty());
    }
}
