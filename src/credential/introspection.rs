//! Opaque tokens, which only their provider can verify (RFC 7662): it is asked once for all waiting requests, and its
//! positive answers are cached.

use crate::credential::policy::Issuer;
use crate::kit::cache::{self, Cache};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::{Fingerprint, TokenDigest};
use crate::kit::secret::Secret;
use crate::kit::singleflight::{Role, Singleflight};
use crate::provider::introspection::{Introspected, Wrong, judge};
use crate::telemetry::metrics::CacheMetrics;
use std::sync::Arc;
use std::time::Duration;

/// Introspection exists to notice revocations: 30 s is what most resource servers allow themselves.
pub type Settings = cache::Settings<100_000, 30>;

pub struct Introspections {
    clock: Arc<dyn Clock>,
    /// None: the provider is asked each time.
    kept: Option<(Cache<Key, Arc<Introspected>>, CacheMetrics)>,
    under_way: Singleflight<Key, Answer>,
}

/// One provider's answer says nothing about another. The route is not part of the key: its rules are checked later.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Fingerprint, TokenDigest);

#[derive(Clone, Debug)]
pub enum Answer {
    Active(Introspected),
    Wrong(Wrong),
    Unavailable,
    /// The caller that started the call is over its rate limit; when to retry.
    Withheld(Duration),
}

impl Introspections {
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, metrics: CacheMetrics) -> Self {
        let kept = settings.enabled.then(|| (Cache::new(settings), metrics));
        Introspections { clock, kept, under_way: Singleflight::default() }
    }

    pub fn find(&self, issuer: &Issuer, token: TokenDigest) -> Option<Introspected> {
        let (cache, metrics) = self.kept.as_ref()?;
        let found = cache.find(&Key(issuer.fingerprint(), token), self.clock.now());
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        Some(found?.as_ref().clone())
    }

    /// Asks the provider, or joins a call in progress. `reserve` says whether it may be asked on this request's behalf;
    /// it is not called for a request that only waits.
    pub async fn ask(
        self: &Arc<Self>,
        issuer: &Issuer,
        token: &str,
        digest: TokenDigest,
        mut reserve: impl FnMut() -> Result<(), Duration>,
    ) -> Answer {
        let key = Key(issuer.fingerprint(), digest);
        loop {
            let work = || {
                let (this, issuer, token) = (self.clone(), issuer.clone(), Secret::from(token.to_string()));
                let may = reserve();
                async move {
                    match may {
                        Ok(()) => this.ask_provider(&issuer, key, &token).await,
                        Err(wait) => Answer::Withheld(wait),
                    }
                }
            };
            match self.under_way.join(key, work).await {
                // Another caller's rate limit was exhausted; ours may not be.
                Ok((Answer::Withheld(_), Role::Follower)) => {}
                Ok((answer, _)) => return answer,
                Err(_) => return Answer::Unavailable,
            }
        }
    }

    async fn ask_provider(&self, issuer: &Issuer, key: Key, token: &Secret) -> Answer {
        let Ok(claims) = issuer.provider.introspect(token).await else { return Answer::Unavailable };
        let now = self.clock.now();
        match judge(claims, issuer.provider.settings(), &issuer.resources, now) {
            Ok(answer) => {
                if let Some((cache, _)) = &self.kept {
                    let until = answer.expires.unwrap_or(Timestamp::FAR);
                    cache.keep(key, Arc::new(answer.clone()), until, cache.begin(), now);
                }
                Answer::Active(answer)
            }
            Err(wrong) => Answer::Wrong(wrong),
        }
    }

    pub fn len(&self) -> u64 {
        self.kept.as_ref().map_or(0, |(cache, _)| cache.entries())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
