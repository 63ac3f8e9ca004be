//! Random bytes from the system, behind a seam so that tests can predict ids.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Fills a buffer with bytes that nobody can guess.
pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's, by way of aws-lc.
#[derive(Default)]
pub struct SystemEntropy(SystemRandom);

impl Entropy for SystemEntropy {
    #[allow(clippy::expect_used)] // without entropy nothing here is safe; aws-lc itself aborts where it has none
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the system gives random bytes");
    }
}

#[cfg(test)]
pub(crate) mod test {
    use super::Entropy;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Every buffer is filled with the next number.
    #[derive(Default)]
    pub(crate) struct Counted(AtomicU8);

    impl Entropy for Counted {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        }
    }
}
