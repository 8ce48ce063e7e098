//! One sample of a segment. All numbers are the writer's claims; none has been checked.

use crate::claim::SlotState;
use crate::layout::{
    C_CAPACITY, C_CLAIM, C_RECEIVED, C_SENT, CAPACITY_UNBOUNDED, L_CLAIM, L_PROGRESS, L_START_TIME, L_TID,
    LANE_SIZE, T_ACTIVITY, T_ATTEMPT, T_CLAIM, T_DEADLINE, T_LANE_HIGH_WATER, T_LANES, T_SECTION, T_SEQUENCE,
    T_START_TIME, T_TID, T_WORK_KEY, word,
};
use crate::state::ProcessState;

/// The process state word as found; zero in a sample that was never filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawState(pub u64);

impl RawState {
    /// The decoded state; `None` for a code that version 1 does not know.
    pub fn known(self) -> Option<ProcessState> {
        ProcessState::from_code(self.0)
    }
}

/// One sample of a whole segment. Keep it and fill it again: its buffers are reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// State of the process.
    pub state: RawState,
    /// Thread slots, by index, up to the highest that was ever used.
    pub threads: Vec<ThreadSample>,
    /// Channel slots, by index, up to the highest that was ever used.
    pub channels: Vec<ChannelSample>,
}

/// One thread slot.
///
/// Each field is whole, but they are not from one instant: a thread that moves on while it is read
/// may show the activity of one piece of work with the key of another. [`crate::Reader::describe`]
/// returns fields that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadSample {
    /// Index of the slot.
    pub slot: u32,
    /// State of the slot.
    pub claim: SlotState,
    /// How often the slot was claimed; a change means another thread.
    pub generation: u64,
    /// Activity word: even = idle, odd = working, and a change is a sign of life.
    pub activity: u64,
    /// Thread id, in the writer's pid namespace.
    pub tid: u64,
    /// Start time of the thread, in clock ticks since boot.
    pub start_time: u64,
    /// Key of the work under way, or of the last work if idle.
    pub work_key: u64,
    /// Attempt of that work.
    pub attempt: u64,
    /// How long that work may stand still, in nanoseconds; 0 = none.
    pub deadline_ns: u64,
    /// Word of the section that the thread is in, or was in when its last work ended: see
    /// [`crate::Section::from_word`]. A change is a sign of life, whatever the word.
    pub section: u64,
    /// Sequence word: if equal and even in two samples, nothing but lanes and claims has changed
    /// between them.
    pub sequence: u64,
    /// Progress of the thread and of its workers.
    pub lanes: LaneSamples,
}

impl ThreadSample {
    /// Whether the activity word shows the thread as working.
    pub fn is_working(&self) -> bool {
        self.activity & 1 == 1
    }
}

/// Progress of one thread and of its workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneSamples {
    /// The thread's own counter.
    pub progress: u64,
    /// The workers' lanes, by index, up to the highest that was ever used.
    pub lanes: Vec<LaneSample>,
}

impl LaneSamples {
    /// The sum of all counters, wrapping. Each only grows, so it changes whenever any of them does.
    pub fn progress_sum(&self) -> u64 {
        self.lanes.iter().fold(self.progress, |sum, lane| sum.wrapping_add(lane.progress))
    }

    /// The same as [`LaneSamples::progress_sum`]: a number that changes when any lane makes
    /// progress.
    pub fn fingerprint(&self) -> u64 {
        self.progress_sum()
    }
}

/// One worker's lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSample {
    /// State of the lane.
    pub state: SlotState,
    /// How often the lane was claimed; a change means another worker.
    pub generation: u64,
    /// Thread id of the worker, in the writer's pid namespace.
    pub tid: u64,
    /// Start time of the worker, in clock ticks since boot.
    pub start_time: u64,
    /// Progress counter.
    pub progress: u64,
}

/// One channel slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSample {
    /// Index of the slot.
    pub slot: u32,
    /// Whether a channel owns the slot.
    pub live: bool,
    /// How often the slot was claimed; a change means another channel.
    pub generation: u64,
    /// Capacity in messages; `None` = unbounded.
    pub capacity: Option<u64>,
    /// Messages sent; never goes back, and does not start from zero in a reused slot.
    pub sent: u64,
    /// Messages received; may be ahead of `sent` for a moment.
    pub received: u64,
}

impl ChannelSample {
    /// Messages in the channel now.
    pub fn depth(&self) -> u64 {
        // By the sign of the difference: the counters may wrap, and `received` may be a message
        // ahead.
        let depth = self.sent.wrapping_sub(self.received);
        if depth > u64::MAX / 2 { 0 } else { depth }
    }
}

impl ThreadSample {
    /// Reads a slot's words, in place.
    pub(crate) fn fill(&mut self, slot: u32, words: &[u64]) {
        let get = |offset: usize| words[word(offset)];
        (self.claim, self.generation) = SlotState::decode(get(T_CLAIM));
        self.slot = slot;
        self.activity = get(T_ACTIVITY);
        self.tid = get(T_TID);
        self.start_time = get(T_START_TIME);
        self.work_key = get(T_WORK_KEY);
        self.attempt = get(T_ATTEMPT);
        self.deadline_ns = get(T_DEADLINE);
        self.section = get(T_SECTION);
        self.sequence = get(T_SEQUENCE);
        self.lanes.progress = get(T_LANES + L_PROGRESS);
        let high_water = usize::try_from(get(T_LANE_HIGH_WATER)).unwrap_or(usize::MAX);
        let workers = words[word(T_LANES)..].chunks_exact(LANE_SIZE / 8).take(high_water).skip(1);
        self.lanes.lanes.clear();
        self.lanes.lanes.extend(workers.map(LaneSample::read));
    }
}

impl LaneSample {
    fn read(words: &[u64]) -> LaneSample {
        let (state, generation) = SlotState::decode(words[word(L_CLAIM)]);
        LaneSample {
            state,
            generation,
            tid: words[word(L_TID)],
            start_time: words[word(L_START_TIME)],
            progress: words[word(L_PROGRESS)],
        }
    }
}

impl ChannelSample {
    pub(crate) fn read(slot: u32, words: &[u64]) -> ChannelSample {
        let (state, generation) = SlotState::decode(words[word(C_CLAIM)]);
        let capacity = words[word(C_CAPACITY)];
        ChannelSample {
            slot,
            live: state == SlotState::Live,
            generation,
            capacity: (capacity != CAPACITY_UNBOUNDED).then_some(capacity),
            sent: words[word(C_SENT)],
            received: words[word(C_RECEIVED)],
        }
    }
}
