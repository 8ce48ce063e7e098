//! Views of shared words that keep the memory they point into alive.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::AtomicU64;

/// What a view keeps alive: a mapping, or words on the heap in a model.
pub(crate) type Keep = Arc<dyn Send + Sync>;

/// A run of shared words.
#[derive(Clone)]
pub struct Words {
    keep: Keep,
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: a view is a shared reference to atomics plus an `Arc` of something Send + Sync that keeps
// them alive; both may be moved to and used from any thread.
unsafe impl Send for Words {}
// SAFETY: as above; all access through a view is by atomic operations.
unsafe impl Sync for Words {}

impl Words {
    /// A view of `len` words from `first` on.
    ///
    /// # Safety
    /// `first` must point at `len` initialised, aligned words that are only ever accessed
    /// atomically and stay valid and in place for as long as `keep` or a clone of it lives.
    #[cfg(not(loom))]
    pub(crate) unsafe fn new(keep: Keep, first: NonNull<AtomicU64>, len: usize) -> Words {
        Words { keep, first, len }
    }

    /// Zeroed words on the heap, for the model checker.
    #[cfg(loom)]
    pub fn on_heap(len: usize) -> Words {
        let words: Arc<Box<[AtomicU64]>> = Arc::new((0..len).map(|_| AtomicU64::new(0)).collect());
        let first = NonNull::from(&**words).cast::<AtomicU64>();
        Words { keep: words, first, len }
    }

    /// The words that cover `size` bytes from byte `offset` on. Panics if they are not all in this
    /// view; offsets come from the layout and the writer's own options, never from the file.
    pub(crate) fn part(&self, offset: usize, size: usize) -> Words {
        let first = NonNull::from(&self[offset / 8..(offset + size) / 8]).cast::<AtomicU64>();
        Words { keep: Arc::clone(&self.keep), first, len: size / 8 }
    }

    /// The single word at byte `offset`. Panics as [`Words::part`] does.
    pub(crate) fn at(&self, offset: usize) -> Word {
        Word { _keep: Arc::clone(&self.keep), word: NonNull::from(&self[offset / 8]) }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` and `on_heap` vouch for `len` valid words while `keep` lives, `part`
        // narrows a valid view, and the borrow of `self` keeps `keep` alive.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.len).as_ref() }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words at {:p}", self.len, self.first)
    }
}

/// One shared word, reached without a bounds check: the beat is one store.
pub(crate) struct Word {
    _keep: Keep,
    word: NonNull<AtomicU64>,
}

// SAFETY: as for `Words`.
unsafe impl Send for Word {}
// SAFETY: as for `Words`.
unsafe impl Sync for Word {}

impl Deref for Word {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: `Words::at` took the address from a valid view and shares its `keep`.
        unsafe { self.word.as_ref() }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "word at {:p}", self.word)
    }
}
