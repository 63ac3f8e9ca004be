//! What this thread has derived from a credential a moment ago, by the credential's bytes: its digest need not be computed
//! again. The caches that are asked with the digest decide as ever; this table holds nothing that could be out of date.

use std::cell::RefCell;
use thread_local::ThreadLocal;
use zeroize::Zeroizing;

/// One table for each thread, of credentials that were good when they were kept.
pub struct Recent<V: Copy + Send>(ThreadLocal<RefCell<Vec<Option<Slot<V>>>>>);

struct Slot<V> {
    credential: Zeroizing<Vec<u8>>,
    value: V,
}

const SLOTS: usize = 256;
/// A longer credential is not kept: a table has 1 MiB at most.
const LONGEST: usize = 4096;

impl<V: Copy + Send> Default for Recent<V> {
    fn default() -> Self {
        Recent(ThreadLocal::new())
    }
}

impl<V: Copy + Send> Recent<V> {
    pub fn find(&self, credential: &[u8]) -> Option<V> {
        let table = self.0.get()?.borrow();
        let slot = table.get(index(credential))?.as_ref()?;
        are_equal(&slot.credential, credential).then_some(slot.value)
    }

    /// In the place of another credential, perhaps. Only for good ones: strangers must not empty the table.
    pub fn keep(&self, credential: &[u8], value: V) {
        if credential.len() > LONGEST {
            return;
        }
        let mut table = self.0.get_or_default().borrow_mut();
        if table.is_empty() {
            table.resize_with(SLOTS, || None);
        }
        if let Some(slot) = table.get_mut(index(credential)) {
            *slot = Some(Slot { credential: Zeroizing::new(credential.to_vec()), value });
        }
    }

    /// A credential that is good no more: its bytes are wiped.
    pub fn forget(&self, credential: &[u8]) {
        let Some(table) = self.0.get() else { return };
        if let Some(slot) = table.borrow_mut().get_mut(index(credential))
            && slot.as_ref().is_some_and(|known| are_equal(&known.credential, credential))
        {
            *slot = None;
        }
    }
}

/// By bytes near the end: of a token, those are its signature's.
fn index(credential: &[u8]) -> usize {
    let end = credential.len().saturating_sub(2);
    let last = credential.get(end.saturating_sub(8)..end).unwrap_or_default();
    let mixed = last.iter().fold(0_u64, |all, byte| (all ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)); // FNV-1a
    (mixed >> 16) as usize % SLOTS
}

/// Without an early exit: how long it takes tells nothing about where two credentials differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (ones, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let words = ones.iter().zip(others).fold(0, |all, (a, b)| all | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    let bytes = rest.iter().zip(other_rest).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(words | u64::from(bytes)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_by_all_of_its_bytes() {
        let recent = Recent::default();
        let credential = b"eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJlLW9mLWEtdG9rZW4".to_vec();
        assert_eq!(recent.find(&credential), None);
        recent.keep(&credential, 7);
        assert_eq!(recent.find(&credential), Some(7));
        for at in 0..credential.len() {
            let mut other = credential.clone();
            other[at] ^= 1;
            assert_eq!(recent.find(&other), None, "{at}");
            recent.forget(&other);
        }
        assert_eq!(recent.find(&credential[..credential.len() - 1]), None);
        assert_eq!(recent.find(&credential), Some(7), "nothing forgot it");
        recent.forget(&credential);
        assert_eq!(recent.find(&credential), None);
        recent.keep(&vec![b'x'; LONGEST + 1], 8);
        assert_eq!(recent.find(&vec![b'x'; LONGEST + 1]), None);
        for short in [&b""[..], b"a", b"ab", b"abc"] {
            recent.keep(short, short.len());
            assert_eq!(recent.find(short), Some(short.len()));
        }
    }

    #[test]
    fn each_thread_has_its_own_table_and_the_table_is_bounded() {
        let recent = Recent::default();
        let credential = |n: u32| crate::kit::digest::TokenDigest::of(&n.to_le_bytes()).bytes().to_vec();
        (0..10_000).for_each(|n| recent.keep(&credential(n), n));
        let kept = (0..10_000).filter(|n| recent.find(&credential(*n)) == Some(*n)).count();
        assert!((SLOTS / 2..=SLOTS).contains(&kept), "{kept}");
        std::thread::scope(|scope| {
            scope.spawn(|| assert!((0..10_000).all(|n| recent.find(&credential(n)).is_none())));
        });
    }
}
