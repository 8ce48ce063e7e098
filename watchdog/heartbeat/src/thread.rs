//! A watched thread, its work, and the lanes of its workers.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::claim::Claim;
use crate::error::RegisterError;
use crate::identity::{self, Identity};
use crate::lane::{LaneCell, NoLane};
use crate::layout::{LANE_SIZE, T_LANES};
use crate::section::Section;
use crate::slot::{Placed, Slot};
use crate::words::Words;
use crate::work::Work;
use crate::writer::OfThisThread;

/// A watched thread. It is idle until it begins work, and idleness is never a stall, however long.
///
/// Dropping it without [`ThreadBeat::leave`], also by unwinding, marks the thread as gone.
#[derive(Debug)]
pub struct ThreadBeat {
    slot: Slot,
    own: LaneCell,
    /// The innermost work that unwinding ended: if the unwinding ends the thread, it died during
    /// that work.
    unwound: Cell<Option<Placed>>,
    left: bool,
    here: OfThisThread,
    /// The name by which fault points know this thread.
    #[cfg(feature = "faults")]
    _named: crate::faults::Named,
}

impl ThreadBeat {
    pub(crate) fn new(slot: Slot, who: Identity, name: &str) -> Option<ThreadBeat> {
        let own = LaneCell::own(&slot.lanes().0, who)?;
        #[cfg(not(feature = "faults"))]
        let _ = name;
        Some(ThreadBeat {
            slot,
            own,
            unwound: Cell::new(None),
            left: false,
            here: PhantomData,
            #[cfg(feature = "faults")]
            _named: crate::faults::Named::new(name),
        })
    }

    /// Begins work; it ends when the guard is dropped. Work nests: the watchdog reports the inner
    /// work, and the outer one again after it. Each begin and end counts as a sign of life.
    ///
    /// Drop guards in reverse order. Otherwise the thread still counts as working until the last
    /// one is dropped, but the wrong key may be reported meanwhile.
    #[inline]
    pub fn working(&self, work: Work) -> WorkGuard<'_> {
        self.unwound.set(None);
        WorkGuard { beat: self, outer: self.slot.begin(work) }
    }

    /// Begins work that [`ThreadBeat::end`] ends, for callers whose begin and end are two
    /// callbacks, such as a runtime's unpark and park. Everywhere else [`ThreadBeat::working`] is
    /// safer: its guard cannot be forgotten.
    #[inline]
    pub fn begin(&self, work: Work) -> Begun {
        self.unwound.set(None);
        Begun(self.slot.begin(work))
    }

    /// Ends the work that was begun last.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "what was begun ends once")]
    pub fn end(&self, begun: Begun) {
        self.slot.end(begun.0);
    }

    /// A sign of life from within work: one plain store. Beat where progress is made, never from a
    /// timer.
    #[inline]
    pub fn progress(&self) {
        self.own.progress();
    }

    /// Says in which section of the innermost work this thread is from now on, until it enters
    /// another one, [leaves] it, or the work ends. Work that is nested inside begins in no section,
    /// and the section of the outer work is in force again after it. A thread that is not at work
    /// is in no section.
    ///
    /// Entering a section is a sign of life like [`ThreadBeat::progress`]. It costs two plain
    /// stores.
    ///
    /// [leaves]: ThreadBeat::leave_section
    #[inline]
    pub fn enter(&self, section: Section) {
        self.slot.enter(section.word());
        // For a reader that knows no sections, and for one that looks so rarely that a thread has
        // come back to the same section meanwhile.
        self.own.progress();
    }

    /// Says that this thread is in no section of its work any more. A sign of life, like
    /// [`ThreadBeat::enter`].
    #[inline]
    pub fn leave_section(&self) {
        self.slot.enter(0);
        self.own.progress();
    }

    /// The lanes of this thread's workers, for a pool it waits for.
    pub fn lanes(&self) -> Lanes {
        let (slot, owner) = self.slot.lanes();
        Lanes { slot, owner }
    }

    /// Ends the watch on this thread in an orderly way.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for ThreadBeat {
    fn drop(&mut self) {
        if let Some(work) = self.unwound.get()
            && std::thread::panicking()
            && !self.left
        {
            self.slot.died_at(work);
        }
        self.own.close(self.left);
        self.slot.close(self.left);
    }
}

/// Work that was begun and must be passed to [`ThreadBeat::end`].
#[must_use = "the work goes on until it is given to `ThreadBeat::end`"]
#[derive(Debug)]
pub struct Begun(Placed);

/// Work under way; dropping it ends the work.
#[must_use = "the work ends when the guard is dropped"]
#[derive(Debug)]
pub struct WorkGuard<'a> {
    beat: &'a ThreadBeat,
    outer: Placed,
}

impl WorkGuard<'_> {
    /// The same as [`ThreadBeat::enter`], for code that holds only the guard.
    #[inline]
    pub fn enter(&self, section: Section) {
        self.beat.enter(section);
    }
}

impl Drop for WorkGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && self.beat.unwound.get().is_none() {
            self.beat.unwound.set(Some(self.beat.slot.work()));
        }
        self.beat.slot.end(self.outer);
    }
}

/// Gives the workers of one thread access to its lanes. Clones refer to the same lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    slot: Words,
    owner: Claim,
}

impl Lanes {
    /// Gives the calling thread, a worker, a lane of its own. It reads `/proc`, which costs some
    /// ten microseconds: call it once in a worker's life or once a block, not once a task.
    ///
    /// Fails if all lanes are taken (one fewer than the segment's `lanes`, the first being the
    /// owner's), or if the owner is no longer watched.
    pub fn join(&self) -> Result<Lane, RegisterError> {
        let who = identity::current_thread()?;
        match LaneCell::join(&self.slot, self.owner, who) {
            Ok(lane) => Ok(Lane { lane, left: false, here: PhantomData }),
            Err(NoLane::Gone) => Err(RegisterError::Gone),
            Err(NoLane::Exhausted) => {
                let lanes = (self.slot.len() * 8 - T_LANES) / LANE_SIZE;
                let slots = u32::try_from(lanes - 1).unwrap_or(u32::MAX);
                Err(RegisterError::Exhausted { kind: "worker lanes", slots })
            }
        }
    }
}

/// One worker's progress. Dropping it without [`Lane::leave`] marks the worker as lost.
#[derive(Debug)]
pub struct Lane {
    lane: LaneCell,
    left: bool,
    here: OfThisThread,
}

impl Lane {
    /// A sign of life: one plain store.
    #[inline]
    pub fn progress(&self) {
        self.lane.progress();
    }

    /// Gives the lane back in an orderly way.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.lane.close(self.left);
    }
}
