//! The work of the calling thread, found among the slots by its thread id.
//!
//! For a panic hook: it reads only the segment and nothing that the panicking thread could hold,
//! neither a lock nor the cells of its own `ThreadBeat`. A thread that panics during its
//! registration has a slot that is being filled or idle, which means no work.

use std::sync::atomic::Ordering;

use crate::claim::SlotState;
use crate::identity;
use crate::layout::{
    Geometry, H_THREAD_HIGH_WATER, L_CLAIM, L_START_TIME, L_TID, LANE_SIZE, T_ACTIVITY, T_ATTEMPT, T_CLAIM,
    T_LANE_HIGH_WATER, T_LANES, T_NAME, T_SEQUENCE, T_START_TIME, T_TID, T_WORK_KEY, word,
};
use crate::seqlock;
use crate::words::Words;
use crate::work::unpack_name;

/// The work that a thread is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Name under which the thread is registered; for a worker, that of the thread it works for.
    pub name: String,
    /// Key of the work.
    pub work_key: u64,
    /// Attempt of the work.
    pub attempt: u64,
}

/// The work of the calling thread: its own, or that of the thread whose lane it has joined.
pub(crate) fn of_this_thread(segment: &Words, geometry: Geometry) -> Option<InFlight> {
    let me = Me {
        tid: identity::current_tid(),
        start_time: identity::current_thread().ok().map(|who| who.start_time),
    };
    let used = segment[word(H_THREAD_HIGH_WATER)].load(Ordering::Acquire);
    let slots = || {
        (0..geometry.thread_slots)
            .take_while(move |index| u64::from(*index) < used)
            .map(|index| Slot {
                segment,
                at: geometry.thread_offset() + index as usize * geometry.thread_stride(),
            })
            .filter(Slot::is_live)
    };
    // A worker may be registered as well and idle in its own slot: then its parent's work is
    // reported.
    let own = slots().filter(|slot| slot.is_of(&me)).find_map(|slot| slot.work());
    own.or_else(|| slots().filter(|slot| slot.has_worker(&me, geometry.lanes)).find_map(|slot| slot.work()))
}

struct Me {
    tid: u64,
    /// `None` if `/proc` cannot be read, for example because no descriptors are left: then the id
    /// alone must suffice.
    start_time: Option<u64>,
}

struct Slot<'a> {
    segment: &'a Words,
    at: usize,
}

impl Slot<'_> {
    fn get(&self, offset: usize) -> u64 {
        self.segment[word(self.at + offset)].load(Ordering::Relaxed)
    }

    fn is_claimed(&self, claim: usize) -> bool {
        let found = self.segment[word(self.at + claim)].load(Ordering::Acquire);
        SlotState::decode(found).0 == SlotState::Live
    }

    fn is_live(&self) -> bool {
        self.is_claimed(T_CLAIM)
    }

    /// Whether the thread recorded at these offsets is the calling one. The start time
    /// distinguishes it from one that ended without leaving and had the same id.
    fn names(&self, me: &Me, tid: usize, start_time: usize) -> bool {
        self.get(tid) == me.tid && me.start_time.is_none_or(|mine| self.get(start_time) == mine)
    }

    fn is_of(&self, me: &Me) -> bool {
        self.names(me, T_TID, T_START_TIME)
    }

    fn has_worker(&self, me: &Me, lanes: u32) -> bool {
        let used = self.get(T_LANE_HIGH_WATER);
        (1..lanes)
            .take_while(|lane| u64::from(*lane) < used)
            .map(|lane| T_LANES + lane as usize * LANE_SIZE)
            .any(|lane| self.is_claimed(lane + L_CLAIM) && self.names(me, lane + L_TID, lane + L_START_TIME))
    }

    /// Its work, if it is working and an untorn copy can be read: a parent goes on while its worker
    /// reads.
    fn work(&self) -> Option<InFlight> {
        let copy = || {
            let key = [T_ACTIVITY, T_WORK_KEY, T_ATTEMPT, T_NAME, T_NAME + 8].map(|offset| self.get(offset));
            Ok::<_, std::convert::Infallible>(key)
        };
        let Ok(copied) = seqlock::read(|| Ok(self.get(T_SEQUENCE)), copy);
        let [activity, work_key, attempt, first, second] = copied?;
        (activity & 1 == 1).then(|| InFlight { name: unpack_name([first, second]), work_key, attempt })
    }
}
