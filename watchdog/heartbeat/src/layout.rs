//! The layout of a segment: byte offsets, strides, limits and state codes of ABI version 1.
//!
//! Everything is an aligned little-endian 64-bit word. `ABI.md` defines what the words mean; a test
//! compares `include/shard_heartbeat.h` with this file.

/// First word of a complete segment: the bytes `SHRDBEAT`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SHRDBEAT");
/// The only version this crate writes or reads.
pub const VERSION: u64 = 1;
/// Size of a cache line, in bytes; hot words are placed on separate lines.
pub const LINE: usize = 64;
/// Size of the header, in bytes: one page, so that slots start page-aligned.
pub const HEADER_SIZE: usize = 4096;

/// Longest name of a thread or channel, in bytes: the kernel's limit for a thread's name.
pub const MAX_NAME: usize = 15;
/// Longest name of a section of work, in characters: as many as one word holds.
pub const MAX_SECTION: usize = 12;
/// Base of the number that is a section's name: 39 characters, and zero for none.
pub const SECTION_BASE: u64 = 40;
/// Longest name of a shard, in bytes.
pub const MAX_SHARD: usize = 32;
/// Longest last words, in bytes: a sentence, a place and the first frames of a backtrace, in half
/// of the header's page.
pub const MAX_LAST_WORDS: usize = 2048;
/// Most work keys in quarantine in a segment: more than a few at a time indicate a broken process,
/// not poison work.
pub const MAX_QUARANTINE: usize = 8;
/// Most thread slots or channel slots a segment may declare.
pub const MAX_SLOTS: u32 = 4096;
/// Most lanes a thread slot may declare, the thread's own included.
pub const MAX_LANES: u32 = 128;
/// Largest segment, in bytes: limits what a hostile header can make a reader copy in one sample.
pub const MAX_SEGMENT: usize = 16 << 20;

/// Header: [`MAGIC`], written last.
pub const H_MAGIC: usize = 0x000;
/// Header: [`VERSION`].
pub const H_VERSION: usize = 0x008;
/// Header: [`HEADER_SIZE`], in bytes.
pub const H_HEADER_SIZE: usize = 0x010;
/// Header: size of the whole segment, in bytes.
pub const H_TOTAL_SIZE: usize = 0x018;
/// Header: number of thread slots.
pub const H_THREAD_SLOTS: usize = 0x020;
/// Header: distance between thread slots, in bytes.
pub const H_THREAD_STRIDE: usize = 0x028;
/// Header: offset of the first thread slot, in bytes.
pub const H_THREAD_OFFSET: usize = 0x030;
/// Header: lanes in each thread slot, the thread's own included.
pub const H_LANES: usize = 0x038;
/// Header: number of channel slots.
pub const H_CHANNEL_SLOTS: usize = 0x040;
/// Header: distance between channel slots, in bytes.
pub const H_CHANNEL_STRIDE: usize = 0x048;
/// Header: offset of the first channel slot, in bytes.
pub const H_CHANNEL_OFFSET: usize = 0x050;
/// Header: process id of the writer, in the writer's pid namespace.
pub const H_PID: usize = 0x058;
/// Header: start time of the writer, in clock ticks since boot (field 22 of `/proc/PID/stat`).
pub const H_START_TIME: usize = 0x060;
/// Header: incarnation; larger for each new segment at one path.
pub const H_INCARNATION: usize = 0x068;
/// Header: boot id, 16 bytes in the order in which they are printed; zero if unknown.
pub const H_BOOT_ID: usize = 0x070;
/// Header: length of the shard's name, in bytes.
pub const H_SHARD_LEN: usize = 0x080;
/// Header: the shard's name, [`MAX_SHARD`] bytes, zero-filled.
pub const H_SHARD: usize = 0x088;
/// Header: process state, one of the `STATE_` codes.
pub const H_STATE: usize = 0x0c0;
/// Header: index from which on thread slots were never used.
pub const H_THREAD_HIGH_WATER: usize = 0x100;
/// Header: index from which on channel slots were never used.
pub const H_CHANNEL_HIGH_WATER: usize = 0x108;
/// Header: the watchdog's beat counter; zero if there never was a watchdog.
pub const H_WATCHDOG_BEAT: usize = 0x140;
/// Header: process id of the watchdog, in the watchdog's pid namespace.
pub const H_WATCHDOG_PID: usize = 0x148;
/// Header: start time of the watchdog, in clock ticks since boot.
pub const H_WATCHDOG_START_TIME: usize = 0x150;
/// Header: state of the last words, one of the `LAST_WORDS_` codes; written last.
pub const H_LAST_WORDS: usize = 0x180;
/// Header: id of the thread that wrote the last words, in the writer's pid namespace.
pub const H_LAST_WORDS_TID: usize = 0x188;
/// Header: length of the last words, in bytes.
pub const H_LAST_WORDS_LEN: usize = 0x190;
/// Header: the last words, [`MAX_LAST_WORDS`] bytes of UTF-8.
pub const H_LAST_WORDS_TEXT: usize = 0x1c0;
/// Header: sequence word of the quarantine, which the watchdog writes; odd while it changes.
pub const H_QUARANTINE: usize = 0xa00;
/// Header: number of work keys in quarantine.
pub const H_QUARANTINE_LEN: usize = 0xa08;
/// Header: the work keys in quarantine, [`MAX_QUARANTINE`] words.
pub const H_QUARANTINE_KEYS: usize = 0xa10;

/// Last words: none.
pub const LAST_WORDS_NONE: u64 = 0;
/// Last words: a thread is still writing; readers treat it as none.
pub const LAST_WORDS_WRITING: u64 = 1;
/// Last words: complete; they never change again.
pub const LAST_WORDS_SAID: u64 = 2;

/// Process state: starting, not yet able to work.
pub const STATE_BOOT: u64 = 1;
/// Process state: up and working.
pub const STATE_RUNNING: u64 = 2;
/// Process state: an orderly stop is under way.
pub const STATE_STOPPING: u64 = 3;
/// Process state: it gave up by itself.
pub const STATE_FAILED: u64 = 4;

/// Thread slot: claim word, `generation << 8 | state`.
pub const T_CLAIM: usize = 0x00;
/// Thread slot: thread id, in the writer's pid namespace.
pub const T_TID: usize = 0x08;
/// Thread slot: start time of the thread, in clock ticks since boot.
pub const T_START_TIME: usize = 0x10;
/// Thread slot: name; one byte of length, then [`MAX_NAME`] bytes (stamped).
pub const T_NAME: usize = 0x18;
/// Thread slot: index from which on lanes were never used.
pub const T_LANE_HIGH_WATER: usize = 0x28;
/// Thread slot: sequence word of the stamp; odd while stamped fields change.
pub const T_SEQUENCE: usize = 0x40;
/// Thread slot: activity word, even = idle, odd = working.
pub const T_ACTIVITY: usize = 0x48;
/// Thread slot: work key.
pub const T_WORK_KEY: usize = 0x50;
/// Thread slot: attempt.
pub const T_ATTEMPT: usize = 0x58;
/// Thread slot: how long the work may stand still, in nanoseconds; zero = none.
pub const T_DEADLINE: usize = 0x60;
/// Thread slot: trace id, 16 bytes (stamped).
pub const T_TRACE_ID: usize = 0x68;
/// Thread slot: span id, 8 bytes (stamped).
pub const T_SPAN_ID: usize = 0x78;
/// Thread slot: trace flags (stamped).
pub const T_TRACE_FLAGS: usize = 0x80;
/// Thread slot: the section of the work that the thread is in; zero = none.
pub const T_SECTION: usize = 0x88;
/// Thread slot: offset of lane 0, the thread's own.
pub const T_LANES: usize = 0xc0;

/// Lane: claim word, as a thread slot's.
pub const L_CLAIM: usize = 0x00;
/// Lane: thread id of the worker.
pub const L_TID: usize = 0x08;
/// Lane: start time of the worker, in clock ticks since boot.
pub const L_START_TIME: usize = 0x10;
/// Lane: progress counter.
pub const L_PROGRESS: usize = 0x18;
/// Size of a lane, in bytes.
pub const LANE_SIZE: usize = LINE;

/// Channel slot: claim word, as a thread slot's.
pub const C_CLAIM: usize = 0x00;
/// Channel slot: sequence word of the stamp.
pub const C_SEQUENCE: usize = 0x08;
/// Channel slot: name, as a thread slot's (stamped).
pub const C_NAME: usize = 0x10;
/// Channel slot: capacity in messages; [`CAPACITY_UNBOUNDED`] = none.
pub const C_CAPACITY: usize = 0x20;
/// Channel slot: messages sent so far.
pub const C_SENT: usize = 0x40;
/// Channel slot: messages received so far.
pub const C_RECEIVED: usize = 0x80;
/// Size of a channel slot, in bytes.
pub const CHANNEL_STRIDE: usize = 0xc0;
/// Capacity of a channel that has none.
pub const CAPACITY_UNBOUNDED: u64 = u64::MAX;

/// Claim state: never used.
pub const CLAIM_FREE: u64 = 0;
/// Claim state: owned by a thread, a worker or a channel.
pub const CLAIM_LIVE: u64 = 1;
/// Claim state: given back in order; may be used again.
pub const CLAIM_LEFT: u64 = 2;
/// Claim state: its owner ended without giving it back.
pub const CLAIM_DROPPED: u64 = 3;
/// Claim state: being filled; readers treat it as free.
pub const CLAIM_FILLING: u64 = 4;

/// Distance between thread slots that have `lanes` lanes, in bytes.
pub const fn thread_stride(lanes: u32) -> usize {
    T_LANES + lanes as usize * LANE_SIZE
}

const _: () = assert!(H_LAST_WORDS_TEXT + MAX_LAST_WORDS <= H_QUARANTINE);
const _: () = assert!(H_QUARANTINE_KEYS + MAX_QUARANTINE * 8 <= HEADER_SIZE);

/// Index of the word at a byte offset.
pub(crate) const fn word(offset: usize) -> usize {
    offset / 8
}

/// The numbers that shape one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) thread_slots: u32,
    pub(crate) channel_slots: u32,
    pub(crate) lanes: u32,
}

impl Geometry {
    pub(crate) const fn thread_offset(self) -> usize {
        HEADER_SIZE
    }

    pub(crate) const fn thread_stride(self) -> usize {
        thread_stride(self.lanes)
    }

    pub(crate) const fn channel_offset(self) -> usize {
        self.thread_offset() + self.thread_slots as usize * self.thread_stride()
    }

    pub(crate) const fn total_size(self) -> usize {
        self.channel_offset() + self.channel_slots as usize * CHANNEL_STRIDE
    }

    /// The first number that is out of bounds, with its value and its limits.
    pub(crate) fn check(self) -> Result<(), (&'static str, u64, u64, u64)> {
        let bounds = [
            ("thread_slots", self.thread_slots, 1, MAX_SLOTS),
            ("channel_slots", self.channel_slots, 0, MAX_SLOTS),
            ("lanes", self.lanes, 1, MAX_LANES),
        ];
        for (name, value, low, high) in bounds {
            if value < low || value > high {
                return Err((name, value.into(), low.into(), high.into()));
            }
        }
        let total = self.total_size();
        if total > MAX_SEGMENT {
            return Err(("total_size", total as u64, HEADER_SIZE as u64, MAX_SEGMENT as u64));
        }
        Ok(())
    }
}
