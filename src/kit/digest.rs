//! Digests in place of values that must not be kept or shown: SHA-256, so that equal digests mean equal bytes.

use aws_lc_rs::digest::{Context, SHA256, digest};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// SHA-256 of a raw credential. Logs show its first 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

/// The first half of a SHA-256 over everything that determines a value, each part prefixed with its length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

/// Collects the parts of a [`Fingerprint`].
pub struct Fingerprinter(Context);

/// A hasher for keys that are digests already: it takes their bytes as they are.
pub type DigestState = BuildHasherDefault<DigestHasher>;

#[derive(Default)]
pub struct DigestHasher(u64);

impl TokenDigest {
    pub fn of(raw: &[u8]) -> Self {
        TokenDigest(first(digest(&SHA256, raw).as_ref()))
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a log line may show of a credential: 8 hex digits of its digest.
    pub fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&first::<4>(&self.0))
    }
}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a SHA-256 are distributed as well as any hash of it.
        state.write_u64(u64::from_le_bytes(first(&self.0)));
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Fingerprint {
    pub fn of() -> Fingerprinter {
        Fingerprinter(Context::new(&SHA256))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Fingerprinter {
    pub fn part(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// A list: its length, then its parts, so that `[a], [b]` and `[a, b], []` differ.
    pub fn parts<T: AsRef<[u8]>>(mut self, list: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> Self {
        let list = list.into_iter();
        self.0.update(&(list.len() as u64).to_le_bytes());
        list.fold(self, |all, one| all.part(one))
    }

    pub fn finish(self) -> Fingerprint {
        Fingerprint(first(self.0.finish().as_ref()))
    }
}

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(23) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The first `N` bytes of something that is at least as long.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_shows_eight_hex_digits() {
        // SHA-256("abc") = ba7816bf...
        assert_eq!(TokenDigest::of(b"abc").short(), "ba7816bf");
        assert_eq!(format!("{:?}", TokenDigest::of(b"abc")), "ba7816bf");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Fingerprint::of().part("ab").part("c").finish();
        let two = Fingerprint::of().part("a").part("bc").finish();
        let three = Fingerprint::of().parts(["a", "b"]).parts([""; 0]).finish();
        let four = Fingerprint::of().parts(["a"]).parts(["b"]).finish();
        assert!(one != two && three != four);
    }
}
