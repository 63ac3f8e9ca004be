//! File descriptors: how many the system allows, and how listeners share them. A client connection and the upstream
//! connection of its request take one each; others are reserved for the admin listener, the store, providers and files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Reserved: 256 for connections of the admin listener, the rest for the store, providers, files and listeners.
const KEPT: u64 = 256 + 128;
/// Never fewer client connections, however low the limit: they then use some of the reserved descriptors.
const FEWEST: usize = 32;

/// Raises the soft limit to the hard one; returns the resulting limit.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// How many of the `wanted` client connections each listener may accept, counting an upstream connection for each.
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
