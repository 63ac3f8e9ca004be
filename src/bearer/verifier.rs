//! Judges bearer tokens (RFC 6750) under a policy: the providers whose tokens a route accepts.

use crate::bearer::verified::VerifiedTokens;
use crate::kit::clock::Clock;
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::provider::identity::Identity;
use crate::provider::jwt::{Refusal, Shape, Unverified, shape};
use crate::provider::keys::KeySet;
use crate::provider::verdict::{Cause, Verdict};
use crate::provider::{NotVerified, Provider, verify_with};
use crate::watch::metrics::{CacheMetrics, ProviderMetrics};
use crate::watch::reason::Reason;
use std::sync::Arc;

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
}

pub struct Verifier {
    clock: Arc<dyn Clock>,
    verified: Option<(Arc<VerifiedTokens>, CacheMetrics)>,
}

impl Policy {
    pub fn new(issuers: Vec<Issuer>) -> Self {
        let fingerprints: Vec<String> =
            issuers.iter().map(|issuer| format!("{:?}", issuer.provider.settings().fingerprint())).collect();
        Policy { id: Fingerprint::of().parts(fingerprints).finish(), issuers }
    }
}

impl Verifier {
    /// Without a cache nothing is looked up, and every token is verified each time.
    pub fn new(clock: Arc<dyn Clock>, verified: Option<(Arc<VerifiedTokens>, CacheMetrics)>) -> Self {
        Verifier { clock, verified }
    }

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

    /// Judges a token that is not recalled, and remembers a good one.
    pub async fn verify(&self, policy: &Policy, token: &str, digest: TokenDigest) -> Verdict {
        match shape(token) {
            Shape::Jwt => self.verify_jwt(policy, token, digest).await,
            Shape::Opaque => Verdict::Rejected(Reason::UnknownToken),
        }
    }

    async fn verify_jwt(&self, policy: &Policy, token: &str, digest: TokenDigest) -> Verdict {
        let mut first_refusal = None;
        // Usually one; where two providers share an issuer, each has its own audiences.
        for issuer in policy.of_token(token) {
            let verdict = self.verify_with(policy, issuer, token, digest).await;
            issuer.metrics.verified(match &verdict {
                Verdict::Valid(_) => "ok",
                Verdict::Rejected(reason) => reason.word(),
                Verdict::Unavailable(cause) => cause.reason().word(),
            });
            match verdict {
                Verdict::Rejected(reason) => first_refusal = first_refusal.or(Some(reason)),
                decided => return decided,
            }
        }
        Verdict::Rejected(first_refusal.unwrap_or(Reason::InvalidToken))
    }

    async fn verify_with(&self, policy: &Policy, issuer: &Issuer, token: &str, digest: TokenDigest) -> Verdict {
        let now = self.clock.now();
        let settings = issuer.provider.settings();
        let read = |keys: &KeySet| Unverified::read(token)?.verify_bearer(keys, settings, now);
        let verified = match verify_with(issuer.provider.as_ref(), read).await {
            Ok(verified) => verified,
            Err(NotVerified::Refused(refusal)) => return rejected(refusal),
            Err(NotVerified::Unavailable) => return Verdict::Unavailable(Cause::Provider),
        };
        let Ok(identity) = Identity::of_token(&verified, settings) else {
            return Verdict::Rejected(Reason::InvalidToken);
        };
        let identity = Arc::new(identity);
        if let Some((cache, _)) = &self.verified {
            let expires = verified.expires().plus(settings.clock_skew);
            cache.keep(policy.id, digest, identity.clone(), verified.standing().clone(), expires, now);
        }
        Verdict::Valid(identity)
    }
}

impl Policy {
    /// The providers whose issuer the token names; reading that proves nothing.
    fn of_token(&self, token: &str) -> impl Iterator<Item = &Issuer> {
        let claimed = Unverified::read(token).ok().and_then(|token| token.issuer().map(str::to_owned));
        self.issuers.iter().filter(move |issuer| Some(&issuer.provider.settings().issuer) == claimed.as_ref())
    }
}

fn rejected(refusal: Refusal) -> Verdict {
    Verdict::Rejected(match refusal {
        Refusal::Expired => Reason::TokenExpired,
        Refusal::WrongAudience => Reason::WrongAudience,
        Refusal::Invalid | Refusal::NotYet(_) | Refusal::UnknownKey => Reason::InvalidToken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bearer::verified;
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
    }

    fn world() -> World {
        let (clock, metrics) = (Arc::new(SetClock::at(NOW)), Metrics::default());
        let provider = FakeProvider::new(settings("https://id.test"));
        let ttl = Duration::from_secs(3600);
        let cache = VerifiedTokens::new(&verified::Settings { enabled: true, max_entries: 100, ttl });
        World {
            verifier: Verifier::new(clock.clone(), Some((Arc::new(cache), metrics.cache(Cache::verified_tokens)))),
            policy: policy(std::slice::from_ref(&provider)),
            clock,
            provider,
        }
    }

    fn policy(providers: &[Arc<FakeProvider>]) -> Policy {
        let metrics = Metrics::default();
        let issuer = |p: &Arc<FakeProvider>| Issuer { provider: p.clone(), metrics: metrics.provider("corp") };
        Policy::new(providers.iter().map(issuer).collect())
    }

    impl World {
        /// The user, or the word of the refusal; a `+` before it where the cache knew.
        async fn ask(&self, policy: &Policy, token: &str) -> String {
            let digest = TokenDigest::of(token.as_bytes());
            if let Some(identity) = self.verifier.recall(policy, digest) {
                return format!("+{}", identity.user);
            }
            match self.verifier.verify(policy, token, digest).await {
                Verdict::Valid(identity) => identity.user.to_string(),
                Verdict::Rejected(reason) => reason.word().into(),
                Verdict::Unavailable(cause) => cause.reason().word().into(),
            }
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
}
