//! The cache of refused tokens: that exactly these bytes were refused under exactly this policy a moment ago. Apart from
//! the verified ones, so that a flood of made-up tokens evicts no good one. It lives seconds: what becomes valid elsewhere
//! must not stay refused here. Must not know how a token is judged, nor count refusals.

use crate::kit::clock::Timestamp;
use crate::kit::digest::{DigestState, Fingerprint, TokenDigest};
use crate::telemetry::reason::Reason;
use moka::sync::Cache;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How large the cache is, and how long an entry lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    pub max_entries: u64,
    pub ttl: Duration,
}

pub struct UnknownTokens {
    /// By token, and within it by policy.
    refused: Cache<TokenDigest, Arc<[Refusal]>, DigestState>,
    ttl: Duration,
    /// How often each provider's keys changed. Held for a look-up, when a token is judged; names come from the
    /// configuration, so that there are few.
    providers: RwLock<HashMap<Box<str>, Arc<AtomicU64>>>,
}

/// What stood when a token was about to be judged. A refusal that rests on what changed meanwhile is not kept.
pub struct Basis(Box<[Keys]>);

#[derive(Clone)]
struct Refusal {
    policy: Fingerprint,
    reason: Reason,
    until: Timestamp,
    keys: Box<[Keys]>,
}

/// A provider's keys as they were.
#[derive(Clone)]
struct Keys {
    changes: Arc<AtomicU64>,
    seen: u64,
}

impl UnknownTokens {
    pub fn new(settings: &Settings) -> Self {
        UnknownTokens {
            // The cache's own expiry only bounds memory.
            refused: Cache::builder()
                .max_capacity(settings.max_entries)
                .weigher(|_, refusals: &Arc<[Refusal]>| u32::try_from(refusals.len()).unwrap_or(u32::MAX))
                .time_to_live(settings.ttl)
                .build_with_hasher(DigestState::default()),
            ttl: settings.ttl,
            providers: RwLock::default(),
        }
    }

    /// Why the token is refused, where that is known.
    pub fn find(&self, policy: Fingerprint, token: TokenDigest, now: Timestamp) -> Option<Reason> {
        let refusals = self.refused.get(&token)?;
        refusals.iter().find(|one| one.policy == policy && one.stands(now)).map(|one| one.reason)
    }

    /// To be taken before the token is judged: `providers` are those whose word, or whose keys, decide.
    pub fn basis<'a>(&self, providers: impl IntoIterator<Item = &'a str>) -> Basis {
        let keys = |name: &str| {
            let changes = self.changes(name);
            Keys { seen: changes.load(Ordering::SeqCst), changes }
        };
        Basis(providers.into_iter().map(keys).collect())
    }

    /// `until`: the time at which the reason itself ends (a token that is not valid yet); at the latest the refusal is
    /// forgotten after the cache's own time.
    pub fn keep(
        &self,
        policy: Fingerprint,
        token: TokenDigest,
        reason: Reason,
        until: Option<Timestamp>,
        basis: Basis,
        now: Timestamp,
    ) {
        let until = now.plus(self.ttl).min(until.unwrap_or(Timestamp::FAR));
        let refusal = Refusal { policy, reason, until, keys: basis.0 };
        if !refusal.stands(now) {
            return;
        }
        self.refused.entry(token).and_upsert_with(|held| {
            // What is over goes, so that there are no more than policies in use.
            let others = held.map(|held| held.into_value());
            let others = others.iter().flat_map(|all| all.iter()).filter(|one| one.policy != policy && one.stands(now));
            others.cloned().chain([refusal]).collect()
        });
    }

    /// The provider's keys changed: what it refused may be good now.
    pub fn forget_provider(&self, name: &str) {
        self.changes(name).fetch_add(1, Ordering::SeqCst);
    }

    pub fn len(&self) -> u64 {
        self.refused.run_pending_tasks(); // the count lags behind without it
        self.refused.weighted_size()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn changes(&self, provider: &str) -> Arc<AtomicU64> {
        if let Some(known) = self.providers.read().get(provider) {
            return known.clone();
        }
        self.providers.write().entry(provider.into()).or_default().clone()
    }
}

impl Refusal {
    fn stands(&self, now: Timestamp) -> bool {
        now < self.until && self.keys.iter().all(|keys| keys.changes.load(Ordering::SeqCst) == keys.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            cache: UnknownTokens::new(&Settings { enabled: true, max_entries, ttl: TTL }),
            one: policy("one"),
            two: policy("two"),
            now: Timestamp::from_seconds(1000),
        }
    }

    fn token(text: &str) -> TokenDigest {
        TokenDigest::of(text.as_bytes())
    }

    impl World {
        fn keep(&self, policy: Fingerprint, text: &str, reason: Reason, providers: &[&str]) {
            let basis = self.cache.basis(providers.iter().copied());
            self.cache.keep(policy, token(text), reason, None, basis, self.now);
        }

        fn find(&self, policy: Fingerprint, text: &str) -> Option<Reason> {
            self.cache.find(policy, token(text), self.now)
        }
    }

    #[test]
    fn a_refusal_keeps_its_word_under_its_policy() {
        let w = world(100);
        assert_eq!(w.find(w.one, "a"), None);
        w.keep(w.one, "a", Reason::WrongAudience, &["corp"]);
        assert_eq!((w.find(w.one, "a"), w.find(w.two, "a")), (Some(Reason::WrongAudience), None));
        w.keep(w.two, "a", Reason::InvalidToken, &["corp"]);
        w.keep(w.one, "a", Reason::TokenExpired, &["corp"]);
        assert_eq!(w.find(w.one, "a"), Some(Reason::TokenExpired), "the newer word counts");
        assert_eq!(w.find(w.two, "a"), Some(Reason::InvalidToken));
        assert_eq!(w.find(w.one, "b"), None);
        assert_eq!(w.cache.len(), 2, "one for each policy");
    }

    #[test]
    fn it_ends_by_our_clock() {
        let mut w = world(100);
        w.keep(w.one, "a", Reason::UnknownToken, &[]);
        w.now = w.now.plus(TTL - Duration::from_millis(1));
        assert_eq!(w.find(w.one, "a"), Some(Reason::UnknownToken));
        w.now = w.now.plus(Duration::from_millis(1));
        assert_eq!(w.find(w.one, "a"), None);
        w.keep(w.two, "a", Reason::UnknownToken, &[]);
        assert_eq!(w.cache.len(), 1, "what is over does not stay beside what is not");
    }

    #[test]
    fn what_is_refused_for_its_time_is_refused_for_that_time() {
        let mut w = world(100);
        for (text, valid_in, expected) in [("soon", 3, 3), ("late", 300, 10), ("now", 0, 0), ("past", -5, 0)] {
            let valid = Timestamp::from_seconds(w.now.seconds() + valid_in);
            w.cache.keep(w.one, token(text), Reason::InvalidToken, Some(valid), w.cache.basis([]), w.now);
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
    fn a_change_of_keys_forgets_what_rests_on_them() {
        let w = world(100);
        w.keep(w.one, "a", Reason::InvalidToken, &["corp"]);
        w.keep(w.one, "b", Reason::InvalidToken, &["other"]);
        w.keep(w.two, "a", Reason::InvalidToken, &["other", "corp"]);
        w.keep(w.two, "b", Reason::UnknownToken, &[]);
        w.cache.forget_provider("corp");
        assert_eq!([w.find(w.one, "a"), w.find(w.two, "a")], [None; 2]);
        assert_eq!(w.find(w.one, "b"), Some(Reason::InvalidToken));
        assert_eq!(w.find(w.two, "b"), Some(Reason::UnknownToken));
        w.keep(w.one, "a", Reason::InvalidToken, &["corp"]);
        assert_eq!(w.find(w.one, "a"), Some(Reason::InvalidToken), "refused by the new keys too");
        w.cache.forget_provider("never heard of");
    }

    #[test]
    fn what_was_judged_by_the_state_of_before_is_not_kept() {
        let w = world(100);
        let basis = w.cache.basis(["corp"]);
        w.cache.forget_provider("corp");
        w.cache.keep(w.one, token("a"), Reason::UnknownToken, None, basis, w.now);
        assert_eq!(w.find(w.one, "a"), None);
        let basis = w.cache.basis(["corp"]);
        w.cache.forget_provider("other");
        w.cache.keep(w.one, token("a"), Reason::UnknownToken, None, basis, w.now);
        assert_eq!(w.find(w.one, "a"), Some(Reason::UnknownToken), "another's keys are no concern of it");
    }

    #[test]
    fn many_at_once_lose_no_policy() {
        let w = world(10_000);
        let policies: Vec<_> = (0..8_u8).map(|i| Fingerprint::of().part([i]).finish()).collect();
        std::thread::scope(|scope| {
            for policy in &policies {
                scope.spawn(|| (0..200).for_each(|i| w.keep(*policy, &i.to_string(), Reason::UnknownToken, &["corp"])));
            }
        });
        let kept = |i: u32| policies.iter().all(|policy| w.find(*policy, &i.to_string()).is_some());
        assert!((0..200).all(kept));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let w = world(100);
        for i in 0..1000 {
            w.keep(w.one, &i.to_string(), Reason::UnknownToken, &["corp"]);
            w.keep(w.two, &i.to_string(), Reason::UnknownToken, &["corp"]);
        }
        assert!(w.cache.len() <= 100);
    }
}
