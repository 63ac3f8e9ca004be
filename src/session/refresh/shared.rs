//! The result of a refresh, shared with other replicas: sealed with a key derived from the spent token, so that only a
//! holder of that token can read it.

use crate::kit::clock::Timestamp;
use crate::kit::seal::{Secrets, derive};
use crate::kit::secret::Secret;
use crate::provider::Tokens;
use crate::store::kv::{Entry, Key, Kv, Space, Unavailable};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Shared {
    access: String,
    id: Option<String>,
    refresh: Option<String>,
    lives: Option<u64>,
    /// When the access token was issued, in milliseconds since the Unix epoch.
    granted: i64,
}

/// The store key of a spent token's result, and what seals it.
struct Place {
    digest: String,
    seal: Secrets,
}

const PURPOSE: &[&[u8]] = &[b"refresh result"];

/// The result that another replica published for the same token within the last seconds.
pub(super) async fn find(kv: &dyn Kv, spent: &Secret, now: Timestamp) -> Result<Option<Tokens>, Unavailable> {
    let place = Place::of(spent);
    let Some(entry) = kv.get(&place.key()).await? else { return Ok(None) };
    let opened = place.seal.open(b"", PURPOSE, place.digest.as_bytes(), &entry.value);
    let result: Option<Shared> = opened.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
    if result.is_none() {
        kv.count_unreadable();
    }
    Ok(result.map(|result| result.into_tokens(now)))
}

pub(super) async fn publish(kv: &dyn Kv, spent: &Secret, tokens: &Tokens, now: Timestamp, ttl: Duration) {
    let place = Place::of(spent);
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(&Shared::of(tokens, now)).unwrap_or_default());
    if let Ok(value) = place.seal.seal(b"", PURPOSE, place.digest.as_bytes(), &plain) {
        // Best effort: the session record carries the new tokens as well.
        let _ = kv.put(&place.key(), Entry { generation: 0, value }, ttl).await;
    }
}

impl Place {
    fn of(spent: &Secret) -> Self {
        let token = spent.expose().as_bytes();
        Place {
            digest: data_encoding::HEXLOWER.encode(&derive(token, b"refresh", &[])),
            seal: Secrets::new([token.to_vec()]),
        }
    }

    fn key(&self) -> Key {
        Key::of(Space::Refresh, &self.digest)
    }
}

impl Shared {
    fn of(tokens: &Tokens, now: Timestamp) -> Self {
        let text = |secret: &Secret| secret.expose().clone();
        Shared {
            access: text(&tokens.access),
            id: tokens.id.as_ref().map(text),
            refresh: tokens.refresh.as_ref().map(text),
            lives: tokens.lives.map(|lives| lives.as_secs()),
            granted: now.millis(),
        }
    }

    fn into_tokens(self, now: Timestamp) -> Tokens {
        let left = |lives| now.until(Timestamp::from_millis(self.granted).plus(Duration::from_secs(lives)));
        Tokens {
            access: self.access.into(),
            id: self.id.map(Secret::from),
            refresh: self.refresh.map(Secret::from),
            lives: self.lives.map(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::Clock;
    use crate::kit::clock::test::SetClock;
    use crate::store::memory::Memory;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_result_grows_older_while_it_waits() {
        let clock = Arc::new(SetClock::at(1000));
        let (kv, spent) = (Memory::new(clock.clone()), Secret::from("spent".to_string()));
        let lives = Some(Duration::from_secs(300));
        let tokens = Tokens { access: "access".to_string().into(), id: None, refresh: None, lives };
        publish(&kv, &spent, &tokens, clock.now(), Duration::from_secs(60)).await;
        clock.advance(Duration::from_secs(7));
        let found = find(&kv, &spent, clock.now()).await.unwrap().unwrap();
        assert_eq!((found.access.expose().as_str(), found.lives), ("access", Some(Duration::from_secs(293))));
        let other = Secret::from("other".to_string());
        assert!(find(&kv, &other, clock.now()).await.unwrap().is_none());
    }
}
