//! The header as a reader accepts it: every number is checked before it is used.

use std::path::Path;

use crate::error::ReadError;
use crate::layout::{self, Geometry, word};
use crate::work::{join, printable};

/// Words of a header that a reader reads: up to the process state, which changes.
pub(crate) const HEADER_WORDS: usize = layout::H_STATE / 8;

/// A segment's header, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the ABI.
    pub version: u64,
    /// Size of the segment, in bytes.
    pub total_size: u64,
    /// Number of thread slots.
    pub thread_slots: u32,
    /// Distance between thread slots, in bytes.
    pub thread_stride: usize,
    /// Offset of the first thread slot, in bytes.
    pub thread_offset: usize,
    /// Lanes in each thread slot, the thread's own included.
    pub lanes: u32,
    /// Number of channel slots.
    pub channel_slots: u32,
    /// Distance between channel slots, in bytes.
    pub channel_stride: usize,
    /// Offset of the first channel slot, in bytes.
    pub channel_offset: usize,
    /// The shard's name, made printable.
    pub shard: String,
    /// Process id of the writer, in the writer's pid namespace.
    pub pid: u32,
    /// Start time of the writer, in clock ticks since boot.
    pub start_time: u64,
    /// The kernel's boot id, its bytes in the order in which it is printed; zeroes if the writer
    /// could not read it.
    pub boot_id: [u8; 16],
    /// Incarnation of the writer.
    pub incarnation: u64,
}

impl Header {
    /// Checks the words of a header against the layout and the file's size in bytes.
    pub(crate) fn check(words: &[u64; HEADER_WORDS], size: u64, path: &Path) -> Result<Header, ReadError> {
        let get = |offset: usize| words[word(offset)];
        if get(layout::H_MAGIC) != layout::MAGIC {
            return Err(ReadError::Magic { path: path.to_owned(), found: get(layout::H_MAGIC) });
        }
        if get(layout::H_VERSION) != layout::VERSION {
            return Err(ReadError::Version { path: path.to_owned(), found: get(layout::H_VERSION) });
        }
        let wrong = |field, offset| ReadError::Header { path: path.to_owned(), field, found: get(offset) };
        let small = |field, offset| u32::try_from(get(offset)).map_err(|_| wrong(field, offset));
        let geometry = Geometry {
            thread_slots: small("thread_slots", layout::H_THREAD_SLOTS)?,
            channel_slots: small("channel_slots", layout::H_CHANNEL_SLOTS)?,
            lanes: small("lanes", layout::H_LANES)?,
        };
        geometry.check().map_err(|(field, found, ..)| ReadError::Header {
            path: path.to_owned(),
            field,
            found,
        })?;
        // Version 1 leaves a writer no choice here; trusting words that can be checked would open
        // an attack.
        for (field, offset, wanted) in [
            ("header_size", layout::H_HEADER_SIZE, layout::HEADER_SIZE),
            ("thread_stride", layout::H_THREAD_STRIDE, geometry.thread_stride()),
            ("thread_offset", layout::H_THREAD_OFFSET, geometry.thread_offset()),
            ("channel_stride", layout::H_CHANNEL_STRIDE, layout::CHANNEL_STRIDE),
            ("channel_offset", layout::H_CHANNEL_OFFSET, geometry.channel_offset()),
            ("total_size", layout::H_TOTAL_SIZE, geometry.total_size()),
        ] {
            if get(offset) != wanted as u64 {
                return Err(wrong(field, offset));
            }
        }
        let total_size = geometry.total_size() as u64;
        if size < total_size {
            return Err(ReadError::Truncated { path: path.to_owned(), wanted: total_size });
        }
        let pid = small("pid", layout::H_PID)?;
        if pid == 0 || i32::try_from(pid).is_err() {
            return Err(wrong("pid", layout::H_PID));
        }
        let shard_len = small("shard_len", layout::H_SHARD_LEN)? as usize;
        if shard_len > layout::MAX_SHARD {
            return Err(wrong("shard_len", layout::H_SHARD_LEN));
        }
        let shard: Vec<u8> = (0..layout::MAX_SHARD)
            .step_by(8)
            .flat_map(|at| get(layout::H_SHARD + at).to_le_bytes())
            .collect();
        Ok(Header {
            version: layout::VERSION,
            total_size,
            thread_slots: geometry.thread_slots,
            thread_stride: geometry.thread_stride(),
            thread_offset: geometry.thread_offset(),
            lanes: geometry.lanes,
            channel_slots: geometry.channel_slots,
            channel_stride: layout::CHANNEL_STRIDE,
            channel_offset: geometry.channel_offset(),
            shard: printable(&shard[..shard_len]),
            pid,
            start_time: get(layout::H_START_TIME),
            boot_id: join([get(layout::H_BOOT_ID), get(layout::H_BOOT_ID + 8)]),
            incarnation: get(layout::H_INCARNATION),
        })
    }
}
