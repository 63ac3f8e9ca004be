//! Opaque tokens, of which only their provider can speak (RFC 7662): it is asked once for all who wait, and its good
//! answers are kept for a while.

use crate::credential::policy::Issuer;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::digest::{DigestState, Fingerprint, TokenDigest};
use crate::kit::secret::Secret;
use crate::kit::singleflight::{Role, Singleflight};
use crate::provider::introspection::{Introspected, Wrong, judge};
use crate::telemetry::metrics::CacheMetrics;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// `caches.introspection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    pub max_entries: u64,
    /// At most; never beyond the token's own `exp`.
    pub ttl: Duration,
}

pub struct Introspections {
    clock: Arc<dyn Clock>,
    ttl: Duration,
    /// None: each time the provider is asked.
    kept: Option<(Answers, CacheMetrics)>,
    under_way: Singleflight<Key, Answer>,
}

/// What one provider says says nothing about another. Which route asks does not count: rules are judged behind this.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Fingerprint, TokenDigest);

type Answers = Cache<Key, Arc<Kept>, DigestState>;

struct Kept {
    answer: Introspected,
    good_until: Timestamp,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Active(Introspected),
    Wrong(Wrong),
    Unavailable,
    /// Whoever began to ask may not ask now.
    Withheld(Duration),
}

impl Introspections {
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, metrics: CacheMetrics) -> Self {
        let kept = settings.enabled.then(|| {
            // The cache's own expiry only bounds memory.
            let cache = Cache::builder()
                .max_capacity(settings.max_entries)
                .time_to_live(settings.ttl)
                .build_with_hasher(DigestState::default());
            (cache, metrics)
        });
        Introspections { clock, ttl: settings.ttl, kept, under_way: Singleflight::default() }
    }

    pub fn find(&self, issuer: &Issuer, token: TokenDigest) -> Option<Introspected> {
        let (cache, metrics) = self.kept.as_ref()?;
        let found = cache.get(&Key(issuer.fingerprint(), token)).filter(|kept| self.clock.now() < kept.good_until);
        match found {
            Some(_) => metrics.hit(),
            None => metrics.miss(),
        }
        Some(found?.answer.clone())
    }

    /// Asks the provider, or waits with those who ask already. `reserve` says whether it may be asked on this request's
    /// behalf; who only waits is not asked for that.
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
                // It was another's budget that was spent; ours may not be.
                Ok((Answer::Withheld(_), Role::Follower)) => {}
                Ok((answer, _)) => return answer,
                Err(_) => return Answer::Unavailable,
            }
        }
    }

    async fn ask_provider(&self, issuer: &Issuer, key: Key, token: &Secret) -> Answer {
        let Ok(claims) = issuer.provider.introspect(token).await else { return Answer::Unavailable };
        let now = self.clock.now();
        match judge(claims, issuer.provider.settings(), now) {
            Ok(answer) => {
                if let Some((cache, _)) = &self.kept {
                    let until = now.plus(self.ttl);
                    let good_until = answer.expires.map_or(until, |exp| until.min(exp));
                    cache.insert(key, Arc::new(Kept { answer: answer.clone(), good_until }));
                }
                Answer::Active(answer)
            }
            Err(wrong) => Answer::Wrong(wrong),
        }
    }

    pub fn len(&self) -> u64 {
        self.kept.as_ref().map_or(0, |(cache, _)| {
            cache.run_pending_tasks(); // the count lags behind without it
            cache.entry_count()
        })
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
