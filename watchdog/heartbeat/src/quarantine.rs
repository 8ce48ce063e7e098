//! Work that the watchdog asks this process not to take: keys that were in flight at the death of
//! more than one of its incarnations. They are a few words in the header, written only by the
//! sidecar.
//!
//! It is advice, not an order: a process that follows it skips work but computes nothing wrong, so
//! a stale or absurd list does little harm.

use crate::layout::{H_QUARANTINE, H_QUARANTINE_KEYS, H_QUARANTINE_LEN, MAX_QUARANTINE, word};
use crate::seqlock;
use crate::sync::Ordering;
use crate::words::Words;

/// Number of words after the sequence word.
const BODY_WORDS: usize = 1 + MAX_QUARANTINE;
const _: () = assert!(H_QUARANTINE_KEYS - H_QUARANTINE_LEN == 8);

/// The work keys in quarantine; 0 is not a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    keys: [u64; MAX_QUARANTINE],
    len: usize,
}

impl Quarantine {
    /// Takes the last eight of `keys`, not counting zeroes.
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

    /// The words that the sidecar writes after the sequence word.
    pub(crate) fn to_words(self) -> [u64; BODY_WORDS] {
        let mut words = [0; BODY_WORDS];
        words[0] = self.len as u64;
        words[1..].copy_from_slice(&self.keys);
        words
    }

    /// Decodes words that anybody may have written.
    fn from_words(words: &[u64; BODY_WORDS]) -> Quarantine {
        let len = usize::try_from(words[0]).unwrap_or(usize::MAX).min(MAX_QUARANTINE);
        Quarantine::of(&words[1..=len])
    }
}

/// Reads the quarantine from this process's segment; empty if a sidecar stopped in the middle of a
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

/// Reads it by whatever means the reader has: `sequence` loads the sequence word, `body` the words
/// after it.
pub(crate) fn read<E>(
    sequence: impl FnMut() -> Result<u64, E>,
    body: impl FnMut() -> Result<[u64; BODY_WORDS], E>,
) -> Result<Quarantine, E> {
    Ok(seqlock::read(sequence, body)?.as_ref().map(Quarantine::from_words).unwrap_or_default())
}

/// Copies the quarantine of the replaced segment into a new one that nobody else sees yet: until a
/// sidecar finds the new segment, the process has nothing else to go by.
pub(crate) fn take_over(segment: &Words, before: Quarantine) {
    for (at, value) in before.to_words().into_iter().enumerate() {
        segment[word(H_QUARANTINE_LEN) + at].store(value, Ordering::Relaxed);
    }
}

/// The sequence during and after a change, from the value found; one that a sidecar left odd is
/// continued.
pub(crate) const fn sequence_after(found: u64) -> (u64, u64) {
    let begun = found | 1;
    (begun, begun.wrapping_add(1))
}
