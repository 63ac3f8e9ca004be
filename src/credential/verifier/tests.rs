use super::*;
use crate::caller::rate_limit::{self, Limiter};
use crate::credential::policy::{Issuer, Policy};
use crate::credential::{introspection, unknown, verified};
use crate::kit::clock::test::SetClock;
use crate::kit::setting::{Count, Wait};
use crate::provider::Fetched;
use crate::provider::fake::{FakeProvider, NOW, key_set, settings, token, token_as};
use crate::telemetry::metrics::{Cache, Metrics};
use futures_util::FutureExt;
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
    limit: rate_limit::Settings,
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
    let cache = VerifiedTokens::new(&verified::Settings { enabled: true, max_entries: 100, ttl: ttl.into() });
    let kept = introspection::Settings { enabled: true, max_entries: 100, ttl: Wait::seconds(30) };
    let kept = Introspections::new(&kept, clock.clone(), metrics.cache(Cache::introspection));
    let unknown = refused_live
        .map(|ttl| UnknownTokens::new(&unknown::Settings { enabled: true, max_entries: 100, ttl: ttl.into() }));
    World {
        verifier: Verifier {
            clock: clock.clone(),
            verified: Some((Arc::new(cache), metrics.cache(Cache::verified_tokens))),
            unknown: unknown.map(|cache| (Arc::new(cache), metrics.cache(Cache::unknown_tokens))),
            introspections: Arc::new(kept),
        },
        policy: policy(std::slice::from_ref(&provider)),
        limiter: Limiter::new(),
        limit: rate_limit::Settings { enabled: false, requests: Count::of(2), ..rate_limit::Settings::default() },
        clock,
        provider,
    }
}

fn policy(providers: &[Arc<FakeProvider>]) -> Policy {
    let metrics = Metrics::default();
    let issuer = |p: &Arc<FakeProvider>| Issuer::new(p.clone(), metrics.provider("corp"), &[]);
    Policy::new(providers.iter().map(issuer).collect())
}

impl World {
    /// The user, or the reason of the refusal; prefixed with `+` on a cache hit.
    async fn ask(&self, policy: &Policy, token: &str) -> String {
        let digest = TokenDigest::of(token.as_bytes());
        if let Some(identity) = self.verifier.recall(policy, digest) {
            return format!("+{}", identity.user);
        }
        let client = [192, 0, 2, 1].into();
        let account = Account { limiter: &self.limiter, limit: &self.limit, client };
        match self.verifier.verify(policy, token, digest, &account).await {
            Verdict::Valid(identity) => identity.user.to_string(),
            Verdict::Rejected(rejection) => rejection.reason.word().into(),
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
async fn a_kept_token_takes_less_than_a_kibibyte() {
    const TOKENS: u64 = 5_000;
    let mut w = world();
    let (cache, metrics) = w.verifier.verified.take().unwrap();
    drop(cache);
    let settings = verified::Settings { enabled: true, max_entries: TOKENS, ttl: Wait::seconds(3600) };
    let cache = Arc::new(VerifiedTokens::new(&settings));
    w.verifier.verified = Some((cache.clone(), metrics));
    let (token, account) =
        (token(json!({})), Account { limiter: &w.limiter, limit: &w.limit, client: [192, 0, 2, 1].into() });
    let counted = allocation_counter::measure(|| {
        for i in 0..TOKENS {
            // The digest decides where it is kept: one token under many names takes what many tokens take.
            let digest = TokenDigest::of(&i.to_le_bytes());
            drop(w.verifier.verify(&w.policy, &token, digest, &account).now_or_never().unwrap());
        }
    });
    let each = counted.bytes_current / i64::try_from(cache.len()).unwrap();
    assert!(cache.len() > TOKENS / 2 && each < 1024, "{} tokens, {each} bytes each", cache.len());
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
    other.audiences = crate::provider::settings::Audiences::OneOf(vec!["other".into()]);
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
    w.check(&new, "invalid_token").await; // the window for a fetch is closed
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
    w.check("opaque", "unknown_token").await; // and the token itself has expired
    *w.provider.introspected.lock() = Err(crate::provider::GrantError::Unavailable);
    w.check("other", "provider_unavailable").await;
}

#[tokio::test]
async fn many_ask_about_one_token_and_the_provider_is_asked_once() {
    let mut w = world_with(true, None);
    w.limit.enabled = true; // two refusals; a request that only waits is not charged
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
    w.check("a", "unknown_token").await; // cached, and still counted
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
