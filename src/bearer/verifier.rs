//! Judges bearer tokens (RFC 6750) under a policy: the providers whose tokens a route accepts.

use crate::bearer::introspections::{Answer, Introspections};
use crate::bearer::unknown::UnknownTokens;
use crate::bearer::verified::VerifiedTokens;
use crate::client::limiter::{Account, Reservation};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::provider::identity::Identity;
use crate::provider::introspection::Wrong;
use crate::provider::jwt::{Refusal, Shape, Unverified, shape};
use crate::provider::keys::KeySet;
use crate::provider::verdict::{Cause, Verdict};
use crate::provider::{NotVerified, Provider, verify_at_hand, verify_with_fetched};
use crate::watch::metrics::{CacheMetrics, ProviderMetrics};
use crate::watch::reason::Reason;
use std::sync::Arc;
use std::time::Duration;

/// Whose tokens count. Its id is part of every cache key.
#[derive(Clone)]
pub struct Policy {
    id: Fingerprint,
    issuers: Vec<Issuer>,
}

/// A provider and its handles.
#[derive(Clone)]
pub struct Issuer {
    pub provider: Arc<dyn Provider>,
    pub metrics: ProviderMetrics,
    id: Fingerprint,
}

pub struct Verifier {
    pub clock: Arc<dyn Clock>,
    /// Without a cache nothing is looked up, and every token is verified each time.
    pub verified: Option<(Arc<VerifiedTokens>, CacheMetrics)>,
    /// The same for refused ones.
    pub unknown: Option<(Arc<UnknownTokens>, CacheMetrics)>,
    pub introspections: Arc<Introspections>,
}

/// What a judgement came to, and what is to be made of it.
enum Judged {
    Valid(Arc<Identity>),
    Refused(Refused),
    Unavailable,
    Limited(Duration),
}

struct Refused {
    reason: Reason,
    memory: Memory,
    /// Taken before somebody else was asked: the refusal is counted already.
    paid: Option<Reservation>,
}

/// Whether a refusal may be remembered.
#[derive(Clone, Copy)]
enum Memory {
    /// As long as the cache keeps it.
    Usual,
    Until(Timestamp),
    /// It rests on what is not known yet.
    Never,
}

impl Policy {
    pub fn new(issuers: Vec<Issuer>) -> Self {
        let ids: Vec<String> = issuers.iter().map(|issuer| format!("{:?}", issuer.id)).collect();
        Policy { id: Fingerprint::of().parts(ids).finish(), issuers }
    }

    /// The providers whose issuer the token names; reading that proves nothing.
    fn of_token(&self, token: &str) -> impl Iterator<Item = &Issuer> {
        let claimed = Unverified::read(token).ok().and_then(|token| token.issuer().map(str::to_owned));
        self.issuers.iter().filter(move |issuer| Some(&issuer.provider.settings().issuer) == claimed.as_ref())
    }

    fn introspecting(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter().filter(|issuer| issuer.provider.settings().introspection)
    }
}

impl Issuer {
    pub fn new(provider: Arc<dyn Provider>, metrics: ProviderMetrics) -> Self {
        let id = provider.settings().fingerprint();
        Issuer { provider, metrics, id }
    }

    /// Of its settings.
    pub fn fingerprint(&self) -> Fingerprint {
        self.id
    }
}

impl Verifier {
    /// What is already known of these bytes; nothing of them is parsed.
    pub fn recall(&self, policy: &Policy, digest: TokenDigest) -> Option<Arc<Identity>> {
        let (cache, metrics) = self.verified.as_ref()?;
        let found = cache.find(policy.id, digest, self.clock.now());
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        found
    }

    /// Judges a token that is not recalled, and remembers what comes of it. A refusal is counted to the client's account;
    /// above its limit nobody else is asked on its behalf.
    pub async fn verify(&self, policy: &Policy, token: &str, digest: TokenDigest, account: &Account<'_>) -> Verdict {
        if let Some(reason) = self.refused_before(policy, digest) {
            return charged(reason, account);
        }
        let names = policy.issuers.iter().map(|issuer| &*issuer.provider.settings().name);
        let basis = self.unknown.as_ref().map(|(cache, _)| cache.basis(names));
        let judged = match shape(token) {
            Shape::Jwt => self.verify_jwt(policy, token, digest, account).await,
            Shape::Opaque => self.introspect(policy, token, digest, account).await,
        };
        let refused = match judged {
            Judged::Valid(identity) => return Verdict::Valid(identity),
            Judged::Unavailable => return Verdict::Unavailable(Cause::Provider),
            Judged::Limited(wait) => return Verdict::Limited(wait),
            Judged::Refused(refused) => refused,
        };
        let until = match refused.memory {
            Memory::Usual => Some(None),
            Memory::Until(end) => Some(Some(end)),
            Memory::Never => None,
        };
        if let (Some((cache, _)), Some(basis), Some(until)) = (&self.unknown, basis, until) {
            cache.keep(policy.id, digest, refused.reason, until, basis, self.clock.now());
        }
        match refused.paid {
            Some(_) => Verdict::Rejected(refused.reason),
            None => charged(refused.reason, account),
        }
    }

    fn refused_before(&self, policy: &Policy, digest: TokenDigest) -> Option<Reason> {
        let (cache, metrics) = self.unknown.as_ref()?;
        let found = cache.find(policy.id, digest, self.clock.now());
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        found
    }

    async fn verify_jwt(&self, policy: &Policy, token: &str, digest: TokenDigest, account: &Account<'_>) -> Judged {
        let mut first = None;
        // Usually one; where two providers share an issuer, each has its own audiences.
        for issuer in policy.of_token(token) {
            let judged = self.verify_with(policy, issuer, token, digest, account).await;
            issuer.metrics.verified(judged.word());
            match judged {
                Judged::Refused(refused) => first = Some(refused.after(first)),
                decided => return decided,
            }
        }
        Judged::Refused(first.unwrap_or(Refused::of(Refusal::Invalid)))
    }

    async fn verify_with(
        &self,
        policy: &Policy,
        issuer: &Issuer,
        token: &str,
        digest: TokenDigest,
        account: &Account<'_>,
    ) -> Judged {
        let now = self.clock.now();
        let (provider, settings) = (issuer.provider.as_ref(), issuer.provider.settings());
        let read = |keys: &KeySet| Unverified::read(token)?.verify_bearer(keys, settings, now);
        let verified = match verify_at_hand(provider, read) {
            Some(decided) => decided,
            // Not reserved: all who wait share one fetch, and there is one in half a minute.
            None => match account.look() {
                Ok(()) => verify_with_fetched(provider, read).await,
                Err(wait) => return Judged::Limited(wait),
            },
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(NotVerified::Refused(refusal)) => return Judged::Refused(Refused::of(refusal)),
            Err(NotVerified::Unavailable) => return Judged::Unavailable,
        };
        let Ok(identity) = Identity::of_token(&verified, settings) else {
            return Judged::Refused(Refused::of(Refusal::Invalid));
        };
        let identity = Arc::new(identity);
        if let Some((cache, _)) = &self.verified {
            let expires = verified.expires().plus(settings.clock_skew);
            cache.keep(policy.id, digest, identity.clone(), verified.standing().clone(), expires, now);
        }
        Judged::Valid(identity)
    }

    /// Asks each provider that may be asked, until one vouches for the token.
    async fn introspect(&self, policy: &Policy, token: &str, digest: TokenDigest, account: &Account<'_>) -> Judged {
        // All that is known comes before the first question: a good token of one provider is no reason to ask another.
        if let Some(kept) = policy.introspecting().find_map(|issuer| self.introspections.find(issuer, digest)) {
            return Judged::Valid(kept.identity);
        }
        let mut paid: Option<Reservation> = None;
        let (mut first, mut is_away) = (None, false);
        for issuer in policy.introspecting() {
            let reserve = || {
                if paid.is_none() {
                    paid = Some(account.reserve()?);
                }
                Ok(())
            };
            let answer = self.introspections.ask(issuer, token, digest, reserve).await;
            issuer.metrics.verified(answer.word());
            match answer {
                Answer::Active(introspected) => {
                    account.give_back(paid);
                    return Judged::Valid(introspected.identity);
                }
                Answer::Wrong(wrong) => first = first.or(Some(wrong)),
                Answer::Unavailable => is_away = true,
                Answer::Withheld(wait) => return Judged::Limited(wait),
            }
        }
        if is_away {
            account.give_back(paid);
            return Judged::Unavailable;
        }
        let refused = match first {
            Some(Wrong::Refused(refusal)) => Refused::of(refusal),
            Some(Wrong::Inactive) | None => Refused { reason: Reason::UnknownToken, memory: Memory::Usual, paid: None },
        };
        Judged::Refused(Refused { paid, ..refused })
    }
}

impl Judged {
    fn word(&self) -> &'static str {
        match self {
            Judged::Valid(_) => "ok",
            Judged::Refused(refused) => refused.reason.word(),
            Judged::Unavailable => Reason::ProviderUnavailable.word(),
            Judged::Limited(_) => Reason::RateLimited.word(),
        }
    }
}

impl Answer {
    fn word(&self) -> &'static str {
        match self {
            Answer::Active(_) => "ok",
            Answer::Wrong(Wrong::Inactive) => Reason::UnknownToken.word(),
            Answer::Wrong(Wrong::Refused(refusal)) => Refused::of(*refusal).reason.word(),
            Answer::Unavailable => Reason::ProviderUnavailable.word(),
            Answer::Withheld(_) => Reason::RateLimited.word(),
        }
    }
}

impl Refused {
    fn of(refusal: Refusal) -> Self {
        let (reason, memory) = match refusal {
            Refusal::Expired => (Reason::TokenExpired, Memory::Usual),
            Refusal::WrongAudience => (Reason::WrongAudience, Memory::Usual),
            Refusal::Invalid => (Reason::InvalidToken, Memory::Usual),
            Refusal::NotYet(from) => (Reason::InvalidToken, Memory::Until(from)),
            // The provider may have the key by now, and may not be asked again so soon.
            Refusal::UnknownKey => (Reason::InvalidToken, Memory::Never),
        };
        Refused { reason, memory, paid: None }
    }

    /// Of several refusals the first one is told; what none may remember is not remembered.
    fn after(self, first: Option<Refused>) -> Self {
        match first {
            Some(first) if matches!(self.memory, Memory::Never) => Refused { memory: Memory::Never, ..first },
            Some(first) => first,
            None => self,
        }
    }
}

/// A refusal by what is at hand.
fn charged(reason: Reason, account: &Account<'_>) -> Verdict {
    match account.charge() {
        Ok(()) => Verdict::Rejected(reason),
        Err(wait) => Verdict::Limited(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bearer::{introspections, unknown, verified};
    use crate::client::limiter::{self, Limiter};
    use crate::kit::clock::test::SetClock;
    use crate::provider::Fetched;
    use crate::provider::fake::{FakeProvider, NOW, key_set, settings, token, token_as};
    use crate::watch::metrics::{Cache, Metrics};
    use jsonwebtoken::Algorithm;
    use serde_json::json;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    struct World {
        clock: Arc<SetClock>,
        provider: Arc<FakeProvider>,
        verifier: Verifier,
        policy: Policy,
        limiter: Limiter,
        limit: limiter::Settings,
    }

    fn world() -> World {
        world_with(false, None)
    }

    /// `refused_live`: how long refused tokens are remembered.
    fn world_with(introspection: bool, refused_live: Option<Duration>) -> World {
        let (clock, metrics) = (Arc::new(SetClock::at(NOW)), Metrics::default());
        let mut settings = settings("https://id.test");
        settings.introspection = introspection;
        let provider = FakeProvider::new(settings);
        let ttl = Duration::from_secs(3600);
        let cache = VerifiedTokens::new(&verified::Settings { enabled: true, max_entries: 100, ttl });
        let kept = introspections::Settings { enabled: true, max_entries: 100, ttl: Duration::from_secs(30) };
        let kept = Introspections::new(&kept, clock.clone(), metrics.cache(Cache::introspection));
        let unknown =
            refused_live.map(|ttl| UnknownTokens::new(&unknown::Settings { enabled: true, max_entries: 100, ttl }));
        World {
            verifier: Verifier {
                clock: clock.clone(),
                verified: Some((Arc::new(cache), metrics.cache(Cache::verified_tokens))),
                unknown: unknown.map(|cache| (Arc::new(cache), metrics.cache(Cache::unknown_tokens))),
                introspections: Arc::new(kept),
            },
            policy: policy(std::slice::from_ref(&provider)),
            limiter: Limiter::new(),
            limit: limiter::Settings { enabled: false, requests: 2, per: Duration::from_secs(60), ipv6_prefix: 64 },
            clock,
            provider,
        }
    }

    fn policy(providers: &[Arc<FakeProvider>]) -> Policy {
        let metrics = Metrics::default();
        let issuer = |p: &Arc<FakeProvider>| Issuer::new(p.clone(), metrics.provider("corp"));
        Policy::new(providers.iter().map(issuer).collect())
    }

    impl World {
        /// The user, or the word of the refusal; a `+` before it where the cache knew.
        async fn ask(&self, policy: &Policy, token: &str) -> String {
            let digest = TokenDigest::of(token.as_bytes());
            if let Some(identity) = self.verifier.recall(policy, digest) {
                return format!("+{}", identity.user);
            }
            let client = [192, 0, 2, 1].into();
            let account = Account { limiter: &self.limiter, limit: &self.limit, client };
            match self.verifier.verify(policy, token, digest, &account).await {
                Verdict::Valid(identity) => identity.user.to_string(),
                Verdict::Rejected(reason) => reason.word().into(),
                Verdict::Unavailable(cause) => cause.reason().word().into(),
                Verdict::Limited(wait) => format!("wait {}", wait.as_secs()),
            }
        }

        fn introspected(&self, claims: serde_json::Value) {
            *self.provider.introspected.lock() = Ok(claims.as_object().unwrap().clone());
        }

        fn asked(&self) -> usize {
            self.provider.asked.lock().len()
        }

        async fn check(&self, token: &str, expected: &str) {
            assert_eq!(self.ask(&self.policy, token).await, expected);
        }
    }

    #[tokio::test]
    async fn a_good_token_is_verified_once_and_dies_with_its_exp() {
        let w = world();
        let token = token(json!({}));
        w.check(&token, "alice-1").await;
        w.check(&token, "+alice-1").await;
        w.clock.advance(Duration::from_secs(359)); // exp in 300 s, the skew is 60 s
        w.check(&token, "+alice-1").await;
        w.clock.advance(Duration::from_secs(1));
        w.check(&token, "token_expired").await;
        assert_eq!(w.provider.key_fetches.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_refusal_is_never_kept_as_good() {
        let w = world();
        for (bad, word) in [
            (token(json!({"exp": 1})), "token_expired"),
            (token(json!({"aud": "x"})), "wrong_audience"),
            (token(json!({"iss": "https://other.test"})), "invalid_token"),
            ("opaque".to_string(), "unknown_token"),
        ] {
            w.check(&bad, word).await;
            w.check(&bad, word).await;
        }
    }

    #[tokio::test]
    async fn a_token_is_judged_anew_under_another_policy() {
        let w = world();
        let mut other = settings("https://id.test");
        other.audiences = crate::provider::Audiences::OneOf(vec!["other".into()]);
        let narrow = policy(&[FakeProvider::new(other.clone())]);
        let token = token(json!({}));
        w.check(&token, "alice-1").await;
        assert_eq!(w.ask(&narrow, &token).await, "wrong_audience");
        let both = policy(&[FakeProvider::new(other), w.provider.clone()]);
        assert_eq!(w.ask(&both, &token).await, "alice-1", "one of two providers of this issuer takes it");
        w.check(&token, "+alice-1").await;
    }

    #[tokio::test]
    async fn an_unknown_key_is_fetched_and_a_vanished_one_verifies_nothing() {
        let w = world();
        let old = token(json!({}));
        w.check(&old, "alice-1").await;
        let new = token_as(Algorithm::RS256, json!({"kid": "rs-2"}), json!({}));
        w.check(&new, "invalid_token").await; // the window is closed
        w.provider.on_fetch(Fetched::Unavailable);
        w.check(&new, "provider_unavailable").await;
        w.provider.on_fetch(Fetched::Keys(Arc::new(key_set(&["rs-2"], None))));
        w.check(&new, "alice-1").await;
        assert_eq!(w.provider.key_fetches.load(Ordering::SeqCst), 3);
        w.provider.on_fetch(Fetched::Closed);
        w.provider.rotate_to(&["es"]);
        w.check(&new, "invalid_token").await;
    }

    #[tokio::test]
    async fn without_keys_nothing_is_decided() {
        let w = world();
        w.provider.forget_keys(Fetched::Unavailable);
        w.check(&token(json!({})), "provider_unavailable").await;
        w.provider.on_fetch(Fetched::Keys(Arc::new(key_set(&["rs"], None))));
        w.check(&token(json!({})), "alice-1").await;
    }

    #[tokio::test]
    async fn nobody_without_the_mapped_user() {
        let w = world();
        let mut named = settings("https://id.test");
        named.claims.user = crate::provider::claims::ClaimPath::new("preferred_username");
        let policy = policy(&[FakeProvider::new(named)]);
        assert_eq!(w.ask(&policy, &token(json!({}))).await, "alice");
        assert_eq!(w.ask(&policy, &token(json!({"preferred_username": null}))).await, "invalid_token");
    }

    #[tokio::test]
    async fn an_opaque_token_is_asked_about_once_while_its_answer_lives() {
        let w = world_with(true, None);
        w.introspected(json!({"active": true, "sub": "alice-1", "aud": "doorward", "exp": NOW + 40}));
        for _ in 0..3 {
            w.check("opaque", "alice-1").await;
        }
        assert_eq!(w.asked(), 1);
        w.clock.advance(Duration::from_secs(30));
        w.check("opaque", "alice-1").await;
        assert_eq!(w.asked(), 2, "the ttl is over");
        w.clock.advance(Duration::from_secs(10));
        w.introspected(json!({"active": false}));
        w.check("opaque", "unknown_token").await; // and so is the token's own time
        *w.provider.introspected.lock() = Err(crate::provider::GrantError::Unavailable);
        w.check("other", "provider_unavailable").await;
    }

    #[tokio::test]
    async fn many_ask_about_one_token_and_the_provider_is_asked_once() {
        let mut w = world_with(true, None);
        w.limit.enabled = true; // two refusals; who only waits pays nothing
        w.introspected(json!({"active": true, "sub": "alice-1", "aud": "doorward"}));
        let held = w.provider.gate.acquire_many(1000).await.unwrap();
        let asking = futures_util::future::join_all((0..20).map(|_| w.ask(&w.policy, "opaque")));
        let open = async {
            while w.asked() == 0 {
                tokio::task::yield_now().await;
            }
            drop(held);
        };
        let (answers, ()) = tokio::join!(asking, open);
        assert!(answers.iter().all(|answer| answer == "alice-1"), "{answers:?}");
        assert_eq!(w.asked(), 1);
    }

    #[tokio::test]
    async fn above_the_limit_nobody_is_asked_and_a_good_jwt_passes() {
        let mut w = world_with(true, Some(Duration::from_secs(10)));
        w.limit.enabled = true;
        w.introspected(json!({"active": false}));
        w.check("a", "unknown_token").await;
        w.check("a", "unknown_token").await; // remembered, and counted
        assert_eq!(w.asked(), 1);
        w.check("a", "wait 30").await;
        w.check("b", "wait 30").await;
        assert_eq!(w.asked(), 1, "what is withheld is remote work");
        w.check(&token(json!({"exp": 1})), "wait 30").await;
        w.check(&token_as(Algorithm::RS256, json!({"kid": "rs-2"}), json!({})), "wait 30").await;
        assert_eq!(w.provider.key_fetches.load(Ordering::SeqCst), 0);
        w.check(&token(json!({})), "alice-1").await;
    }

    #[tokio::test]
    async fn a_good_opaque_token_costs_nothing() {
        let mut w = world_with(true, None);
        w.limit.enabled = true;
        w.introspected(json!({"active": true, "sub": "alice-1", "aud": "doorward"}));
        for token in ["a", "b", "c", "d"] {
            w.check(token, "alice-1").await;
        }
        *w.provider.introspected.lock() = Err(crate::provider::GrantError::Unavailable);
        for token in ["e", "f", "g"] {
            w.check(token, "provider_unavailable").await;
        }
    }

    #[tokio::test]
    async fn what_may_become_valid_is_not_remembered_beyond_that() {
        let w = world_with(false, Some(Duration::from_secs(600)));
        let soon = token(json!({"nbf": NOW + 70})); // the skew is 60 s
        w.check(&soon, "invalid_token").await;
        w.clock.advance(Duration::from_secs(10));
        w.check(&soon, "alice-1").await;
        let new = token_as(Algorithm::RS256, json!({"kid": "rs-2"}), json!({}));
        w.check(&new, "invalid_token").await; // the window for a fetch is closed
        w.provider.on_fetch(Fetched::Keys(Arc::new(key_set(&["rs-2"], None))));
        w.check(&new, "alice-1").await;
    }
}
