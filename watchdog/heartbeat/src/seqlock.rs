//! The stamp (a sequence lock) over fields that are too wide for one word.
//!
//! Such fields only decorate a report. No decision is based on them, because a writer that stops in
//! the middle of a stamp leaves them unreadable for as long as it likes.

use std::cell::Cell;

use crate::sync::{AtomicU64, Ordering, fence};

/// Attempts of a reader before it gives up. A writer is inside a stamp for nanoseconds, a copy
/// takes about a microsecond: more than a few misses in a row mean that the writer is stopped there
/// or stamps without pause. The model checker tries every order anyway, and its time grows
/// exponentially with this.
const ATTEMPTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The writer's end: the value of the sequence word, known to its only writer.
#[derive(Debug)]
pub struct Stamp {
    sequence: Cell<u64>,
}

impl Stamp {
    /// Takes over a sequence word from its previous owner.
    pub fn adopt(word: &AtomicU64) -> Stamp {
        let found = word.load(Ordering::Relaxed);
        Stamp { sequence: Cell::new(found.wrapping_add(found & 1)) }
    }

    /// Runs `body`; a reader sees either all or none of its relaxed stores.
    #[inline]
    pub fn write(&self, word: &AtomicU64, body: impl FnOnce()) {
        let sequence = self.sequence.get();
        word.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Orders the odd sequence before the stores of `body`: a reader that sees one of them sees
        // the odd value, or a later one, when it loads the word again.
        fence(Ordering::Release);
        body();
        let settled = sequence.wrapping_add(2);
        word.store(settled, Ordering::Release);
        self.sequence.set(settled);
    }
}

/// The reader's end: a copy taken between two equal and even sequences, or `None` after
/// [`ATTEMPTS`] tries.
///
/// `sequence` and `copy` load by whatever means the reader has; the fences here keep the three
/// loads in order.
pub fn read<T, E>(
    mut sequence: impl FnMut() -> Result<u64, E>,
    mut copy: impl FnMut() -> Result<T, E>,
) -> Result<Option<T>, E> {
    for _ in 0..ATTEMPTS {
        let before = sequence()?;
        if before & 1 == 1 {
            relax();
            continue;
        }
        fence(Ordering::Acquire);
        let copied = copy()?;
        fence(Ordering::Acquire);
        if sequence()? == before {
            return Ok(Some(copied));
        }
    }
    Ok(None)
}

fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
