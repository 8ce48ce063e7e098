//! A thread slot on the side of its only writer: claim, stamp, activity.
//!
//! All code works on a view of words, so that the model checker runs this very code.

use std::cell::Cell;

use crate::claim::Claim;
use crate::identity::Identity;
use crate::layout::{
    CLAIM_DROPPED, CLAIM_FILLING, CLAIM_FREE, CLAIM_LEFT, CLAIM_LIVE, H_THREAD_HIGH_WATER, L_CLAIM,
    LANE_SIZE, T_ACTIVITY, T_ATTEMPT, T_CLAIM, T_DEADLINE, T_LANES, T_NAME, T_SECTION, T_SEQUENCE, T_SPAN_ID,
    T_START_TIME, T_TID, T_TRACE_FLAGS, T_TRACE_ID, T_WORK_KEY, word,
};
use crate::seqlock::Stamp;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::words::Words;
use crate::work::{Work, pack_name, split};

/// Location of the thread slots of a segment.
pub struct Table {
    /// The whole segment.
    pub segment: Words,
    /// Offset of the first slot, in bytes.
    pub offset: usize,
    /// Distance between slots, in bytes.
    pub stride: usize,
    /// Number of slots.
    pub slots: u32,
}

impl Table {
    fn slot(&self, index: u32) -> Words {
        self.segment.part(self.offset + index as usize * self.stride, self.stride)
    }

    /// Claims a slot for a thread; `None` if none is left.
    ///
    /// Slots that were never used come first: one that was left still describes its last owner, and
    /// one that was dropped is evidence and is never reused.
    pub fn claim(&self, name: &str, who: Identity) -> Option<Slot> {
        for from in [CLAIM_FREE, CLAIM_LEFT] {
            for index in 0..self.slots {
                let words = self.slot(index);
                let Some(claim) = Claim::take(&words[word(T_CLAIM)], from) else { continue };
                if from == CLAIM_LEFT && !clear_lanes(&words) {
                    claim.publish(&words[word(T_CLAIM)], CLAIM_LEFT);
                    continue;
                }
                let high_water = &self.segment[word(H_THREAD_HIGH_WATER)];
                high_water.fetch_max(u64::from(index) + 1, Ordering::AcqRel);
                return Some(Slot::fill(words, claim, name, who));
            }
        }
        None
    }
}

/// Prepares the lanes of a slot for a new owner; false if a worker of the old one still holds one
/// of them. A worker that joins checks the slot's claim after it has taken its lane; the fence here
/// pairs with the one there, so that at least one of the two sees the other.
fn clear_lanes(slot: &Words) -> bool {
    fence(Ordering::SeqCst);
    let lanes = (slot.len() * 8 - T_LANES) / LANE_SIZE;
    let claims = || (1..lanes).map(|lane| &slot[word(T_LANES + lane * LANE_SIZE + L_CLAIM)]);
    let taken = |claim: &AtomicU64| matches!(claim.load(Ordering::SeqCst) & 0xff, CLAIM_LIVE | CLAIM_FILLING);
    if claims().any(taken) {
        return false;
    }
    for word in claims() {
        // The old owner left in order nevertheless: its lost worker must not count against the new
        // one.
        if let Some(claim) = Claim::take(word, CLAIM_DROPPED) {
            claim.publish(word, CLAIM_LEFT);
        }
    }
    true
}

/// A claimed slot, owned by one thread. The cells mirror the shared words, so that a change is a
/// plain store and never a read-modify-write.
#[derive(Debug)]
pub struct Slot {
    words: Words,
    claim: Claim,
    stamp: Stamp,
    activity: Cell<u64>,
    depth: Cell<u32>,
    work: Cell<Placed>,
}

/// Work, and the word of the section that its thread is in; zero for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placed {
    work: Work,
    section: u64,
}

impl Slot {
    fn fill(words: Words, claim: Claim, name: &str, who: Identity) -> Slot {
        let stamp = Stamp::adopt(&words[word(T_SEQUENCE)]);
        // Counters continue from where a previous owner left them: a reader must never see one go
        // back.
        let activity = (words[word(T_ACTIVITY)].load(Ordering::Relaxed) | 1).wrapping_add(1);
        let slot = Slot {
            claim,
            stamp,
            activity: Cell::new(activity),
            depth: Cell::new(0),
            work: Cell::default(),
            words,
        };
        let [first, second] = pack_name(name);
        slot.stamp.write(slot.word(T_SEQUENCE), || {
            slot.put(T_TID, who.tid);
            slot.put(T_START_TIME, who.start_time);
            slot.put(T_NAME, first);
            slot.put(T_NAME + 8, second);
            slot.put_work(&Placed::default());
            slot.put(T_ACTIVITY, activity);
        });
        claim.publish(slot.word(T_CLAIM), CLAIM_LIVE);
        slot
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words[word(offset)]
    }

    fn put(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    fn put_work(&self, placed: &Placed) {
        let Placed { work, section } = placed;
        let [low, high] = split(work.trace.trace_id);
        self.put(T_WORK_KEY, work.key);
        self.put(T_ATTEMPT, work.attempt);
        self.put(T_DEADLINE, work.deadline_ns());
        self.put(T_TRACE_ID, low);
        self.put(T_TRACE_ID + 8, high);
        self.put(T_SPAN_ID, u64::from_le_bytes(work.trace.span_id));
        self.put(T_TRACE_FLAGS, work.trace.flags.into());
        self.put(T_SECTION, *section);
    }

    /// Publishes work and advances the activity by `step`, in one stamp.
    fn turn(&self, work: Placed, step: u64) {
        let activity = self.activity.get().wrapping_add(step);
        self.stamp.write(self.word(T_SEQUENCE), || {
            self.put_work(&work);
            // Release: a reader that only waits for the activity also sees the key of this work.
            self.word(T_ACTIVITY).store(activity, Ordering::Release);
        });
        self.activity.set(activity);
        self.work.set(work);
    }

    /// Begins work, nested inside any work under way. Returns the outer work, which [`Slot::end`]
    /// restores. New work is in no section yet.
    pub fn begin(&self, work: Work) -> Placed {
        let outer = self.work.get();
        let depth = self.depth.get();
        self.depth.set(depth.saturating_add(1));
        // One step marks an idle thread as working; two leave a working one working and still
        // change the word.
        self.turn(Placed { work, section: 0 }, if depth == 0 { 1 } else { 2 });
        outer
    }

    /// Ends the innermost work and restores `outer`.
    pub fn end(&self, outer: Placed) {
        let depth = self.depth.get();
        self.depth.set(depth.saturating_sub(1));
        if depth > 1 {
            self.turn(outer, 2);
        } else {
            // An idle slot still describes its last work, so one word is enough.
            let activity = self.activity.get().wrapping_add(1);
            self.word(T_ACTIVITY).store(activity, Ordering::Release);
            self.activity.set(activity);
        }
    }

    /// Publishes the section of the work under way: one relaxed store. A thread that is not at work
    /// is in no section.
    #[inline]
    pub fn enter(&self, section: u64) {
        if self.depth.get() > 0 {
            self.put(T_SECTION, section);
            self.work.set(Placed { section, ..self.work.get() });
        }
    }

    /// The work last published, and its section.
    pub fn work(&self) -> Placed {
        self.work.get()
    }

    /// Publishes that the thread died during this work, if unwinding has already dropped its
    /// guards.
    pub fn died_at(&self, work: Placed) {
        if self.activity.get() & 1 == 0 {
            self.turn(work, 1);
        }
    }

    /// Gives the slot up: as left in order, or as gone.
    pub fn close(&self, in_order: bool) {
        self.claim.publish(self.word(T_CLAIM), if in_order { CLAIM_LEFT } else { CLAIM_DROPPED });
    }

    /// The slot's words and the claim on them, for its lanes.
    pub fn lanes(&self) -> (Words, Claim) {
        (self.words.clone(), self.claim)
    }
}
