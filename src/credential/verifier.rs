//! Verifies bearer tokens (RFC 6750) under a policy: the providers whose tokens a route accepts.

use crate::caller::rate_limit::{Account, Reservation};
use crate::credential::introspection::{Answer, Introspections};
use crate::credential::policy::{Issuer, Policy};
use crate::credential::unknown::UnknownTokens;
use crate::credential::verified::VerifiedTokens;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::TokenDigest;
use crate::provider::identity::Identity;
use crate::provider::introspection::Wrong;
use crate::provider::jwt::{Refusal, Shape, Unverified, shape};
use crate::provider::keys::KeySet;
use crate::provider::verdict::{Cause, Rejection, Verdict};
use crate::provider::{NotVerified, verify_at_hand, verify_with_fetched};
use crate::telemetry::metrics::CacheMetrics;
use crate::telemetry::reason::Reason;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub struct Verifier {
    pub clock: Arc<dyn Clock>,
    /// None: every token is verified each time.
    pub verified: Option<(Arc<VerifiedTokens>, CacheMetrics)>,
    /// The cache of refused tokens.
    pub unknown: Option<(Arc<UnknownTokens>, CacheMetrics)>,
    pub introspections: Arc<Introspections>,
}

/// The result of verifying a token.
enum Judgement {
    Valid(Arc<Identity>),
    Refused(Refused),
    Unavailable,
    Limited(Duration),
}

struct Refused {
    rejection: Rejection,
    memory: Memory,
    /// Reserved before the provider was asked: the refusal is counted already.
    paid: Option<Reservation>,
}

/// Whether a refusal may be cached.
#[derive(Clone, Copy)]
enum Memory {
    /// For the cache's TTL.
    Usual,
    Until(Timestamp),
    /// It depends on a key that is not known yet.
    Never,
}

impl Verifier {
    /// The cached identity for exactly these bytes; nothing of them is parsed.
    pub fn recall(&self, policy: &Policy, digest: TokenDigest) -> Option<Arc<Identity>> {
        let (cache, metrics) = self.verified.as_ref()?;
        let found = cache.find(policy.id, digest, self.clock.now());
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        found
    }

    /// The same, for what looks often and is no request: it does not count.
    pub fn is_verified(&self, policy: &Policy, digest: TokenDigest) -> bool {
        self.verified.as_ref().is_some_and(|(cache, _)| cache.find(policy.id, digest, self.clock.now()).is_some())
    }

    /// Verifies a token that is not cached, and caches the result. A refusal is charged to the caller's rate limit;
    /// above the limit no provider is asked on the caller's behalf.
    pub async fn verify(&self, policy: &Policy, token: &str, digest: TokenDigest, account: &Account<'_>) -> Verdict {
        if let Some(rejection) = self.refused_before(policy, digest) {
            return charged(rejection, account);
        }
        let begun = self.unknown.as_ref().map(|(cache, _)| cache.begin());
        let judged = match shape(token) {
            Shape::Jwt(token) => self.verify_jwt(policy, &token, digest, account).await,
            Shape::Broken => Judgement::Refused(Refused::of(
                Refusal::Invalid,
                "it looks like a JWT, and its header or claims cannot be read",
            )),
            Shape::Opaque => self.introspect(policy, token, digest, account).await,
        };
        let refused = match judged {
            Judgement::Valid(identity) => return Verdict::Valid(identity),
            Judgement::Unavailable => return Verdict::Unavailable(Cause::Provider),
            Judgement::Limited(wait) => return Verdict::Limited(wait),
            Judgement::Refused(refused) => refused,
        };
        let until = match refused.memory {
            Memory::Usual => Some(None),
            Memory::Until(end) => Some(Some(end)),
            Memory::Never => None,
        };
        if let (Some((cache, _)), Some(begun), Some(until)) = (&self.unknown, begun, until) {
            cache.keep(policy.id, digest, refused.rejection.clone(), until, begun, self.clock.now());
        }
        match refused.paid {
            Some(_) => Verdict::Rejected(refused.rejection),
            None => charged(refused.rejection, account),
        }
    }

    fn refused_before(&self, policy: &Policy, digest: TokenDigest) -> Option<Rejection> {
        let (cache, metrics) = self.unknown.as_ref()?;
        let found = cache.find(policy.id, digest, self.clock.now());
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        found
    }

    async fn verify_jwt(
        &self,
        policy: &Policy,
        token: &Unverified<'_>,
        digest: TokenDigest,
        account: &Account<'_>,
    ) -> Judgement {
        let mut first = None;
        // Usually one provider; where two share an issuer, each has its own audiences.
        for issuer in policy.of_token(token) {
            let judged = self.verify_with(policy, issuer, token, digest, account).await;
            issuer.metrics.verified(judged.word());
            match judged {
                Judgement::Refused(refused) => first = Some(refused.after(first)),
                decided => return decided,
            }
        }
        Judgement::Refused(first.unwrap_or_else(|| {
            let issuers = policy.issuers.iter().map(|issuer| issuer.provider.settings());
            Refused::of(Refusal::Invalid, &token.why_no_issuer(issuers))
        }))
    }

    async fn verify_with(
        &self,
        policy: &Policy,
        issuer: &Issuer,
        token: &Unverified<'_>,
        digest: TokenDigest,
        account: &Account<'_>,
    ) -> Judgement {
        let now = self.clock.now();
        let (provider, settings) = (issuer.provider.as_ref(), issuer.provider.settings());
        let read = |keys: &KeySet| token.verify_bearer(keys, settings, &issuer.resources, now);
        let verified = match verify_at_hand(provider, read) {
            Some(decided) => decided,
            // Not reserved: waiting requests share one fetch, and there is at most one in 30 s.
            None => match account.look() {
                Ok(()) => verify_with_fetched(provider, read).await,
                Err(wait) => return Judgement::Limited(wait),
            },
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(NotVerified::Refused(refusal)) => {
                let mut why = token.why_no_bearer(settings, &issuer.resources, refusal, now);
                if let (Refusal::Expired | Refusal::NotYet(_), Some(skew)) = (refusal, provider.clock_skew()) {
                    why += &format!("; the provider's clock less ours: {skew} s");
                }
                return Judgement::Refused(Refused::of(refusal, &why));
            }
            Err(NotVerified::Unavailable) => return Judgement::Unavailable,
        };
        let Ok(identity) = Identity::of_token(&verified, settings) else {
            return Judgement::Refused(Refused::of(Refusal::Invalid, "the mapped `user` claim is absent"));
        };
        if identity.groups_left_out && !issuer.overage.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                provider = %settings.name,
                "overage: the provider leaves the groups out of a token, there are too many of them; map another claim, such as app roles"
            );
        }
        let identity = Arc::new(identity);
        if let Some((cache, _)) = &self.verified {
            let expires = verified.expires().plus(*settings.clock_skew);
            cache.keep(policy.id, digest, identity.clone(), verified.liveness().clone(), expires, now);
        }
        Judgement::Valid(identity)
    }

    /// Asks each provider with introspection, until one vouches for the token.
    async fn introspect(&self, policy: &Policy, token: &str, digest: TokenDigest, account: &Account<'_>) -> Judgement {
        // Check all caches before asking any provider: one provider's good token is no reason to ask another.
        if let Some(kept) = policy.introspecting().find_map(|issuer| self.introspections.find(issuer, digest)) {
            return Judgement::Valid(kept.identity);
        }
        let mut paid: Option<Reservation> = None;
        let (mut first, mut is_unavailable) = (None, false);
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
                    return Judgement::Valid(introspected.identity);
                }
                Answer::Wrong(wrong) => first = first.or(Some(wrong)),
                Answer::Unavailable => is_unavailable = true,
                Answer::Withheld(wait) => return Judgement::Limited(wait),
            }
        }
        if is_unavailable {
            account.give_back(paid);
            return Judgement::Unavailable;
        }
        let refused = match first {
            Some(Wrong::Refused(refusal)) => Refused::of(refusal, of_introspection(refusal)),
            Some(Wrong::Inactive) => Refused::unknown("the provider's introspection says that it is not active"),
            None => Refused::unknown("it is no JWT, and no provider of the route has `introspection`"),
        };
        Judgement::Refused(Refused { paid, ..refused })
    }
}

impl Judgement {
    fn word(&self) -> &'static str {
        match self {
            Judgement::Valid(_) => "ok",
            Judgement::Refused(refused) => refused.rejection.reason.word(),
            Judgement::Unavailable => Reason::ProviderUnavailable.word(),
            Judgement::Limited(_) => Reason::RateLimited.word(),
        }
    }
}

impl Answer {
    fn word(&self) -> &'static str {
        match self {
            Answer::Active(_) => "ok",
            Answer::Wrong(Wrong::Inactive) => Reason::UnknownToken.word(),
            Answer::Wrong(Wrong::Refused(refusal)) => reason_of(*refusal).0.word(),
            Answer::Unavailable => Reason::ProviderUnavailable.word(),
            Answer::Withheld(_) => Reason::RateLimited.word(),
        }
    }
}

fn reason_of(refusal: Refusal) -> (Reason, Memory) {
    match refusal {
        Refusal::Expired => (Reason::TokenExpired, Memory::Usual),
        Refusal::WrongAudience => (Reason::WrongAudience, Memory::Usual),
        Refusal::Invalid => (Reason::InvalidToken, Memory::Usual),
        Refusal::NotYet(from) => (Reason::InvalidToken, Memory::Until(from)),
        // The provider may have published the key by now, but must not be asked again so soon.
        Refusal::UnknownKey => (Reason::InvalidToken, Memory::Never),
        // Verified with keys that were fetched for this token.
        Refusal::BadSignature => (Reason::InvalidToken, Memory::Usual),
    }
}

/// What of an introspection response was refused.
fn of_introspection(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Expired => "exp in the introspection response: is over",
        Refusal::WrongAudience => "aud in the introspection response: is not among the accepted audiences",
        Refusal::NotYet(_) => "nbf or iat in the introspection response: is in the future",
        _ => "the introspection response is of another issuer, of another kind of token, or has no mapped `user` claim",
    }
}

impl Refused {
    fn of(refusal: Refusal, why: &str) -> Self {
        let (reason, memory) = reason_of(refusal);
        Refused { rejection: Rejection { reason, why: why.into() }, memory, paid: None }
    }

    fn unknown(why: &str) -> Self {
        let rejection = Rejection { reason: Reason::UnknownToken, why: why.into() };
        Refused { rejection, memory: Memory::Usual, paid: None }
    }

    /// Reports the first of several refusals; it is not cached if any of them must not be.
    fn after(self, first: Option<Refused>) -> Self {
        match first {
            Some(first) if matches!(self.memory, Memory::Never) => Refused { memory: Memory::Never, ..first },
            Some(first) => first,
            None => self,
        }
    }
}

/// Charges a refusal to the caller's rate limit.
fn charged(rejection: Rejection, account: &Account<'_>) -> Verdict {
    match account.charge() {
        Ok(()) => Verdict::Rejected(rejection),
        Err(wait) => Verdict::Limited(wait),
    }
}

#[cfg(test)]
mod tests;
