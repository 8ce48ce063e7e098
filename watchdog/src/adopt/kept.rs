//! Work that is kept from the process, on its way from the watch loop to the adopter, which writes
//! it into the segment. Neither waits for the other: the loop stores words, and the adopter reads
//! them on its next round.

use std::sync::atomic::{AtomicU64, Ordering};

use shard_heartbeat::Quarantine;
use shard_heartbeat::layout::MAX_QUARANTINE;

/// The words. 0 is not a key, so a list needs no length.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Odd while the loop changes them.
    version: AtomicU64,
    keys: [AtomicU64; MAX_QUARANTINE],
}

impl Kept {
    /// Sets the keys; for the loop.
    pub(super) fn set(&self, keys: &[u64]) {
        let kept = Quarantine::of(keys);
        let all = kept.keys().iter().copied().chain(std::iter::repeat(0));
        self.version.fetch_add(1, Ordering::AcqRel);
        for (place, key) in self.keys.iter().zip(all) {
            place.store(key, Ordering::Release);
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Reads the keys; for the adopter. `None` while they are being changed: try again later.
    pub(super) fn get(&self) -> Option<Quarantine> {
        let before = self.version.load(Ordering::Acquire);
        let keys: [u64; MAX_QUARANTINE] =
            std::array::from_fn(|at| self.keys.get(at).map_or(0, |key| key.load(Ordering::Acquire)));
        let whole = before & 1 == 0 && self.version.load(Ordering::Acquire) == before;
        whole.then(|| Quarantine::of(&keys))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_the_loop_sets_is_what_the_adopter_gets() {
        let kept = Kept::default();
        assert_eq!(kept.get(), Some(Quarantine::default()));
        for keys in [&[7, 8, 9][..], &[8], &[], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] {
            kept.set(keys);
            assert_eq!(kept.get(), Some(Quarantine::of(keys)));
        }
    }

    #[test]
    fn half_a_list_is_never_read() {
        let kept = Arc::new(Kept::default());
        let written = Arc::clone(&kept);
        let writer = std::thread::spawn(move || {
            (0..20_000_u64).for_each(|round| written.set(&[round + 1; MAX_QUARANTINE]));
        });
        while !writer.is_finished() {
            if let Some(read) = kept.get() {
                assert!(read.keys().windows(2).all(|pair| pair.first() == pair.last()), "{read:?}");
            }
        }
    }
}
