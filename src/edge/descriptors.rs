//! Descriptors: as many as the system lets this process have, and how they are shared. A connection of a client and that of
//! its request to the app take one each; what is left over is for the admin listener, the store, the providers and files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is kept back: 256 connections of the admin listener, and the store, providers, files and listeners.
const KEPT: u64 = 256 + 128;
/// Never fewer, whatever the system says: then some of what is kept back is used.
const FEWEST: usize = 32;

/// Raises the soft limit to the hard one; what it is then.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// OpenConnections of clients that there is room for, each with one to an app: of `wanted` on each listener, these.
pub fn shares(limit: u64, wanted: &[usize]) -> Vec<usize> {
    let room = usize::try_from(limit.saturating_sub(KEPT) / 2).unwrap_or(usize::MAX).max(FEWEST);
    let all: usize = wanted.iter().fold(0_usize, |all, one| all.saturating_add(*one)).max(1);
    if all <= room {
        return wanted.to_vec();
    }
    let share = |one: &usize| usize::try_from(room as u128 * *one as u128 / all as u128).unwrap_or(room);
    wanted.iter().map(|one| share(one).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_what_is_there() {
        assert_eq!(shares(1 << 20, &[10_000, 10_000]), [10_000, 10_000]);
        assert_eq!(shares(1024, &[10_000]), [320]);
        assert_eq!(shares(1024, &[10_000, 10_000]), [160, 160]);
        assert_eq!(shares(1024, &[30_000, 10_000, 0]), [240, 80, 1]);
        assert_eq!(shares(64, &[10_000]), [32]);
        assert_eq!(shares(1024, &[100]), [100]);
    }
}
