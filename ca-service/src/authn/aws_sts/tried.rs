//! Proofs that were shown lately, in memory: so that one that was refused is not asked about again.
//! It is a saving, not the guard: what makes a proof count once is its durable claim, which is made
//! together with the session's record. What strangers invent costs no disk (threats G-14).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use eic_protocol::proof::aws_sts::MAX_AGE;

/// Digests of one generation: two of them take some 8 MiB at most.
const MAX: usize = 65_536;
/// How long a generation grows. Seconds; a proof may be shown for MAX_AGE before and after its date.
const GENERATION: u64 = 2 * MAX_AGE;

/// Two generations of digests.
#[derive(Default)]
pub(super) struct Tried(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    since: u64,
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Tried {
    /// Whether this digest is new here. `now` is in Unix seconds.
    pub(super) fn is_first(&self, digest: [u8; 32], now: u64) -> bool {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= MAX || now.abs_diff(generations.since) >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
            generations.since = now;
        }
        !generations.old.contains(&digest) && generations.young.insert(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_le_bytes());
        digest
    }

    #[test]
    fn a_digest_is_known_for_as_long_as_its_proof_could_be_shown() {
        let tried = Tried::default();
        assert!(tried.is_first(digest(1), 1_000));
        for later in [1_000, 1_000 + MAX_AGE, 1_000 + 2 * MAX_AGE] {
            assert!(!tried.is_first(digest(1), later), "{later}");
        }
    }

    #[test]
    fn a_flood_takes_bounded_memory() {
        // G-14
        let tried = Tried::default();
        for n in 0..3 * MAX {
            let _ = tried.is_first(digest(n), 1_000);
        }
        let generations = tried.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * MAX);
    }
}
