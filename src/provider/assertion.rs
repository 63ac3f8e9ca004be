//! Client authentication with a key (RFC 7523, 2.2): assertions signed with the gateway's own key.

use crate::kit::clock::Clock;
use crate::kit::secret::Secret;
use crate::kit::setting::text_or_map;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::fmt;
use std::sync::Arc;

/// A usable signing key; only [`SigningKey::read`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "Written")]
pub struct SigningKey {
    pem: Secret,
    algorithm: Algorithm,
    kid: String,
    /// The SHA-256 thumbprint of its certificate (RFC 7515, 4.1.8).
    x5t_s256: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the forms of a key, for the schema")]
enum Written {
    Pem(String),
    Full(WrittenKey),
}

/// A key in the configuration; a string is the key alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    /// PEM text.
    key: Secret,
    /// Its id at the provider; absent: its thumbprint (RFC 7638).
    #[serde(default)]
    kid: Option<String>,
    /// PEM text; adds `x5t#S256`.
    #[serde(default)]
    certificate: Option<String>,
}

/// Why a key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// A PEM format older than PKCS #8.
    OldForm,
    Unreadable,
    /// Not a certificate in PEM form, or one of another key.
    Certificate,
}

/// An assertion's life (RFC 7523, 3): long enough for a slow clock, too short to be worth stealing.
const ASSERTION_SECONDS: i64 = 60;

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadKey::OldForm => "is a key in a form that cannot sign here; `openssl pkcs8 -topk8 -nocrypt -in key.pem` converts it",
            BadKey::Unreadable => "is not a private key that signs (RSA, P-256, P-384 or Ed25519, in PEM form); `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one",
            BadKey::Certificate => "has a `certificate` that cannot be read or is not of this key",
        })
    }
}

/// Redacted, as a secret is.
impl Serialize for SigningKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pem.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SigningKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            |pem| SigningKey::read(pem, None, None).map_err(|bad| bad.to_string()),
            |own: WrittenKey| {
                SigningKey::read(own.key.expose(), own.kid.as_deref(), own.certificate.as_deref())
                    .map_err(|bad| bad.to_string())
            },
        )
    }
}

impl SigningKey {
    /// Reads a key and signs with it as a test. `kid`: by default the thumbprint (RFC 7638).
    pub fn read(pem: &str, kid: Option<&str>, certificate: Option<&str>) -> Result<Self, BadKey> {
        let candidates = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
        let signs = |algorithm: &Algorithm| {
            let key = encoding_key(pem, *algorithm)?;
            jsonwebtoken::crypto::sign(b"a try", &key, *algorithm).ok()?;
            Some((key, *algorithm))
        };
        let found = candidates.iter().find_map(signs);
        let is_old = ["EC PRIVATE KEY", "RSA PRIVATE KEY"].iter().any(|form| pem.contains(form));
        let (key, algorithm) = found.ok_or(if is_old { BadKey::OldForm } else { BadKey::Unreadable })?;
        let jwk = Jwk::from_encoding_key(&key, algorithm).map_err(|_| BadKey::Unreadable)?;
        let x5t_s256 = certificate.map(|certificate| fingerprint(certificate, pem)).transpose()?;
        let kid = match kid {
            Some(kid) => kid.to_string(),
            None => jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| BadKey::Unreadable)?,
        };
        Ok(SigningKey { pem: pem.to_string().into(), algorithm, kid, x5t_s256 })
    }

    /// An assertion of this client for this audience.
    pub(super) fn assertion(&self, client_id: &str, audience: &str, clock: &Arc<dyn Clock>) -> Option<String> {
        let key = encoding_key(self.pem.expose(), self.algorithm)?;
        let now = clock.now().seconds();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + ASSERTION_SECONDS,
            "jti": BASE64URL_NOPAD.encode(&id),
        });
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.clone());
        header.x5t_s256.clone_from(&self.x5t_s256);
        jsonwebtoken::encode(&header, &claims, &key).ok()
    }
}

fn encoding_key(pem: &str, algorithm: Algorithm) -> Option<EncodingKey> {
    let pem = pem.as_bytes();
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem).ok(),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem).ok(),
        _ => EncodingKey::from_ed_pem(pem).ok(),
    }
}

/// The digest of a certificate; it must be that of this key.
fn fingerprint(certificate: &str, pem: &str) -> Result<String, BadKey> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| BadKey::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadKey::Unreadable)?;
    let fingerprint = BASE64URL_NOPAD.encode(digest(&SHA256, &der).as_ref());
    // `from_der` checks that key and certificate match.
    CertifiedKey::from_der(vec![der], key, &default_provider()).map_err(|_| BadKey::Certificate)?;
    Ok(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::test::SetClock;
    use crate::provider::fake::NOW;
    use serde_json::Value;

    const RSA: &str = include_str!("testdata/rsa.pem");
    const P256: &str = include_str!("testdata/p256.pem");
    const ED: &str = include_str!("testdata/ed25519.pem");

    fn parts(key: &SigningKey) -> (Value, Value) {
        let clock: Arc<dyn Clock> = Arc::new(SetClock::at(NOW));
        let assertion = key.assertion("doorward", "https://id.test/token", &clock).unwrap();
        let mut parts = assertion.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap());
        let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
        (json(), json())
    }

    #[test]
    fn every_kind_of_key_signs_and_has_a_name() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        for (pem, algorithm) in [(RSA, "RS256"), (P256, "ES256"), (&p384, "ES384"), (ED, "EdDSA")] {
            let (header, claims) = parts(&SigningKey::read(pem, None, None).unwrap());
            assert_eq!(header["alg"], algorithm);
            assert_eq!(header["kid"].as_str().map(str::len), Some(43), "{algorithm}: an RFC 7638 thumbprint");
            assert_eq!((&claims["aud"], &claims["exp"]), (&json!("https://id.test/token"), &json!(NOW + 60)));
            let (header, _) = parts(&SigningKey::read(pem, Some("mine"), None).unwrap());
            assert_eq!((&header["kid"], header.get("x5t#S256")), (&json!("mine"), None));
        }
    }

    #[test]
    fn a_certificate_is_named_by_its_digest() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["client".into()]).unwrap().self_signed(&pair).unwrap();
        let key = SigningKey::read(&pair.serialize_pem(), None, Some(&certificate.pem())).unwrap();
        let expected = BASE64URL_NOPAD.encode(digest(&SHA256, certificate.der()).as_ref());
        assert_eq!(parts(&key).0["x5t#S256"], expected);
        for other in [P256, ED] {
            assert_eq!(SigningKey::read(other, None, Some(&certificate.pem())), Err(BadKey::Certificate));
        }
        assert_eq!(SigningKey::read(RSA, None, Some("no certificate")), Err(BadKey::Certificate));
    }

    #[test]
    fn what_cannot_sign_is_told() {
        let old = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIA==
-----END EC PRIVATE KEY-----
";
        assert_eq!(SigningKey::read(old, None, None), Err(BadKey::OldForm));
        for bad in [
            "",
            "no PEM",
            "-----BEGIN PRIVATE KEY-----
AAAA
-----END PRIVATE KEY-----
",
        ] {
            assert_eq!(SigningKey::read(bad, None, None), Err(BadKey::Unreadable), "{bad}");
        }
    }
}
