//! The cache of refused tokens: exactly these bytes were refused under exactly this policy a moment ago. Separate from
//! the verified ones, so that a flood of made-up tokens evicts no good one. Entries live for seconds: what becomes
//! valid elsewhere must not stay refused here. Must not know how a token is verified, nor count refusals.

use crate::kit::cache::{self, Begun, Cache};
use crate::kit::clock::Timestamp;
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::provider::verdict::Rejection;

/// Long enough to blunt a flood, short enough that a token issued meanwhile is soon accepted.
pub type Settings = cache::Settings<100_000, 10>;

/// New keys of a provider may turn any refusal into a good token: they empty the cache. They come every few weeks.
pub struct UnknownTokens(Cache<Key, Rejection>);

/// What was refused under one policy may be good under another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Fingerprint, TokenDigest);

impl UnknownTokens {
    pub fn new(settings: &Settings) -> Self {
        UnknownTokens(Cache::new(settings))
    }

    /// The cached refusal of the token.
    pub fn find(&self, policy: Fingerprint, token: TokenDigest, now: Timestamp) -> Option<Rejection> {
        self.0.find(&Key(policy, token), now)
    }

    /// To be taken before verification.
    pub fn begin(&self) -> Begun {
        self.0.begin()
    }

    /// `until`: when the reason itself ends (for a token that is not valid yet); the cache's TTL is the upper limit.
    pub fn keep(
        &self,
        policy: Fingerprint,
        token: TokenDigest,
        refused: Rejection,
        until: Option<Timestamp>,
        begun: Begun,
        now: Timestamp,
    ) {
        self.0.keep(Key(policy, token), refused, until.unwrap_or(Timestamp::FAR), begun, now);
    }

    /// A provider's keys changed: tokens refused before may be good now.
    pub fn forget_all(&self) {
        self.0.forget_all();
    }

    pub fn len(&self) -> u64 {
        self.0.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::reason::Reason;
    use std::time::Duration;

    const TTL: Duration = Duration::from_secs(10);

    struct World {
        cache: UnknownTokens,
        one: Fingerprint,
        two: Fingerprint,
        now: Timestamp,
    }

    fn world(max_entries: u64) -> World {
        let policy = |name| Fingerprint::of().part(name).finish();
        World {
            cache: UnknownTokens::new(&Settings { enabled: true, max_entries, ttl: TTL.into() }),
            one: policy("one"),
            two: policy("two"),
            now: Timestamp::from_seconds(1000),
        }
    }

    fn refused(reason: Reason) -> Rejection {
        Rejection { reason, why: "".into() }
    }

    fn token(text: &str) -> TokenDigest {
        TokenDigest::of(text.as_bytes())
    }

    impl World {
        fn keep(&self, policy: Fingerprint, text: &str, reason: Reason) {
            self.cache.keep(
                policy,
                token(text),
                Rejection { reason, why: "".into() },
                None,
                self.cache.begin(),
                self.now,
            );
        }

        fn find(&self, policy: Fingerprint, text: &str) -> Option<Reason> {
            self.cache.find(policy, token(text), self.now).map(|refused| refused.reason)
        }
    }

    #[test]
    fn a_refusal_keeps_its_word_under_its_policy() {
        let w = world(100);
        assert_eq!(w.find(w.one, "a"), None);
        w.keep(w.one, "a", Reason::WrongAudience);
        assert_eq!((w.find(w.one, "a"), w.find(w.two, "a")), (Some(Reason::WrongAudience), None));
        w.keep(w.two, "a", Reason::InvalidToken);
        w.keep(w.one, "a", Reason::TokenExpired);
        assert_eq!(w.find(w.one, "a"), Some(Reason::TokenExpired), "the newer word counts");
        assert_eq!(w.find(w.two, "a"), Some(Reason::InvalidToken));
        assert_eq!(w.find(w.one, "b"), None);
        assert_eq!(w.cache.len(), 2, "one for each policy");
    }

    #[test]
    fn it_ends_by_our_clock() {
        let mut w = world(100);
        w.keep(w.one, "a", Reason::UnknownToken);
        w.now = w.now.plus(TTL - Duration::from_millis(1));
        assert_eq!(w.find(w.one, "a"), Some(Reason::UnknownToken));
        w.now = w.now.plus(Duration::from_millis(1));
        assert_eq!(w.find(w.one, "a"), None);
    }

    #[test]
    fn what_is_refused_for_its_time_is_refused_for_that_time() {
        let mut w = world(100);
        for (text, valid_in, expected) in [("soon", 3, 3), ("late", 300, 10), ("now", 0, 0), ("past", -5, 0)] {
            let valid = Timestamp::from_seconds(w.now.seconds() + valid_in);
            w.cache.keep(w.one, token(text), refused(Reason::InvalidToken), Some(valid), w.cache.begin(), w.now);
            let begin = w.now;
            let known = (0..20).take_while(|_| {
                let found = w.find(w.one, text).is_some();
                w.now = w.now.plus(Duration::from_secs(1));
                found
            });
            assert_eq!(known.count(), expected, "{text}");
            w.now = begin;
        }
    }

    #[test]
    fn new_keys_of_a_provider_forget_all() {
        let w = world(100);
        w.keep(w.one, "a", Reason::InvalidToken);
        let begun = w.cache.begin();
        w.cache.forget_all();
        assert_eq!(w.find(w.one, "a"), None);
        w.cache.keep(w.one, token("a"), refused(Reason::InvalidToken), None, begun, w.now);
        assert_eq!(w.find(w.one, "a"), None, "refused by the keys of before");
        w.keep(w.one, "a", Reason::InvalidToken);
        assert_eq!(w.find(w.one, "a"), Some(Reason::InvalidToken), "refused by the new keys too");
    }

    #[test]
    fn many_at_once_lose_no_policy() {
        let w = world(10_000);
        let policies: Vec<_> = (0..8_u8).map(|i| Fingerprint::of().part([i]).finish()).collect();
        std::thread::scope(|scope| {
            for policy in &policies {
                scope.spawn(|| (0..200).for_each(|i| w.keep(*policy, &i.to_string(), Reason::UnknownToken)));
            }
        });
        let kept = |i: u32| policies.iter().all(|policy| w.find(*policy, &i.to_string()).is_some());
        assert!((0..200).all(kept));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let w = world(100);
        for i in 0..1000 {
            w.keep(w.one, &i.to_string(), Reason::UnknownToken);
            w.keep(w.two, &i.to_string(), Reason::UnknownToken);
        }
        assert!(w.cache.len() <= 100);
    }
}
