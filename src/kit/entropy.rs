//! Random bytes from the system, behind a trait so that tests can predict ids.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use parking_lot::Mutex;
use std::sync::Arc;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's random bytes, through aws-lc.
#[derive(Default)]
pub struct SystemEntropy(SystemRandom);

impl Entropy for SystemEntropy {
    #[allow(clippy::expect_used)] // without entropy nothing here is safe; aws-lc itself aborts where it has none
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the system gives random bytes");
    }
}

/// Ids of 128 random bits, generated in batches: each request needs one, and the system's generator is slow. Not for
/// secrets: ids generated ahead lie in memory.
pub struct Ids {
    entropy: Arc<dyn Entropy>,
    ahead: Mutex<Vec<[u8; 16]>>,
}

const DRAWN: usize = 256;

impl Ids {
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Ids { entropy, ahead: Mutex::default() }
    }

    pub fn next(&self) -> [u8; 16] {
        let mut ahead = self.ahead.lock();
        if ahead.is_empty() {
            let mut bytes = [0; 16 * DRAWN];
            self.entropy.fill(&mut bytes);
            ahead.extend_from_slice(bytes.as_chunks().0);
        }
        ahead.pop().unwrap_or_default() // it is not empty here
    }
}

#[cfg(test)]
pub(crate) mod test {
    use super::Entropy;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Fills each buffer with the next number.
    #[derive(Default)]
    pub(crate) struct Counted(AtomicU8);

    impl Entropy for Counted {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        }
    }
}
