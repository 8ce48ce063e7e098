//! Whether the observed bytes justify a condemnation: a second reading of ABI.md, which shares no
//! code with the first.

use shard_heartbeat::Header;
use shard_heartbeat::layout::{
    C_CLAIM, C_RECEIVED, C_SENT, CHANNEL_STRIDE, CLAIM_DROPPED, CLAIM_LIVE, H_STATE, L_PROGRESS, LANE_SIZE,
    STATE_RUNNING, STATE_STOPPING, T_ACTIVITY, T_CLAIM, T_LANE_HIGH_WATER, T_LANES, T_START_TIME, T_TID,
};
use shard_watchdog::clock::Monotonic;
use shard_watchdog::judge::Condemnation;
use shard_watchdog::observation::Observation;
use shard_watchdog::verdict::Reason;

use super::{MILLI, THRESHOLD_MS};

/// Only a slot that has been dropped for this long proves that its thread is gone.
const DROPPED_MS: u64 = 100;
/// No thread has a larger id, on any machine.
const LARGEST_TID: u64 = 1 << 22;

/// When that thread of this process started; `None` if it does not exist.
fn start_time(tid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The bytes seen at one observation.
pub struct Look {
    pub at: Monotonic,
    pub readable: bool,
    pub bytes: Vec<u8>,
}

/// All observations of one segment.
pub struct Looks {
    threads: usize,
    channels: usize,
    lanes: usize,
    stride: usize,
    thread_offset: usize,
    channel_offset: usize,
    looks: Vec<Look>,
}

impl Looks {
    pub fn new(header: &Header) -> Self {
        Self {
            threads: header.thread_slots as usize,
            channels: header.channel_slots as usize,
            lanes: header.lanes as usize,
            stride: header.thread_stride,
            thread_offset: header.thread_offset,
            channel_offset: header.channel_offset,
            looks: Vec::new(),
        }
    }

    /// Bytes of the segment.
    pub fn size(&self) -> usize {
        self.channel_offset + self.channels * CHANNEL_STRIDE
    }

    pub fn count(&self) -> usize {
        self.looks.len()
    }

    pub fn push(&mut self, look: Look) {
        self.looks.push(look);
    }

    /// Asserts that no more was seen than the header allows.
    pub fn assert_bounded(&self, seen: &Observation) {
        assert!(seen.threads.len() <= self.threads && seen.channels.len() <= self.channels);
        assert!(seen.threads.iter().all(|thread| thread.workers.len() < self.lanes));
    }

    /// Whether the looks so far say what the process is condemned for.
    ///
    /// # Errors
    /// If they do not: which part is missing.
    pub fn explain(&self, condemned: &Condemnation) -> Result<(), &'static str> {
        let now = self.looks.last().ok_or("nobody has looked")?;
        match condemned.reason {
            Reason::ExitHung => self.stopping(),
            _ if !now.readable => Err("the segment could not be read"),
            Reason::ThreadGone => self.gone(condemned.slot.ok_or("it names no thread")?),
            Reason::Stalled => self.still(condemned.slot.ok_or("it names no thread")?),
            Reason::ChannelLag => self.deaf(condemned.channel.ok_or("it names no channel")?),
            Reason::LeaderGone | Reason::ProcessGone | Reason::Stopped => Err("this process runs"),
            Reason::Silent => Err("no rule has a horizon"),
            Reason::Requested => Err("nobody asked for it"),
        }
    }

    fn long_enough(&self, since: Monotonic, milliseconds: u64) -> bool {
        self.looks.last().is_some_and(|now| now.at.0 - since.0 >= milliseconds * MILLI)
    }

    /// The latest observations, newest first, for as long as `holds`; those that could not be read
    /// are skipped.
    fn since(&self, holds: impl Fn(&Look) -> bool) -> Option<Monotonic> {
        let readable = self.looks.iter().rev().filter(|look| look.readable);
        readable.take_while(|look| holds(look)).last().map(|look| look.at)
    }

    /// It said "stopping" this long ago, and not "running" since.
    fn stopping(&self) -> Result<(), &'static str> {
        let said = self.looks.iter().filter(|look| look.readable).find_map(|look| {
            let begins = look.word(H_STATE) == STATE_STOPPING;
            let later = self.looks.iter().filter(|other| other.readable && other.at > look.at);
            (begins && later.into_iter().all(|other| other.word(H_STATE) != STATE_RUNNING)).then_some(look.at)
        });
        let since = said.ok_or("it did not say that it stops")?;
        self.long_enough(since, THRESHOLD_MS).then_some(()).ok_or("it may still be stopping")
    }

    /// The slot was claimed for what may be a thread, and its owner dropped it long enough ago, or
    /// is no thread of this process.
    fn gone(&self, (slot, generation): (u32, u64)) -> Result<(), &'static str> {
        let at = self.slot(slot);
        let dropped = |look: &Look| look.claim(at) == (CLAIM_DROPPED, generation);
        let claimed = |look: &&Look| {
            let by_somebody = look.claim(at) == (CLAIM_LIVE, generation) || dropped(look);
            look.readable && by_somebody && (1..=LARGEST_TID).contains(&look.word(at + T_TID))
        };
        let absent = |look: &Look| start_time(look.word(at + T_TID)) != Some(look.word(at + T_START_TIME));
        let mut looks = self.looks.iter().filter(claimed).peekable();
        looks.peek().ok_or("nobody claimed that slot")?;
        let for_long = self.since(dropped).is_some_and(|since| self.long_enough(since, DROPPED_MS));
        let gone = for_long || looks.any(absent);
        gone.then_some(()).ok_or("that thread is there, or was dropped for a moment only")
    }

    /// It was at work for this long without a sign of life in any lane.
    fn still(&self, (slot, generation): (u32, u64)) -> Result<(), &'static str> {
        let at = self.slot(slot);
        let lanes = self.lanes;
        let now = self.looks.last().ok_or("nobody has looked")?;
        let same = |look: &Look| {
            let claim = look.claim(at);
            claim.1 == generation
                && look.word(at + T_ACTIVITY) & 1 == 1
                && look.word(at + T_ACTIVITY) == now.word(at + T_ACTIVITY)
                && look.progress(at, lanes) == now.progress(at, lanes)
        };
        let since = self.since(same).ok_or("it is not at work")?;
        self.long_enough(since, THRESHOLD_MS).then_some(()).ok_or("it gave signs of life")
    }

    /// Messages waited for this long, and none was received.
    fn deaf(&self, (slot, generation): (u32, u64)) -> Result<(), &'static str> {
        let at = self.channel_offset + slot as usize * CHANNEL_STRIDE;
        let now = self.looks.last().ok_or("nobody has looked")?;
        let waits = |look: &Look| {
            let depth = look.word(at + C_SENT).wrapping_sub(look.word(at + C_RECEIVED)).cast_signed();
            look.claim(at + C_CLAIM) == (CLAIM_LIVE, generation)
                && depth > 0
                && look.word(at + C_RECEIVED) == now.word(at + C_RECEIVED)
        };
        let since = self.since(waits).ok_or("nothing waits in it")?;
        self.long_enough(since, THRESHOLD_MS).then_some(()).ok_or("it was received from")
    }

    fn slot(&self, slot: u32) -> usize {
        self.thread_offset + slot as usize * self.stride + T_CLAIM
    }
}

impl Look {
    fn word(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// State and generation of a claim.
    fn claim(&self, at: usize) -> (u64, u64) {
        (self.word(at) & 0xff, self.word(at) >> 8)
    }

    fn progress(&self, slot: usize, lanes: usize) -> u64 {
        let used = usize::try_from(self.word(slot + T_LANE_HIGH_WATER)).unwrap_or(usize::MAX).clamp(1, lanes);
        let lane = |lane: usize| self.word(slot + T_LANES + lane * LANE_SIZE + L_PROGRESS);
        (0..used).fold(0, |sum: u64, number| sum.wrapping_add(lane(number)))
    }
}
