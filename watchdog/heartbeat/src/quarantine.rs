//! Work that the watchdog asks this process not to take: keys that were in flight at the death of
//! more than one of its incarnations. A few words in the header, written by the sidecar alone.
//!
//! Advice and no order: it costs whoever follows it the work, never the truth, so a list that is
//! stale or absurd does little harm.

use crate::layout::{H_QUARANTINE, H_QUARANTINE_KEYS, H_QUARANTINE_LEN, MAX_QUARANTINE, word};
use crate::seqlock;
use crate::sync::Ordering;
use crate::words::Words;

/// Words after the sequence.
const BODY_WORDS: usize = 1 + MAX_QUARANTINE;
const _: () = assert!(H_QUARANTINE_KEYS - H_QUARANTINE_LEN == 8);

/// The work keys in quarantine, of which 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    keys: [u64; MAX_QUARANTINE],
    len: usize,
}

impl Quarantine {
    /// Of `keys` those that are none are left out, and all beyond the last eight.
    pub fn of(keys: &[u64]) -> Quarantine {
        let mut all = Quarantine::default();
        let some = keys.iter().rev().filter(|key| **key != 0);
        for (place, key) in all.keys.iter_mut().zip(some) {
            *place = *key;
            all.len += 1;
        }
        all.keys[..all.len].reverse();
        all
    }

    /// The keys, the oldest first.
    pub fn keys(&self) -> &[u64] {
        &self.keys[..self.len]
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: u64) -> bool {
        self.keys().contains(&key)
    }

    /// How the sidecar writes it, after the sequence.
    pub(crate) fn to_words(self) -> [u64; BODY_WORDS] {
        let mut words = [0; BODY_WORDS];
        words[0] = self.len as u64;
        words[1..].copy_from_slice(&self.keys);
        words
    }

    /// Takes apart what anybody may have written.
    fn from_words(words: &[u64; BODY_WORDS]) -> Quarantine {
        let len = usize::try_from(words[0]).unwrap_or(usize::MAX).min(MAX_QUARANTINE);
        Quarantine::of(&words[1..=len])
    }
}

/// What stands in the segment of this process; empty if a sidecar stopped in the middle of a
/// change.
pub(crate) fn look(segment: &Words) -> Quarantine {
    let load = |at: usize| segment[word(H_QUARANTINE) + at].load(Ordering::Relaxed);
    let read =
        read(|| Ok::<_, std::convert::Infallible>(load(0)), || Ok(std::array::from_fn(|at| load(1 + at))));
    match read {
        Ok(quarantine) => quarantine,
        Err(never) => match never {},
    }
}

/// The same by whatever way the reader has to `sequence` and the words after it.
pub(crate) fn read<E>(
    sequence: impl FnMut() -> Result<u64, E>,
    body: impl FnMut() -> Result<[u64; BODY_WORDS], E>,
) -> Result<Quarantine, E> {
    Ok(seqlock::read(sequence, body)?.as_ref().map(Quarantine::from_words).unwrap_or_default())
}

/// Puts into a new segment, which nobody else sees yet, what stood in the one that it replaces:
/// until a sidecar has found it, it is all that the process has to go by.
pub(crate) fn take_over(segment: &Words, before: Quarantine) {
    for (at, value) in before.to_words().into_iter().enumerate() {
        segment[word(H_QUARANTINE_LEN) + at].store(value, Ordering::Relaxed);
    }
}

/// The sequence before and after a change, from what was found: one that a sidecar left odd is
/// taken on.
pub(crate) const fn sequence_after(found: u64) -> (u64, u64) {
    let begun = found | 1;
    (begun, begun.wrapping_add(1))
}
