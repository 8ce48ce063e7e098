//! Which threads to leave unobserved when there are more threads than descriptors. Threads whose
//! rule kills take precedence over those whose rule reports, and those over the rest. Among equals,
//! the one watched first stays: a short-lived thread must not displace another.

use std::sync::Arc;

use shard_heartbeat::{SlotState, ThreadSample};

use super::allowance::Allowance;
use super::thread::{Rank, WatchedThread};

/// Descriptors of one thread: pidfd and folder, or folder and `stat`.
const OF_A_THREAD: usize = crate::descriptors::OF_A_THREAD as usize;

/// Makes room during one observation, and remembers for which ranks there is none.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    /// No more room can be made for this rank or lower ones.
    full: Option<Rank>,
}

impl Crowded {
    /// Makes room for a thread of this rank, unless that would displace one of the same or a higher
    /// rank. Returns whether there is room now.
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
