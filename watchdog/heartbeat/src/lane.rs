//! A lane: the progress counter of one worker.

use std::cell::Cell;

use crate::claim::Claim;
use crate::identity::Identity;
use crate::layout::{
    CLAIM_DROPPED, CLAIM_FREE, CLAIM_LEFT, CLAIM_LIVE, L_CLAIM, L_PROGRESS, L_START_TIME, L_TID, LANE_SIZE,
    T_CLAIM, T_LANE_HIGH_WATER, T_LANES, word,
};
use crate::sync::{Ordering, fence};
use crate::words::{Word, Words};

/// Why a worker got no lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLane {
    /// All lanes are taken.
    Exhausted,
    /// The thread that owns these lanes has ended or left.
    Gone,
}

/// A claimed lane; its owner is one thread.
#[derive(Debug)]
pub struct LaneCell {
    lane: Words,
    claim: Claim,
    progress: Word,
    count: Cell<u64>,
}

impl LaneCell {
    /// Takes lane 0 of a slot that was just claimed.
    pub(crate) fn own(slot: &Words, who: Identity) -> Option<LaneCell> {
        // Lane 0 has no other claimant: the owner of the slot may take it in any state.
        let found = slot[word(T_LANES + L_CLAIM)].load(Ordering::Acquire) & 0xff;
        LaneCell::take(slot, 0, found, who)
    }

    /// Takes the first lane of a slot that is free or was left, for a worker of the slot's owner.
    pub fn join(slot: &Words, owner: Claim, who: Identity) -> Result<LaneCell, NoLane> {
        let lanes = (slot.len() * 8 - T_LANES) / LANE_SIZE;
        for index in 1..lanes {
            // A pool may join anew for each piece of work: using the lowest lane keeps samples
            // small. A dropped lane is evidence and is not reused.
            let taken = LaneCell::take(slot, index, CLAIM_FREE, who)
                .or_else(|| LaneCell::take(slot, index, CLAIM_LEFT, who));
            let Some(lane) = taken else { continue };
            // Pairs with the fence of a thread that takes this slot over: at least one of the two
            // sees the other.
            fence(Ordering::SeqCst);
            if owner.is_live(&slot[word(T_CLAIM)]) {
                return Ok(lane);
            }
            lane.close(true);
            return Err(NoLane::Gone);
        }
        Err(if owner.is_live(&slot[word(T_CLAIM)]) { NoLane::Exhausted } else { NoLane::Gone })
    }

    fn take(slot: &Words, index: usize, from: u64, who: Identity) -> Option<LaneCell> {
        let lane = slot.part(T_LANES + index * LANE_SIZE, LANE_SIZE);
        let claim = Claim::take(&lane[word(L_CLAIM)], from)?;
        slot[word(T_LANE_HIGH_WATER)].fetch_max(index as u64 + 1, Ordering::AcqRel);
        lane[word(L_TID)].store(who.tid, Ordering::Relaxed);
        lane[word(L_START_TIME)].store(who.start_time, Ordering::Relaxed);
        let progress = lane.at(L_PROGRESS);
        // Continues from where the last owner stopped: the sum over all lanes only ever grows.
        let count = Cell::new(progress.load(Ordering::Relaxed));
        claim.publish(&lane[word(L_CLAIM)], CLAIM_LIVE);
        Some(LaneCell { lane, claim, progress, count })
    }

    /// One beat: a plain store.
    #[inline]
    pub fn progress(&self) {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        self.progress.store(count, Ordering::Relaxed);
    }

    /// Gives the lane up: as left in order, or as lost.
    pub fn close(&self, in_order: bool) {
        self.claim.publish(&self.lane[word(L_CLAIM)], if in_order { CLAIM_LEFT } else { CLAIM_DROPPED });
    }
}
