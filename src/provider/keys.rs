//! A provider's signing keys (RFC 7517). A key that cannot be used (another curve, an encryption key, a shared secret,
//! nonsense) is skipped, and does not affect the others.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The keys of a provider that verify signatures.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A public key and the algorithms it may verify.
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    thumbprint: String,
    liveness: Arc<KeyLiveness>,
}

/// Whether a key is still in its provider's set. Cached results of the key hold this, and are invalid without it.
#[derive(Debug, Default)]
pub struct KeyLiveness {
    vanished: AtomicBool,
}

/// The key that a token's header selects.
pub enum Selected<'a> {
    Key(&'a Key),
    /// The `kid` is known or absent, and not exactly one key fits.
    Unfit,
    /// No key has this `kid`: the provider may have a new one.
    Unknown,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Maximum number of keys read from a set; no provider needs more.
const MAX_KEYS: usize = 256;

impl KeySet {
    /// Reads a JWK set. `before` are the known keys: a key in both sets keeps its liveness, one that is missing from
    /// the new set loses it when [`KeySet::retire`] is called.
    pub fn parse(json: &[u8], before: Option<&KeySet>) -> Result<Self, serde_json::Error> {
        let raw: RawSet = serde_json::from_slice(json)?;
        let mut keys: Vec<Key> = raw.keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        for key in &mut keys {
            if let Some(same) = before.and_then(|set| set.keys.iter().find(|old| old.thumbprint == key.thumbprint)) {
                key.liveness = same.liveness.clone();
            }
        }
        Ok(KeySet { keys })
    }

    /// Marks the keys that `successor` does not hold as vanished.
    pub fn retire(&self, successor: &KeySet) {
        for key in &self.keys {
            if !successor.keys.iter().any(|new| new.thumbprint == key.thumbprint) {
                key.liveness.vanished.store(true, Ordering::Release);
            }
        }
    }

    /// Whether both sets hold the same keys, so that neither accepts what the other refuses.
    pub fn is_same(&self, other: &KeySet) -> bool {
        let told = |key: &Key| (key.id.clone(), key.thumbprint.clone());
        self.keys.iter().map(told).eq(other.keys.iter().map(told))
    }

    pub fn select(&self, id: Option<&str>, algorithm: Algorithm) -> Selected<'_> {
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let mut fit = self.keys.iter().filter(named).filter(|key| key.algorithms.contains(&algorithm));
        match (fit.next(), fit.next()) {
            (Some(key), None) => Selected::Key(key),
            (None, _) if id.is_some() && !self.keys.iter().any(|key| key.id.as_deref() == id) => Selected::Unknown,
            _ => Selected::Unfit,
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    pub fn decoding(&self) -> &DecodingKey {
        &self.key
    }

    pub fn liveness(&self) -> &Arc<KeyLiveness> {
        &self.liveness
    }

    fn read(raw: Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(raw).ok()?;
        if matches!(&jwk.common.public_key_use, Some(purpose) if *purpose != PublicKeyUse::Signature) {
            return None;
        }
        if jwk.common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
            return None;
        }
        let mut algorithms = fitting(&jwk.algorithm)?;
        if let Some(only) = &jwk.common.key_algorithm {
            algorithms.retain(|algorithm| named(*algorithm) == Some(*only));
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Key {
            id: jwk.common.key_id.clone(),
            algorithms,
            key: DecodingKey::from_jwk(&jwk).ok()?,
            thumbprint: format!("{:?} {}", jwk.common.key_id, jwk.thumbprint(ThumbprintHash::SHA256).ok()?),
            liveness: Arc::default(),
        })
    }
}

impl KeyLiveness {
    pub fn is_good(&self) -> bool {
        !self.vanished.load(Ordering::Acquire)
    }
}

/// The algorithms that a key's type can verify (RFC 7518, 3.1; RFC 8037).
fn fitting(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(RSA.to_vec()),
        AlgorithmParameters::EllipticCurve(p) => match p.curve {
            EllipticCurve::P256 => Some(vec![Algorithm::ES256]),
            EllipticCurve::P384 => Some(vec![Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Some(vec![Algorithm::EdDSA]),
        _ => None,
    }
}

fn named(algorithm: Algorithm) -> Option<KeyAlgorithm> {
    Some(match algorithm {
        Algorithm::RS256 => KeyAlgorithm::RS256,
        Algorithm::RS384 => KeyAlgorithm::RS384,
        Algorithm::RS512 => KeyAlgorithm::RS512,
        Algorithm::PS256 => KeyAlgorithm::PS256,
        Algorithm::PS384 => KeyAlgorithm::PS384,
        Algorithm::PS512 => KeyAlgorithm::PS512,
        Algorithm::ES256 => KeyAlgorithm::ES256,
        Algorithm::ES384 => KeyAlgorithm::ES384,
        Algorithm::EdDSA => KeyAlgorithm::EdDSA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::{ED_JWK, RSA_JWK};
    use serde_json::json;

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(&serde_json::to_vec(&json!({ "keys": keys })).unwrap(), None).unwrap()
    }

    fn jwk(text: &str, change: Value) -> Value {
        let mut key: Value = serde_json::from_str(text).unwrap();
        for (name, value) in change.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    #[test]
    fn odd_keys_spoil_no_other() {
        let odd = [
            json!({"kty": "oct", "kid": "h", "alg": "HS256", "k": "a2tra2tra2s"}),
            json!({"kty": "EC", "crv": "secp256k1", "kid": "k1", "x": "AQ", "y": "AQ"}),
            json!({"kty": "EC", "crv": "P-521", "kid": "p5", "x": "AQ", "y": "AQ"}),
            json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AQ"}),
            json!({"kty": "RSA", "kid": "half", "n": "AQAB"}),
            json!({"kty": "new", "kid": "n"}),
            json!({"kid": "nothing"}),
            json!({}),
            json!(7),
            jwk(RSA_JWK, json!({"kid": "enc", "use": "enc"})),
            jwk(RSA_JWK, json!({"kid": "oaep", "alg": "RSA-OAEP"})),
            jwk(RSA_JWK, json!({"kid": "ops", "key_ops": ["encrypt"]})),
        ];
        let mut keys = odd.to_vec();
        keys.push(jwk(RSA_JWK, json!({"kid": "good"})));
        let set = set(&keys);
        assert_eq!(set.len(), 1);
        assert!(matches!(set.select(Some("good"), Algorithm::PS512), Selected::Key(_)));
        assert!(matches!(set.select(Some("enc"), Algorithm::RS256), Selected::Unknown));
    }

    #[test]
    fn a_header_points_at_one_key_or_at_none() {
        let set = set(&[jwk(RSA_JWK, json!({"kid": "r", "alg": "RS256"})), jwk(ED_JWK, json!({"kid": "e"}))]);
        let check = |id, algorithm| match set.select(id, algorithm) {
            Selected::Key(key) => key.id.clone().unwrap(),
            Selected::Unfit => "unfit".into(),
            Selected::Unknown => "unknown".into(),
        };
        assert_eq!(check(Some("r"), Algorithm::RS256), "r");
        assert_eq!(check(Some("r"), Algorithm::PS256), "unfit", "the key is for RS256 alone");
        assert_eq!(check(Some("r"), Algorithm::EdDSA), "unfit");
        assert_eq!(check(Some("x"), Algorithm::RS256), "unknown");
        assert_eq!(check(None, Algorithm::EdDSA), "e", "exactly one key fits");
        assert_eq!(check(None, Algorithm::ES256), "unfit");
    }

    #[test]
    fn a_vanished_key_loses_its_standing() {
        let json = |keys: &[Value]| serde_json::to_vec(&json!({ "keys": keys })).unwrap();
        let (rsa, ed) = (jwk(RSA_JWK, json!({"kid": "r"})), jwk(ED_JWK, json!({"kid": "e"})));
        let first = KeySet::parse(&json(&[rsa, ed.clone()]), None).unwrap();
        let standings: Vec<_> = first.keys.iter().map(|k| k.liveness.clone()).collect();
        let second = KeySet::parse(&json(&[ed]), Some(&first)).unwrap();
        first.retire(&second);
        assert_eq!(standings.iter().map(|s| s.is_good()).collect::<Vec<_>>(), [false, true]);
    }
}
