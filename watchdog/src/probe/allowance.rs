//! How many descriptors the probe may hold for threads and their workers, and how many it holds.
//! The watched process itself claims how many threads it has, so without a limit it could take the
//! descriptors that the sidecar needs to signal, answer and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Files kept open although the next observation could reopen them: three for each of 64 threads
/// without progress. Opening a file costs more than reading it, so this keeps observations of a few
/// such threads cheap.
const MOST_SPARE: usize = 192;

/// The descriptors held for one target.
#[derive(Debug)]
pub struct Allowance {
    most: usize,
    held: AtomicUsize,
    /// How many of them can be closed without losing any observation.
    spare: AtomicUsize,
    tight: AtomicBool,
}

/// Room for one descriptor, returned when this is dropped.
#[derive(Debug)]
pub struct Place {
    of: Arc<Allowance>,
    spare: bool,
}

impl Allowance {
    /// Room for `most` descriptors.
    pub fn new(most: usize) -> Arc<Self> {
        let (held, spare, tight) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { most, held, spare, tight })
    }

    /// Whether `more` descriptors may be opened.
    pub fn has(&self, more: usize) -> bool {
        self.most.saturating_sub(self.held.load(Ordering::Relaxed)) >= more
    }

    /// Room for a descriptor that an observation requires; `None` if there is no room.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        self.has(1).then(|| {
            self.held.fetch_add(1, Ordering::Relaxed);
            Place { of: Arc::clone(self), spare: false }
        })
    }

    /// Room for a descriptor that only saves time. At most half of the free room goes to these.
    pub fn spare_place(self: &Arc<Self>) -> Option<Place> {
        let spare = self.spare.load(Ordering::Relaxed);
        let needed = self.held.load(Ordering::Relaxed).saturating_sub(spare);
        let most = MOST_SPARE.min(self.most.saturating_sub(needed) / 2);
        let given = spare < most && self.has(1) && !self.tight.load(Ordering::Relaxed);
        given.then(|| {
            self.held.fetch_add(1, Ordering::Relaxed);
            self.spare.fetch_add(1, Ordering::Relaxed);
            Place { of: Arc::clone(self), spare: true }
        })
    }

    /// Refuses further spare places from now on: a required descriptor found no room.
    pub fn tighten(&self) {
        self.tight.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.held.fetch_sub(1, Ordering::Relaxed);
        if self.spare {
            self.of.spare.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_allowance() {
        let allowance = Allowance::new(3);
        let places: Vec<_> = std::iter::repeat_with(|| allowance.place()).take(5).flatten().collect();
        assert_eq!(places.len(), 3);
        assert!(!allowance.has(1) && allowance.spare_place().is_none());
        drop(places);
        assert!(allowance.has(3) && !allowance.has(4));
    }

    #[test]
    fn spare_places_leave_half_of_what_is_free_and_end_when_room_is_short() {
        let allowance = Allowance::new(10);
        let _needed = [allowance.place(), allowance.place()];
        let mut spare: Vec<_> =
            std::iter::repeat_with(|| allowance.spare_place()).take(9).flatten().collect();
        assert_eq!(spare.len(), 4);
        spare.pop();
        allowance.tighten();
        assert!(allowance.spare_place().is_none(), "there is room, and it is not for these");
        assert!(allowance.place().is_some());
    }

    #[test]
    fn a_large_allowance_is_not_filled_with_spare_files() {
        let allowance = Allowance::new(usize::MAX);
        let spare: Vec<_> = std::iter::repeat_with(|| allowance.spare_place()).take(500).flatten().collect();
        assert_eq!(spare.len(), MOST_SPARE);
        assert_eq!(allowance.held(), MOST_SPARE);
    }
}
