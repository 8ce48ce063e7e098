//! Whom to leave out of sight when there are more threads than descriptors. Threads whose rule
//! kills come before those whose rule reports, and those before the rest. Among equals, whoever was
//! watched first stays: a thread that comes and goes must not take the sight of another.

use std::sync::Arc;

use shard_heartbeat::{SlotState, ThreadSample};

use super::allowance::Allowance;
use super::thread::{Rank, WatchedThread};

/// Descriptors of one thread: pidfd and folder, or folder and `stat`.
const OF_A_THREAD: usize = crate::descriptors::OF_A_THREAD as usize;

/// Makes room in one look, and remembers for whom there is none.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    /// For this rank, and those behind it, no room can be made any more.
    full: Option<Rank>,
}

impl Crowded {
    /// Makes room for a thread of this rank, if that costs nobody who comes before it or is its
    /// equal. Whether there is room now.
    pub(super) fn make_room(
        &mut self,
        rank: Rank,
        threads: &mut [Option<WatchedThread>],
        slots: &[ThreadSample],
        allowance: &Arc<Allowance>,
    ) -> bool {
        if allowance.has(OF_A_THREAD) {
            return true;
        }
        if self.full.is_some_and(|full| rank >= full) {
            return false;
        }
        allowance.tighten();
        for thread in threads.iter_mut().flatten() {
            thread.close_spare();
        }
        while !allowance.has(OF_A_THREAD) {
            let holders = threads.iter_mut().enumerate().filter_map(|(place, thread)| {
                let thread = thread.as_mut().filter(|thread| thread.holds())?;
                Some((rank_now(thread, slots.get(place)), thread))
            });
            let last = holders.max_by_key(|(rank, thread)| (*rank, thread.key()));
            let Some((_, thread)) = last.filter(|(last, _)| *last > rank) else {
                self.full = Some(rank);
                return false;
            };
            thread.close_for_want();
        }
        true
    }
}

fn rank_now(thread: &WatchedThread, slot: Option<&ThreadSample>) -> Rank {
    let same = slot.filter(|slot| (slot.slot, slot.generation) == thread.key());
    let left = same.is_some_and(|slot| slot.claim == SlotState::Left);
    if left { Rank::Left } else { thread.rank() }
}
