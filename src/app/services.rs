//! What lives as long as the process: the clock, the metrics, the caches, the store and its secrets.

use crate::admin::StoreNow;
use crate::caller::rate_limit::Limiter;
use crate::caller::tarpit::Tarpit;
use crate::config::settings::Settings;
use crate::credential::api_key::keyring::{Keyring, Outside};
use crate::credential::api_key::{self, KeyId};
use crate::credential::introspection::Introspections;
use crate::credential::unknown::UnknownTokens;
use crate::credential::verified::VerifiedTokens;
use crate::edge::server::Work;
use crate::kit::clock::{Clock, SystemClock};
use crate::kit::entropy::{Entropy, SystemEntropy};
use crate::kit::seal::Secrets;
use crate::kit::secret::Secret;
use crate::outbound::assertion::Assertions;
use crate::outbound::service_token::ServiceTokens;
use crate::outbound::signing_keys::SigningKeys;
use crate::provider::remote::RemoteProvider;
use crate::session::cache::SessionCache;
use crate::session::index::lines_of_record;
use crate::session::sessions::Sessions;
use crate::store::fallback::Fallback;
use crate::store::file::File;
use crate::store::kv::{Change, Entry, Invalidation, Key, Kv, Space};
use crate::store::memory::Memory;
use crate::store::redis::Redis;
use crate::store::settings::Backend;
use crate::store::{fallback, redis};
use crate::telemetry::metrics::{Cache, Metrics};
use arc_swap::ArcSwapOption;
use futures_util::future::OptionFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// What lives as long as the process, across reloads.
pub(crate) struct Services {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) caches: Caches,
    /// The current cache of refused tokens; a provider's new keys invalidate its entries.
    pub(super) refused: Arc<ArcSwapOption<UnknownTokens>>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) tarpit: Arc<Tarpit>,
    /// None: there is no secret that keys could be sealed with.
    pub(super) keys: Option<Arc<Keyring>>,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) assertions: Arc<Assertions>,
    pub(super) service_tokens: Arc<ServiceTokens>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Background maintenance of the store and the sessions; taken when the process starts.
    pub(super) upkeep: Option<Work>,
    /// Whether the store answers.
    pub(super) store: StoreState,
    /// The store's configured secrets, as of the process start.
    pub(super) secrets: Vec<Secret>,
    /// The generated secret, used if the configuration names none; empty for a shared store.
    pub(super) made_secret: Secret<Vec<u8>>,
}

/// Token caches. A reload replaces those whose settings it changes.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(super) verified: Option<Arc<VerifiedTokens>>,
    pub(super) unknown: Option<Arc<UnknownTokens>>,
    pub(super) introspections: Arc<Introspections>,
}

pub(crate) type Providers = BTreeMap<Arc<str>, Arc<RemoteProvider>>;

/// The state of the store, for readiness.
#[derive(Clone, Default)]
pub(crate) struct StoreState {
    redis: Option<Arc<Redis>>,
    answered: Arc<AtomicBool>,
    up: Arc<AtomicBool>,
}

/// A store with its background maintenance.
struct Opened {
    kv: Arc<dyn Kv>,
    state: StoreState,
    upkeep: Work,
}

const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Services {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::default());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let Opened { kv, state, upkeep } = open(settings, &clock, &entropy, &metrics)?;
        // For a shared store no secret is generated: it is configured, or derived from a client secret.
        let made_secret = match settings.file.store.backend {
            Backend::Redis => Secret::new(Vec::new()),
            Backend::Memory | Backend::File => made_secret(kv.as_ref(), entropy.as_ref())?,
        };
        let copies = copies(settings, &metrics);
        let keys = keys(settings, &kv, &clock, &entropy, &metrics, &made_secret);
        let caches = Caches::new(settings, &clock, &metrics);
        let sessions =
            Arc::new(Sessions::new(kv.clone(), clock.clone(), entropy.clone(), settings.file.refresh_dedup, copies));
        let (hearing, endings) = (sessions.clone().subscribe(), sessions.clone().finish_endings());
        let unseen = sessions.clone().end_unseen();
        let of_keys = keys.clone().map(|keys| subscribe_to_keys(kv.clone(), keys));
        let signing = Arc::new(SigningKeys::new(kv.clone(), clock.clone()));
        let rotation = signing.clone().keep_fresh();
        let upkeep: Work = Box::pin(async move {
            tokio::join!(upkeep, hearing, endings, unseen, rotation, OptionFuture::from(of_keys));
        });
        let dedup = settings.file.refresh_dedup;
        let lease = dedup.enabled.then_some(*dedup.lease);
        Ok(Services {
            refused: Arc::new(ArcSwapOption::new(caches.unknown.clone())),
            caches,
            keys,
            limiter: Arc::new(Limiter::new()),
            tarpit: Arc::new(Tarpit::new()),
            assertions: Arc::new(Assertions::new(signing, clock.clone(), entropy.clone())),
            service_tokens: ServiceTokens::new(kv.clone(), clock.clone(), entropy.clone(), lease),
            kv,
            sessions,
            clock,
            metrics,
            entropy,
            upkeep: Some(upkeep),
            store: state,
            secrets: settings.file.store.secrets().cloned().collect(),
            made_secret,
        })
    }
}

impl StoreState {
    fn of_own() -> Self {
        let state = StoreState::default();
        state.told(true);
        state
    }

    fn told(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        self.answered.fetch_or(up, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> StoreNow {
        let up = self.up.load(Ordering::Relaxed);
        StoreNow {
            answered: self.answered.load(Ordering::Relaxed),
            up,
            // While the store is up, its last problem is over and not reported.
            problem: self.redis.as_ref().filter(|_| !up).and_then(|redis| redis.problem()),
        }
    }
}

fn open(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, String> {
    let own = |kv: Arc<dyn Kv>| Opened { kv, state: StoreState::of_own(), upkeep: Box::pin(std::future::ready(())) };
    match &settings.file.store.backend {
        Backend::Memory => Ok(own(Arc::new(Memory::new(clock.clone())))),
        Backend::File => Ok(own(Arc::new(File::open(&settings.store_path, clock.clone())?))),
        Backend::Redis => open_shared(&settings.file.store.redis, clock, entropy, metrics),
    }
}

fn open_shared(
    settings: &redis::Settings,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, String> {
    let redis = Redis::new(settings.clone(), metrics.store())?;
    let state = StoreState { redis: Some(redis.clone()), ..StoreState::default() };
    metrics.store_up(false);
    let (told, measured) = (state.clone(), metrics.clone());
    let on_change = Box::new(move |up: bool| {
        if !up {
            let problem = told.redis.as_ref().and_then(|redis| redis.problem()).unwrap_or_default();
            tracing::warn!(%problem, "the store is unavailable; this replica continues with what it knows");
        }
        told.told(up);
        measured.store_up(up);
    });
    let stand_in =
        fallback::Settings { breaker: settings.breaker, standby: settings.fallback, sets_of: lines_of_record };
    let fallback = Fallback::new(redis.clone(), clock.clone(), entropy.clone(), stand_in, on_change);
    let (watch, follow) = (fallback.clone().watch(), fallback.clone().follow());
    let upkeep: Work = Box::pin(async move {
        tokio::join!(watch, follow, redis.listen());
    });
    Ok(Opened { kv: fallback, state, upkeep })
}

impl Caches {
    fn new(settings: &Settings, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let introspections = Introspections::new(
            &settings.file.caches.introspection,
            clock.clone(),
            metrics.cache(Cache::introspection),
        );
        Caches {
            verified: settings
                .file
                .caches
                .verified_tokens
                .enabled
                .then(|| Arc::new(VerifiedTokens::new(&settings.file.caches.verified_tokens))),
            unknown: settings
                .file
                .caches
                .unknown_tokens
                .enabled
                .then(|| Arc::new(UnknownTokens::new(&settings.file.caches.unknown_tokens))),
            introspections: Arc::new(introspections),
        }
    }

    /// Keeps each cache unless its own settings changed.
    pub(super) fn after(&self, old: &Settings, services: &Services, settings: &Settings) -> Self {
        let mut next = Caches::new(settings, &services.clock, &services.metrics);
        if old.file.caches.verified_tokens == settings.file.caches.verified_tokens {
            next.verified = self.verified.clone();
        }
        if old.file.caches.unknown_tokens == settings.file.caches.unknown_tokens {
            next.unknown = self.unknown.clone();
        }
        if old.file.caches.introspection == settings.file.caches.introspection {
            next.introspections = self.introspections.clone();
        }
        next
    }
}

fn keys(
    settings: &Settings,
    kv: &Arc<dyn Kv>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    metrics: &Metrics,
    made_secret: &Secret<Vec<u8>>,
) -> Option<Arc<Keyring>> {
    let own = settings.file.store.secrets().map(|secret| secret.expose().clone().into_bytes());
    let made =
        Some(made_secret.expose().clone()).filter(|made| !made.is_empty() && settings.file.store.secret.is_none());
    let secrets: Vec<Vec<u8>> = own.chain(made).collect();
    let outside = Outside {
        kv: kv.clone(),
        secrets: (!secrets.is_empty()).then(|| Secrets::new(secrets))?,
        clock: clock.clone(),
        entropy: entropy.clone(),
        metrics: metrics.cache(Cache::api_keys),
    };
    Some(Arc::new(Keyring::new(outside, own_keys(settings), &settings.file.caches.api_keys)))
}

/// Applies other replicas' invalidations of API keys; runs until it is dropped.
async fn subscribe_to_keys(kv: Arc<dyn Kv>, keys: Arc<Keyring>) {
    let Some(mut heard) = kv.announcements() else { return };
    loop {
        match heard.recv().await {
            Ok(Invalidation::Key(Change::ApiKey(id))) => KeyId::parse(&id).into_iter().for_each(|id| keys.forget(id)),
            Ok(Invalidation::Key(Change::Session(_))) => {}
            Ok(Invalidation::All) | Err(RecvError::Lagged(_)) => keys.forget_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The API keys of the file.
pub(super) fn own_keys(settings: &Settings) -> Vec<api_key::Record> {
    settings.file.api_keys.iter().map(|(_, key)| key.into()).collect()
}

pub(super) fn copies(settings: &Settings, metrics: &Metrics) -> Option<SessionCache> {
    let own = &settings.file.caches.sessions;
    own.enabled.then(|| SessionCache::new(own, metrics.cache(Cache::sessions)))
}

/// Generated once, and kept as long as the store.
fn made_secret(kv: &dyn Kv, entropy: &dyn Entropy) -> Result<Secret<Vec<u8>>, String> {
    let mut secret = vec![0; 32];
    entropy.fill(&mut secret);
    // On a thread of its own: the caller may already run inside a tokio runtime, where `block_on` panics.
    let kept = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
            runtime.block_on(async {
                kv.put_new(&Key::only(Space::Secret), Entry { generation: 0, value: secret }, FOR_EVER).await.ok()?;
                kv.get(&Key::only(Space::Secret)).await.ok()?
            })
        });
        asking.join().ok().flatten()
    });
    match kept {
        Some(kept) => Ok(Secret::new(kept.value)),
        None => Err("the store cannot keep a secret".into()),
    }
}
