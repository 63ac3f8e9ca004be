//! What lives as long as the process: the clock, the metrics, the caches, the store and what seals in it.

use crate::app::Foundation;
use crate::bearer::verified::VerifiedTokens;
use crate::config::settings::{Backend, Settings};
use crate::kit::clock::{Clock, SystemClock};
use crate::kit::entropy::{Entropy, SystemEntropy};
use crate::kit::secret::Secret;
use crate::session::copies::Copies;
use crate::session::vault::Sessions;
use crate::store::file::File;
use crate::store::kv::{Entry, Kv};
use crate::store::memory::Memory;
use crate::watch::metrics::{Cache, Metrics};
use std::sync::Arc;
use std::time::Duration;

/// The key under which the store keeps a secret that was made.
const MADE: &str = "secret";
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Foundation {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (metrics, entropy): (_, Arc<dyn Entropy>) =
            (Arc::new(Metrics::default()), Arc::new(SystemEntropy::default()));
        let kv: Arc<dyn Kv> = match &settings.store.backend {
            Backend::Memory => Arc::new(Memory::new(clock.clone())),
            Backend::File(path) => Arc::new(File::open(path, clock.clone())?),
        };
        let made_secret = made_secret(kv.as_ref(), entropy.as_ref())?;
        let copies = copies(settings, &metrics);
        Ok(Foundation {
            verified: settings
                .verified_tokens
                .enabled
                .then(|| Arc::new(VerifiedTokens::new(&settings.verified_tokens))),
            sessions: Arc::new(Sessions::new(kv, clock.clone(), entropy.clone(), copies)),
            clock,
            metrics,
            entropy,
            made_secret,
        })
    }
}

pub(super) fn verified(settings: &Settings) -> Option<Arc<VerifiedTokens>> {
    settings.verified_tokens.enabled.then(|| Arc::new(VerifiedTokens::new(&settings.verified_tokens)))
}

pub(super) fn copies(settings: &Settings, metrics: &Metrics) -> Option<Copies> {
    settings.copies.map(|copies| Copies::new(copies.max_entries, copies.ttl, metrics.cache(Cache::sessions)))
}

/// Made once, and kept as long as the store.
fn made_secret(kv: &dyn Kv, entropy: &dyn Entropy) -> Result<Secret<Vec<u8>>, String> {
    let mut secret = vec![0; 32];
    entropy.fill(&mut secret);
    // On a thread of its own: whoever builds a foundation may be driven by a runtime.
    let kept = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
            runtime.block_on(async {
                kv.put_new(MADE, Entry { generation: 0, value: secret }, FOR_EVER).await.ok()?;
                kv.get(MADE).await.ok()?
            })
        });
        asking.join().ok().flatten()
    });
    match kept {
        Some(kept) => Ok(Secret::new(kept.value)),
        None => Err("the store cannot keep a secret".into()),
    }
}
