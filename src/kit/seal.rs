//! Sealing: authenticated encryption under a secret (AES-256-GCM, keys by HKDF-SHA256). A purpose is part of every key:
//! bytes sealed for one purpose cannot be opened for another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// One secret, or several: the first seals, all open.
#[derive(Clone)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

/// The bytes were sealed with another secret or for another purpose, or were changed.
#[derive(Debug, PartialEq, Eq)]
pub struct NotOurs;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secrets {
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Secrets(secrets.into_iter().map(Zeroizing::new).collect())
    }

    /// Seals under a key derived from the first secret, `salt` and `purpose`; `beside` is authenticated, not encrypted.
    pub fn seal(&self, salt: &[u8], purpose: &[&[u8]], beside: &[u8], plain: &[u8]) -> Result<Vec<u8>, NotOurs> {
        let key = key(self.0.first().ok_or(NotOurs)?, salt, purpose)?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(beside), &mut sealed).map_err(|_| NotOurs)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    pub fn open(
        &self,
        salt: &[u8],
        purpose: &[&[u8]],
        beside: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOurs> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(NotOurs)?;
        self.0
            .iter()
            .find_map(|secret| open_with(&key(secret, salt, purpose).ok()?, nonce, beside, sealed))
            .ok_or(NotOurs)
    }

    /// The one that seals, alone.
    pub fn first(&self) -> Secrets {
        Secrets(self.0.first().cloned().into_iter().collect())
    }

    /// A keyed digest: without the secret, guesses of its input cannot be checked.
    pub fn digest(&self, purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
        let empty = Vec::new();
        let secret: &[u8] = self.0.first().map_or(&empty, |secret| secret);
        derive(secret, purpose, &[bytes])
    }

    /// The same under each of the secrets.
    pub fn digests(&self, purpose: &[u8], bytes: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        self.0.iter().map(move |secret| derive(secret, purpose, &[bytes]))
    }
}

/// Derives 32 bytes from a secret, a purpose and `parts` (HMAC-SHA256); they reveal nothing of the secret.
pub fn derive(secret: &[u8], purpose: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in [purpose].iter().chain(parts) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

fn key(secret: &[u8], salt: &[u8], purpose: &[&[u8]]) -> Result<RandomizedNonceKey, NotOurs> {
    let mut bytes = Zeroizing::new([0; 32]);
    let pseudo_random = Salt::new(HKDF_SHA256, salt).extract(secret);
    pseudo_random.expand(purpose, Length(32)).and_then(|key| key.fill(bytes.as_mut())).map_err(|_| NotOurs)?;
    RandomizedNonceKey::new(&AES_256_GCM, bytes.as_ref()).map_err(|_| NotOurs)
}

fn open_with(key: &RandomizedNonceKey, nonce: &[u8], beside: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(nonce, Aad::from(beside), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_holder_alone() {
        let ours = Secrets::new([b"first secret".to_vec(), b"second".to_vec()]);
        let sealed = ours.seal(b"salt", &[b"flow"], b"beside", b"plain").unwrap();
        let open = |who: &Secrets, salt: &[u8], purpose: &[u8], beside: &[u8], sealed: &[u8]| {
            who.open(salt, &[purpose], beside, sealed).map(|plain| plain.to_vec())
        };
        assert_eq!(open(&ours, b"salt", b"flow", b"beside", &sealed).as_deref(), Ok(&b"plain"[..]));
        let rotated = Secrets::new([b"newer".to_vec(), b"first secret".to_vec()]);
        assert_eq!(open(&rotated, b"salt", b"flow", b"beside", &sealed).as_deref(), Ok(&b"plain"[..]), "all open");
        let stranger = Secrets::new([b"stranger".to_vec()]);
        assert_eq!(open(&stranger, b"salt", b"flow", b"beside", &sealed), Err(NotOurs));
        for (salt, purpose, beside) in
            [(&b"x"[..], &b"flow"[..], &b"beside"[..]), (b"salt", b"x", b"beside"), (b"salt", b"flow", b"x")]
        {
            assert_eq!(open(&ours, salt, purpose, beside, &sealed), Err(NotOurs));
        }
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(open(&ours, b"salt", b"flow", b"beside", &changed), Err(NotOurs));
            assert_eq!(open(&ours, b"salt", b"flow", b"beside", &sealed[..i]), Err(NotOurs));
        }
        assert_ne!(sealed, ours.seal(b"salt", &[b"flow"], b"beside", b"plain").unwrap(), "each time another nonce");
    }

    #[test]
    fn digests_are_keyed() {
        let (one, two) = (Secrets::new([b"a".to_vec()]), Secrets::new([b"b".to_vec()]));
        assert_ne!(one.digest(b"user", b"alice"), two.digest(b"user", b"alice"));
        assert_ne!(one.digest(b"user", b"alice"), one.digest(b"sub", b"alice"));
        assert_eq!(one.digest(b"user", b"alice"), one.digest(b"user", b"alice"));
    }
}
