//! Which replica may spend a session's refresh token now.

use crate::kit::entropy::Entropy;
use crate::store::kv::{Away, Entry, Kv};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The right to spend a token, renewed while it is held; it runs out by itself where its holder dies.
pub(super) struct Lease {
    kv: Arc<dyn Kv>,
    key: String,
    value: Vec<u8>,
    renewal: JoinHandle<()>,
}

/// What came of asking for a lease.
pub(super) enum Taken {
    Ours(Lease),
    /// Somebody has it, and it runs out then if it is not renewed.
    Until(Instant),
    /// Somebody had it.
    Unknown,
}

impl Lease {
    /// Of the session, not of its token: the new token is stored before it is in force, and nobody else may spend it then.
    pub(super) async fn take(
        kv: &Arc<dyn Kv>,
        entropy: &dyn Entropy,
        place: &str,
        lives: Duration,
    ) -> Result<Taken, Away> {
        let mut value = vec![0; 16];
        entropy.fill(&mut value);
        let key = format!("lease:{place}");
        if kv.put_new(&key, Entry { generation: 0, value: value.clone() }, lives).await? {
            return Ok(Taken::Ours(Lease::keep(kv.clone(), key, value, lives)));
        }
        // From before the look on, so that it has not run out before.
        let now = Instant::now();
        Ok(kv.get_with_ttl(&key).await?.map_or(Taken::Unknown, |(_, left)| Taken::Until(now + left)))
    }

    fn keep(kv: Arc<dyn Kv>, key: String, value: Vec<u8>, lives: Duration) -> Self {
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

    pub(super) async fn let_go(&self) {
        self.renewal.abort();
        let _ = self.kv.extend(&self.key, &self.value, Duration::ZERO).await; // else it runs out
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
