//! The keys that sign assertions (ES256): one set for all replicas, sealed in the store. A new key is published before it
//! signs, so that apps which keep the published set for minutes know it; an old one stays as long as its assertions.

use crate::kit::clock::{Clock, Timestamp};
use crate::kit::seal::Secrets;
use crate::kit::singleflight::Singleflight;
use crate::store::kv::{Entry, Key as StoreKey, Kv, Space, Unavailable};
use arc_swap::ArcSwapOption;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64;
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Lives as long as the process; a reload changes what is wanted of it.
pub struct SigningKeys {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    wanted: ArcSwapOption<Wanted>,
    held: ArcSwapOption<KeySet>,
    changed: Notify,
    loads: Singleflight<(), bool>,
}

pub struct Wanted {
    /// How long one key signs.
    pub rotate: Duration,
    /// The longest life of an assertion.
    pub longest_ttl: Duration,
    pub secrets: Secrets,
}

/// The set as it was last read, and written as it will be read.
pub struct KeySet {
    keys: Vec<Key>,
    stored: Vec<Stored>,
    /// RFC 7517, 5.
    pub jwks: String,
}

struct Key {
    id: String,
    encoding: EncodingKey,
    signs_from: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// PKCS #8, in base64.
    key: Zeroizing<String>,
    /// In milliseconds since the Unix epoch.
    signs_from: i64,
}

/// A key is published for so long before it signs: apps may keep the published set for as long.
pub const LEAD: Duration = Duration::from_secs(300);
/// Other replicas publish it when they have read it, and their clocks differ.
const AHEAD: Duration = Duration::from_secs(LEAD.as_secs() + LOOK.as_secs() + SKEW.as_secs());
/// How far the clocks of replicas and apps may be apart.
const SKEW: Duration = Duration::from_secs(60);
/// How often the store is read for what other replicas did.
const LOOK: Duration = Duration::from_secs(30);
const PURPOSE: &[&[u8]] = &[b"assertion keys"];
/// Of two replicas that write at once one loses, and reads again.
const TRIES: usize = 5;

impl SigningKeys {
    pub fn new(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>) -> Self {
        SigningKeys {
            kv,
            clock,
            wanted: ArcSwapOption::empty(),
            held: ArcSwapOption::empty(),
            changed: Notify::new(),
            loads: Singleflight::default(),
        }
    }

    /// `None`: nothing is signed.
    pub fn configure(&self, wanted: Option<Wanted>) {
        self.wanted.store(wanted.map(Arc::new));
        self.changed.notify_one();
    }

    /// Follows the store and rotates; runs until it is dropped.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            let every = match self.wanted.load().as_ref() {
                Some(wanted) => (wanted.rotate / 2).clamp(Duration::from_millis(500), LOOK),
                None => {
                    self.changed.notified().await;
                    continue;
                }
            };
            self.read_again().await;
            let _ = tokio::time::timeout(every, self.changed.notified()).await;
        }
    }

    /// The set in force. Without a store that could ever be read there is none.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, Unavailable> {
        if let Some(held) = self.held.load_full() {
            return Ok(held);
        }
        self.read_again().await;
        self.held.load_full().ok_or(Unavailable)
    }

    async fn read_again(self: &Arc<Self>) {
        let this = self.clone();
        let work = || async move { this.follow().await.is_ok() };
        let _ = self.loads.join((), work).await;
    }

    /// Reads the set; makes a key where one is due.
    async fn follow(&self) -> Result<(), Unavailable> {
        let Some(wanted) = self.wanted.load_full() else { return Ok(()) };
        for _ in 0..TRIES {
            let entry = self.kv.get(&StoreKey::only(Space::SigningKeys)).await?;
            let opened = entry.as_ref().and_then(|entry| open(&wanted.secrets, &entry.value));
            if entry.is_some() && opened.is_none() {
                self.kv.count_unreadable();
                tracing::warn!(
                    "the keys that sign assertions were sealed with another secret; new ones take their place"
                );
            }
            // A store that lost its data gets back what this replica holds.
            let known = opened.or_else(|| self.held.load().as_ref().map(|held| held.stored.clone()));
            let known = known.unwrap_or_default();
            let next = plan(&known, &wanted, self.clock.now());
            // Sealed anew where it was sealed with an older secret, which will not be in the list for ever.
            let is_current = |entry: &Entry| open(&wanted.secrets.first(), &entry.value).is_some();
            let is_stored = next.is_none() && entry.as_ref().is_some_and(is_current);
            let set = KeySet::of(next.unwrap_or(known)).ok_or(Unavailable)?;
            if is_stored || self.write(&wanted, entry.as_ref(), &set.stored).await? {
                self.held.store(Some(Arc::new(set)));
                return Ok(());
            }
        }
        Err(Unavailable)
    }

    async fn write(&self, wanted: &Wanted, before: Option<&Entry>, keys: &[Stored]) -> Result<bool, Unavailable> {
        let plain = Zeroizing::new(serde_json::to_vec(keys).map_err(|_| Unavailable)?);
        let value = wanted.secrets.seal(b"", PURPOSE, b"", &plain).map_err(|_| Unavailable)?;
        let ttl = wanted.rotate * 2 + wanted.longest_ttl + LEAD + Duration::from_secs(86_400);
        let key = StoreKey::only(Space::SigningKeys);
        match before {
            None => self.kv.put_new(&key, Entry { generation: 1, value }, ttl).await,
            Some(before) => self.kv.replace(&key, Entry { generation: before.generation + 1, value }, ttl).await,
        }
    }
}

fn open(secrets: &Secrets, sealed: &[u8]) -> Option<Vec<Stored>> {
    let plain = secrets.open(b"", PURPOSE, b"", sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// The set that should be, where it is another than this one.
fn plan(known: &[Stored], wanted: &Wanted, now: Timestamp) -> Option<Vec<Stored>> {
    let from = |key: &Stored| Timestamp::from_millis(key.signs_from);
    // A key is over when the next one has signed for as long as its last assertion lives.
    let over = wanted.longest_ttl + SKEW;
    let followers = known.iter().skip(1).map(Some).chain([None]);
    let mut keys: Vec<Stored> = known
        .iter()
        .zip(followers)
        .filter(|(_, next)| next.is_none_or(|next| now < from(next).plus(over)))
        .map(|(key, _)| key.clone())
        .collect();
    let newest = keys.last().map(from);
    let due = match newest {
        None => Some(now),
        // One waits already to be known everywhere.
        Some(newest) if newest > now => None,
        Some(newest) => {
            let end = newest.plus(wanted.rotate);
            (end <= now.plus(AHEAD)).then(|| end.max(now.plus(AHEAD)))
        }
    };
    keys.extend(due.and_then(Stored::generate));
    (keys != known).then_some(keys)
}

impl Stored {
    fn generate(signs_from: Timestamp) -> Option<Self> {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        Some(Stored { key: BASE64.encode(pair.as_ref()).into(), signs_from: signs_from.millis() })
    }
}

impl KeySet {
    fn of(stored: Vec<Stored>) -> Option<Self> {
        let (mut keys, mut published) = (Vec::new(), Vec::new());
        for one in &stored {
            let der = Zeroizing::new(BASE64.decode(one.key.as_bytes()).ok()?);
            let encoding = EncodingKey::from_ec_der(&der);
            let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).ok()?;
            let id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
            jwk.common.key_id = Some(id.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            jwk.common.key_operations = Some(vec![KeyOperations::Verify]);
            published.push(jwk);
            keys.push(Key { id, encoding, signs_from: Timestamp::from_millis(one.signs_from) });
        }
        Some(KeySet { keys, stored, jwks: json!({ "keys": published }).to_string() })
    }

    pub fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// The key that signs now: its id, and itself.
    pub fn signing(&self, now: Timestamp) -> Option<(&str, &EncodingKey)> {
        let begun = self.keys.iter().rev().find(|key| key.signs_from <= now);
        // Where another replica's clock is ahead, its first key counts here, too.
        let key = begun.or(self.keys.first())?;
        Some((key.id.as_str(), &key.encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::test::SetClock;
    use crate::store::memory::Memory;

    const ROTATE: Duration = Duration::from_secs(3600);
    const TTL: Duration = Duration::from_secs(120);

    fn wanted(secret: &str, rotate: Duration) -> Wanted {
        Wanted { rotate, longest_ttl: TTL, secrets: Secrets::new([secret.as_bytes().to_vec()]) }
    }

    fn replica(kv: &Arc<dyn Kv>, clock: &Arc<SetClock>, secret: &str) -> Arc<SigningKeys> {
        let keys = Arc::new(SigningKeys::new(kv.clone(), clock.clone()));
        keys.configure(Some(wanted(secret, ROTATE)));
        keys
    }

    /// The ids of the published keys, and of the one that signs.
    async fn seen(keys: &Arc<SigningKeys>, clock: &SetClock) -> (Vec<String>, String) {
        keys.read_again().await;
        let set = keys.current().await.unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&set.jwks).unwrap();
        let ids = jwks["keys"].as_array().unwrap().iter().map(|key| {
            assert_eq!(
                (key["kty"].as_str(), key["crv"].as_str(), key["use"].as_str()),
                (Some("EC"), Some("P-256"), Some("sig"))
            );
            assert_eq!((key.get("d"), key["alg"].as_str()), (None, Some("ES256")), "no private part");
            key["kid"].as_str().unwrap().to_owned()
        });
        (ids.collect(), set.signing(clock.now()).unwrap().0.to_owned())
    }

    #[tokio::test]
    async fn a_key_is_known_before_it_signs_and_as_long_as_it_is_needed() {
        let clock = Arc::new(SetClock::at(1_000_000));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new(clock.clone()));
        let (one, two) = (replica(&kv, &clock, "s"), replica(&kv, &clock, "s"));
        let (first, signing) = seen(&one, &clock).await;
        assert_eq!((first.len(), seen(&two, &clock).await), (1, (first.clone(), signing.clone())), "one set for all");
        clock.advance(ROTATE - AHEAD - Duration::from_secs(1));
        assert_eq!(seen(&two, &clock).await.0, first);
        clock.advance(Duration::from_secs(1));
        let (both, signs) = seen(&two, &clock).await;
        assert_eq!((both.len(), &signs), (2, &signing), "the next is published, and does not sign");
        assert_eq!(seen(&one, &clock).await, (both.clone(), signing.clone()));
        clock.advance(AHEAD);
        assert_eq!(seen(&one, &clock).await, (both.clone(), both[1].clone()));
        clock.advance(TTL + SKEW - Duration::from_secs(1));
        assert_eq!(seen(&one, &clock).await.0, both, "its last assertion still lives");
        clock.advance(Duration::from_secs(1));
        assert_eq!(seen(&one, &clock).await.0, both[1..]);
    }

    #[tokio::test]
    async fn two_replicas_at_once_make_one_key() {
        let clock = Arc::new(SetClock::at(1_000_000));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new(clock.clone()));
        let replicas: Vec<_> = (0..5).map(|_| replica(&kv, &clock, "s")).collect();
        for _ in 0..3 {
            let all = futures_util::future::join_all(replicas.iter().map(|keys| seen(keys, &clock))).await;
            assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
            clock.advance(ROTATE);
        }
    }

    /// However short the period is, there is one key that waits, and the set does not grow.
    #[tokio::test]
    async fn the_set_is_bounded() {
        let clock = Arc::new(SetClock::at(1_000_000));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new(clock.clone()));
        let keys = replica(&kv, &clock, "s");
        keys.configure(Some(wanted("s", Duration::from_secs(1))));
        for _ in 0..1000 {
            assert!(seen(&keys, &clock).await.0.len() <= 3);
            clock.advance(Duration::from_secs(7));
        }
    }

    #[tokio::test]
    async fn a_store_that_lost_the_set_or_holds_another_s_gets_one() {
        let clock = Arc::new(SetClock::at(1_000_000));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new(clock.clone()));
        let ours = replica(&kv, &clock, "s");
        let before = seen(&ours, &clock).await;
        kv.delete(&StoreKey::only(Space::SigningKeys), Duration::ZERO).await.unwrap();
        assert_eq!(seen(&ours, &clock).await, before, "what was held");
        assert_eq!(seen(&replica(&kv, &clock, "s"), &clock).await, before, "and was written back");
        let sealed = kv.get(&StoreKey::only(Space::SigningKeys)).await.unwrap().unwrap().value;
        assert!(open(&Secrets::new([b"other".to_vec()]), &sealed).is_none());
        // A secret that is replaced step by step: the set stays, sealed with the newest.
        let both = Arc::new(SigningKeys::new(kv.clone(), clock.clone()));
        let secrets = Secrets::new([b"newer".to_vec(), b"s".to_vec()]);
        both.configure(Some(Wanted { secrets, ..wanted("s", ROTATE) }));
        assert_eq!(seen(&both, &clock).await, before);
        assert_eq!(seen(&replica(&kv, &clock, "newer"), &clock).await, before);
        let other = seen(&replica(&kv, &clock, "other"), &clock).await;
        assert_ne!(other, before);
    }
}
