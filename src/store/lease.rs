//! Which replica may do now what must be done once: spend a session's refresh token, fetch a token for an app.

use crate::kit::entropy::Entropy;
use crate::store::kv::{Entry, Key, Kv, Space, Unavailable};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// An exclusive right among replicas; renewed while held, expires if its holder dies.
pub struct Lease {
    kv: Arc<dyn Kv>,
    key: Key,
    value: Vec<u8>,
    renewal: JoinHandle<()>,
}

/// The result of requesting a lease.
pub enum Taken {
    Ours(Lease),
    /// Held by another replica; expires at this time unless renewed.
    Until(Instant),
    /// Was held by another replica; its expiry is unknown.
    Unknown,
}

impl Lease {
    pub async fn take(
        kv: &Arc<dyn Kv>,
        entropy: &dyn Entropy,
        name: &str,
        lives: Duration,
    ) -> Result<Taken, Unavailable> {
        let mut value = vec![0; 16];
        entropy.fill(&mut value);
        let key = Key::of(Space::Lease, name);
        if kv.put_new(&key, Entry { generation: 0, value: value.clone() }, lives).await? {
            return Ok(Taken::Ours(Lease::keep(kv.clone(), key, value, lives)));
        }
        // Taken before the read, so that the computed expiry is not later than the real one.
        let now = Instant::now();
        Ok(kv.get_with_ttl(&key).await?.map_or(Taken::Unknown, |(_, left)| Taken::Until(now + left)))
    }

    fn keep(kv: Arc<dyn Kv>, key: Key, value: Vec<u8>, lives: Duration) -> Self {
        let (own, name, mine) = (kv.clone(), key.clone(), value.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(lives / 3).await;
                if own.extend(&name, &mine, lives).await != Ok(true) {
                    return;
                }
            }
        });
        Lease { kv, key, value, renewal }
    }

    pub async fn let_go(&self) {
        self.renewal.abort();
        let _ = self.kv.extend(&self.key, &self.value, Duration::ZERO).await; // if this fails, the lease expires
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
