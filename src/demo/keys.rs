//! The provider's signing keys, made anew at every start, and signing with them. It writes the JOSE header itself, so
//! that a test can ask for one that no library would produce. It must not know what the claims mean.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Map, Value, json};

/// The JOSE algorithms that the provider signs with (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    #[default]
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

/// One generation of keys. RS256 and PS256 share their RSA key under two key ids: making one takes the longest.
pub(super) struct KeySet {
    generation: String,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl SigningAlgorithm {
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    /// The value of `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl KeySet {
    /// Takes some tenths of a second in a debug build, for the RSA key.
    pub(super) fn generate() -> Self {
        Self {
            // Random, so that a provider started again on the same port never reuses a key id for another key.
            generation: random_hex::<6>(),
            rsa: sound(RsaKeyPair::generate(KeySize::Rsa2048)),
            ec: sound(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            ed: sound(Ed25519KeyPair::generate()),
        }
    }

    pub(super) fn kid(&self, algorithm: SigningAlgorithm) -> String {
        format!("{}-{}", algorithm.name().to_ascii_lowercase(), self.generation)
    }

    /// The public halves as JSON Web Keys (RFC 7517).
    pub(super) fn public_jwks(&self) -> Vec<Value> {
        SigningAlgorithm::ALL.into_iter().map(|algorithm| self.public_jwk(algorithm)).collect()
    }

    /// A compact JWS. `header` stands over `alg`, `kid` and `typ`; a null there removes the parameter.
    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        typ: &str,
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
    ) -> String {
        let mut parameters = Map::new();
        parameters.insert("alg".to_owned(), algorithm.name().into());
        parameters.insert("kid".to_owned(), self.kid(algorithm).into());
        parameters.insert("typ".to_owned(), typ.into());
        override_members(&mut parameters, header);
        let message = format!("{}.{}", base64url_json(parameters), base64url_json(claims.clone()));
        let signature = self.signature(algorithm, message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn public_jwk(&self, algorithm: SigningAlgorithm) -> Value {
        let mut key = match algorithm {
            SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => rsa_parameters(&self.rsa),
            SigningAlgorithm::Es256 => ec_parameters(&self.ec),
            SigningAlgorithm::EdDsa => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(self.ed.public_key().as_ref())})
            }
        };
        if let Some(key) = key.as_object_mut() {
            key.insert("kid".to_owned(), self.kid(algorithm).into());
            key.insert("alg".to_owned(), algorithm.name().into());
            key.insert("use".to_owned(), "sig".into());
        }
        key
    }

    fn signature(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        match algorithm {
            SigningAlgorithm::Rs256 => rsa_signature(&self.rsa, &RSA_PKCS1_SHA256, message),
            SigningAlgorithm::Ps256 => rsa_signature(&self.rsa, &RSA_PSS_SHA256, message),
            SigningAlgorithm::Es256 => sound(self.ec.sign(&SystemRandom::new(), message)).as_ref().to_vec(),
            SigningAlgorithm::EdDsa => self.ed.sign(message).as_ref().to_vec(),
        }
    }
}

/// Sets each member of `overrides` in `object`; a null removes the member instead.
pub(super) fn override_members(object: &mut Map<String, Value>, overrides: &Map<String, Value>) {
    for (name, value) in overrides {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
}

/// `BYTES` random bytes in lower-case hexadecimal: ids, secrets and opaque tokens.
pub(super) fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    sound(aws_lc_rs::rand::fill(&mut bytes));
    HEXLOWER.encode(&bytes)
}

/// The library fails only for a bad key, a bad length or a system without randomness: the keys and lengths are our
/// own, and without randomness there is nothing to go on with.
#[expect(clippy::expect_used, reason = "the invariant above")]
fn sound<T>(result: Result<T, Unspecified>) -> T {
    result.expect("aws-lc works on keys of its own making")
}

fn base64url_json(object: Map<String, Value>) -> String {
    BASE64URL_NOPAD.encode(Value::Object(object).to_string().as_bytes())
}

fn rsa_signature(key: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    sound(key.sign(encoding, &SystemRandom::new(), message, &mut signature));
    signature
}

fn rsa_parameters(key: &RsaKeyPair) -> Value {
    // The key is a DER RSAPublicKey (RFC 8017 A.1.1). Of 2048 bits with exponent 65537 its form is fixed: 9 bytes of
    // headers (a sign byte included), the modulus, and 5 bytes of exponent. `modulus()` would need a feature of
    // aws-lc-rs that this package does not turn on.
    let der = key.public_key().as_ref();
    let modulus = der.get(9..der.len().saturating_sub(5)).unwrap_or_default();
    json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(modulus), "e": "AQAB"})
}

fn ec_parameters(key: &EcdsaKeyPair) -> Value {
    // An uncompressed point (SEC 1, 2.3.3): 0x04, then x and y of 32 bytes each.
    let point = key.public_key().as_ref();
    let coordinate = |range| BASE64URL_NOPAD.encode(point.get(range).unwrap_or_default());
    json!({"kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..65)})
}
