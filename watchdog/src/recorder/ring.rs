//! The ring: sixteen chunks of memory, each readable without the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Monotonic;

use super::wire::Out;

/// How far back a recording must reach: several times any sensible threshold, and long enough to
/// show what came before.
pub const KEEP: Duration = Duration::from_secs(60);
/// A chunk covers at most this much time, so that a quiet ring forgets in steps of 1/12 of what it
/// retains.
const CHUNK_TIME: Duration = Duration::from_secs(5);
/// A chunk holds at most this many bytes: enough for its first observation, which is written in
/// full, with 2,000 threads.
pub const CHUNK_BYTES: usize = 128 << 10;
/// All memory of the ring, 2 MiB, including chunks that are lent out.
pub const CHUNKS: usize = 16;

/// Bytes of one chunk.
pub type Chunk = Vec<u8>;

/// A chunk with contents.
#[derive(Clone, Debug)]
pub struct Written {
    /// Time of its first observation.
    pub begin: Monotonic,
    /// Number of observations in it.
    pub looks: u32,
    /// Its bytes.
    pub chunk: Arc<Chunk>,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    /// Complete chunks, oldest first.
    sealed: VecDeque<Written>,
    /// How many of the latest have not been returned by [`Ring::take_whole`] yet.
    fresh: usize,
    current: Option<Written>,
    /// Unused chunks; some may still be read through an excerpt. The last one is used first, so
    /// that a quiet ring never touches most of its memory.
    spare: Vec<Arc<Chunk>>,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            sealed: VecDeque::with_capacity(CHUNKS),
            fresh: 0,
            current: None,
            spare: (0..CHUNKS).map(|_| Arc::new(Vec::with_capacity(CHUNK_BYTES))).collect(),
        }
    }
}

impl Ring {
    /// Whether an observation at `at` still belongs to the current chunk.
    pub fn wants_no_other(&self, at: Monotonic) -> bool {
        self.current.as_ref().is_some_and(|current| at.since(current.begin) < CHUNK_TIME)
    }

    /// Appends what `encode` writes to the current chunk: all of it, or nothing if it does not fit.
    pub fn append(&mut self, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let Some(chunk) = self.current.as_mut().and_then(|current| Arc::get_mut(&mut current.chunk)) else {
            return false;
        };
        let before = chunk.len();
        let mut out = Out::new(chunk, CHUNK_BYTES);
        encode(&mut out);
        let fits = !out.is_full();
        if !fits {
            chunk.truncate(before);
        }
        fits
    }

    /// Counts an observation that was appended to the current chunk.
    pub const fn count_look(&mut self) {
        if let Some(current) = &mut self.current {
            current.looks = current.looks.saturating_add(1);
        }
    }

    /// Ends the current chunk.
    pub fn seal(&mut self) {
        if let Some(chunk) = self.current.take() {
            self.sealed.push_back(chunk);
            self.fresh = (self.fresh + 1).min(self.sealed.len());
        }
    }

    /// The oldest complete chunk that was not returned yet.
    pub fn take_whole(&mut self) -> Option<Written> {
        let place = self.sealed.len().checked_sub(self.fresh)?;
        let whole = self.sealed.get(place).cloned()?;
        self.fresh = self.fresh.saturating_sub(1);
        Some(whole)
    }

    /// A copy of the current chunk.
    pub fn copy_current(&self) -> Option<Arc<Chunk>> {
        self.current.as_ref().map(|current| Arc::new(Chunk::clone(&current.chunk)))
    }

    /// Begins a chunk whose first observation is at `at`, and releases what is too old. False if
    /// all memory is in use.
    pub fn begin(&mut self, at: Monotonic) -> bool {
        self.seal();
        // The oldest chunk is needed as long as the one after it began within the retained time.
        while self.sealed.get(1).is_some_and(|second| at.since(second.begin) >= KEEP) {
            self.let_go();
        }
        let mut spare = self.take_spare();
        while spare.is_none() && self.let_go() {
            spare = self.take_spare();
        }
        self.current = spare.map(|chunk| Written { begin: at, looks: 0, chunk });
        self.current.is_some()
    }

    /// Releases the current chunk: nothing fits into it.
    pub fn abandon(&mut self) {
        self.spare.extend(self.current.take().map(|current| current.chunk));
    }

    fn let_go(&mut self) -> bool {
        let oldest = self.sealed.pop_front();
        let any = oldest.is_some();
        self.fresh = self.fresh.min(self.sealed.len());
        self.spare.extend(oldest.map(|oldest| oldest.chunk));
        any
    }

    fn take_spare(&mut self) -> Option<Arc<Chunk>> {
        let place = self.spare.iter_mut().rposition(|chunk| Arc::get_mut(chunk).is_some())?;
        let mut chunk = self.spare.swap_remove(place);
        Arc::get_mut(&mut chunk)?.clear();
        Some(chunk)
    }

    /// Every complete chunk, oldest first.
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.sealed.iter().map(|sealed| Arc::clone(&sealed.chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn fill(ring: &mut Ring, at: u64) -> bool {
        ring.begin(Monotonic(at)) && ring.append(|out| out.varint(at))
    }

    #[test]
    fn a_ring_keeps_its_time_and_little_more() {
        let mut ring = Ring::default();
        for second in 0..200 {
            let at = Monotonic(second * SECOND);
            if !ring.wants_no_other(at) {
                assert!(ring.begin(at));
            }
            assert!(ring.append(|out| out.byte(0)));
        }
        ring.seal();
        let oldest = ring.sealed[0].begin;
        assert!(oldest.0 <= 139 * SECOND && oldest.0 >= 134 * SECOND, "{oldest:?}");
    }

    #[test]
    fn what_is_lent_is_never_written_and_never_adds_memory() {
        let mut ring = Ring::default();
        (0..CHUNKS as u64).for_each(|at| assert!(fill(&mut ring, at)));
        ring.seal();
        let lent = ring.chunks();
        let copy: Vec<Chunk> = lent.iter().map(|chunk| Chunk::clone(chunk)).collect();
        assert!(!fill(&mut ring, 99), "all of it is lent");
        assert!(lent.iter().zip(&copy).all(|(lent, copy)| **lent == *copy));
        drop(lent);
        assert!(fill(&mut ring, 100));
        assert_eq!(ring.sealed.len() + ring.spare.len() + 1, CHUNKS);
    }

    #[test]
    fn every_whole_chunk_is_handed_out_once() {
        let mut ring = Ring::default();
        let taken = |ring: &mut Ring| {
            std::iter::from_fn(|| ring.take_whole())
                .map(|whole| (whole.begin.0, whole.looks))
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(&mut ring), []);
        assert!(fill(&mut ring, 1));
        ring.count_look();
        assert_eq!(taken(&mut ring), [], "the first is not whole yet");
        assert_eq!(*ring.copy_current().unwrap(), [1]);
        assert!(fill(&mut ring, 2) && fill(&mut ring, 3));
        assert_eq!(taken(&mut ring), [(1, 1), (2, 0)]);
        ring.seal();
        assert_eq!(taken(&mut ring), [(3, 0)]);
        // Chunks released before anybody took them are not returned.
        (4..100).for_each(|at| assert!(fill(&mut ring, at)));
        assert_eq!(taken(&mut ring).len(), CHUNKS - 1);
        assert_eq!(taken(&mut ring), []);
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let mut ring = Ring::default();
        assert!(fill(&mut ring, 7));
        assert!(!ring.append(|out| (0..CHUNK_BYTES).for_each(|_| out.byte(1))));
        ring.seal();
        assert_eq!(*ring.chunks()[0], [7]);
    }
}
