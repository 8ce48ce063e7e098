//! The sidecar's side: reads everything by `pread`, never by mapping.
//!
//! A mapped file that shrinks raises SIGBUS in the reader; `pread` returns less. The data are
//! untrusted: lengths are bounded by the header as checked when the file was opened, never by later
//! contents.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::OFlags;

use crate::claim::SlotState;
use crate::error::ReadError;
use crate::header::Header;
use crate::last_words::{self, LastWords};
use crate::layout::{
    C_CLAIM, C_NAME, C_SEQUENCE, H_CHANNEL_HIGH_WATER, H_LAST_WORDS, H_LAST_WORDS_TID, H_QUARANTINE,
    H_QUARANTINE_LEN, H_STATE, H_THREAD_HIGH_WATER, T_ACTIVITY, T_ATTEMPT, T_CLAIM, T_DEADLINE, T_LANES,
    T_NAME, T_SEQUENCE, T_SPAN_ID, T_TRACE_FLAGS, T_TRACE_ID, T_WORK_KEY, thread_stride, word,
};
use crate::layout::{CHANNEL_STRIDE, MAX_LANES};
use crate::lock::{self, LockHolder};
use crate::quarantine::{self, Quarantine};
use crate::sample::{ChannelSample, RawState, Sample, ThreadSample};
use crate::segment::WRITER_LOCK;
use crate::seqlock;
use crate::source::{Custody, FileId, Source};
use crate::work::{TraceContext, join, unpack_name};

/// Words copied at a time, on the stack: 16 KiB, which is a dozen default slots and at least one
/// slot of any size.
const CHUNK: usize = 2048;
const _: () = assert!(thread_stride(MAX_LANES) <= CHUNK * 8);

/// An open segment.
#[derive(Debug)]
pub struct Reader {
    source: Source,
}

/// The fields of a thread slot that are too wide for one word, with those that belong to them, all
/// from one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name of the thread, made printable.
    pub name: String,
    /// Generation of the slot.
    pub generation: u64,
    /// Activity word to which the work below belongs.
    pub activity: u64,
    /// Key of the work under way, or of the last work if idle.
    pub work_key: u64,
    /// Attempt of that work.
    pub attempt: u64,
    /// How long that work may stand still, in nanoseconds; 0 = none.
    pub deadline_ns: u64,
    /// Trace context of that work.
    pub trace: TraceContext,
}

impl Reader {
    /// Opens a segment and checks its header. Refuses symbolic links and anything but a regular
    /// file.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        Ok(Reader { source: Source::open(path, OFlags::RDONLY)? })
    }

    /// The header, as it was when the segment was opened.
    pub fn header(&self) -> &Header {
        &self.source.header
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Which file it is.
    ///
    /// Comparable with `/proc/PID/maps` on tmpfs, ext4 and xfs; btrfs and overlay file systems show
    /// another device there.
    pub fn file_id(&self) -> FileId {
        self.source.id
    }

    /// User id of the file's owner, when it was opened.
    pub fn owner_uid(&self) -> u32 {
        self.source.custody.uid
    }

    /// Who could change or replace the file at the time it was opened.
    pub fn custody(&self) -> Custody {
        self.source.custody
    }

    /// Who holds the lock that belongs to the path now: the writer of the segment, if the file is
    /// still where its writer created it.
    pub fn lock_holder(&self) -> LockHolder {
        lock::holder_of(&self.source.path, WRITER_LOCK, self.source.custody.uid)
    }

    /// Whether the path still leads to this file. If not, a new incarnation has replaced it, or it
    /// was removed.
    pub fn is_current(&self) -> Result<bool, ReadError> {
        self.source.is_current()
    }

    /// Reads the process state and all slots that were ever used. Allocates only when `into` must
    /// grow.
    ///
    /// After an error `into` holds a mixture and must not be judged.
    pub fn sample(&self, into: &mut Sample) -> Result<(), ReadError> {
        let header = &self.source.header;
        let mut words = [0; CHUNK];
        let head = &mut words[..word(H_CHANNEL_HIGH_WATER - H_STATE) + 1];
        self.source.read(H_STATE, head)?;
        into.state = RawState(head[0]);
        let threads = used(head[word(H_THREAD_HIGH_WATER - H_STATE)], header.thread_slots);
        let channels = used(head[word(H_CHANNEL_HIGH_WATER - H_STATE)], header.channel_slots);

        into.threads.resize_with(threads, ThreadSample::default);
        let stride = header.thread_stride;
        let at_once = (CHUNK * 8 / stride).max(1);
        for (chunk, slots) in into.threads.chunks_mut(at_once).enumerate() {
            let first = chunk * at_once;
            let words = &mut words[..slots.len() * stride / 8];
            self.source.read(header.thread_offset + first * stride, words)?;
            for (index, (slot, words)) in slots.iter_mut().zip(words.chunks_exact(stride / 8)).enumerate() {
                slot.fill((first + index) as u32, words);
            }
        }

        into.channels.resize_with(channels, ChannelSample::default);
        let at_once = CHUNK * 8 / CHANNEL_STRIDE;
        for (chunk, slots) in into.channels.chunks_mut(at_once).enumerate() {
            let first = chunk * at_once;
            let words = &mut words[..slots.len() * CHANNEL_STRIDE / 8];
            self.source.read(header.channel_offset + first * CHANNEL_STRIDE, words)?;
            for (index, (slot, words)) in
                slots.iter_mut().zip(words.chunks_exact(CHANNEL_STRIDE / 8)).enumerate()
            {
                *slot = ChannelSample::read((first + index) as u32, words);
            }
        }
        Ok(())
    }

    /// Name, work and trace context of a thread slot, all from one instant.
    ///
    /// `None` if the slot is out of range or free, or if no untorn copy could be read, as when a
    /// writer stopped in the middle of a change. These fields decorate a report; no decision may be
    /// based on their absence.
    pub fn describe(&self, slot: usize) -> Result<Option<Description>, ReadError> {
        let header = &self.source.header;
        if slot >= header.thread_slots as usize {
            return Ok(None);
        }
        let offset = header.thread_offset + slot * header.thread_stride;
        let copy =
            seqlock::read(|| self.word(offset + T_SEQUENCE), || self.words::<{ T_LANES / 8 }>(offset))?;
        Ok(copy.and_then(|words| Description::read(&words)))
    }

    /// Name of a channel slot; `None` as for [`Reader::describe`].
    pub fn describe_channel(&self, slot: usize) -> Result<Option<String>, ReadError> {
        let header = &self.source.header;
        if slot >= header.channel_slots as usize {
            return Ok(None);
        }
        let offset = header.channel_offset + slot * header.channel_stride;
        let copy =
            seqlock::read(|| self.word(offset + C_SEQUENCE), || self.words::<{ C_NAME / 8 + 2 }>(offset))?;
        Ok(copy
            .filter(|words| SlotState::decode(words[word(C_CLAIM)]).0 != SlotState::Free)
            .map(|words| unpack_name([words[word(C_NAME)], words[word(C_NAME) + 1]])))
    }

    /// The last words of the process; `None` if there are none or they are still being written.
    /// Once complete they do not change in this segment. While there are none this costs one
    /// `pread`.
    ///
    /// They decorate a report and decide nothing: anybody who may write the file may have written
    /// them.
    pub fn last_words(&self) -> Result<Option<LastWords>, ReadError> {
        last_words::heard(|| self.word(H_LAST_WORDS), || self.words(H_LAST_WORDS_TID))
    }

    /// The work in quarantine, written by a sidecar for this process or the one before; empty if a
    /// sidecar stopped in the middle of a change.
    pub fn quarantine(&self) -> Result<Quarantine, ReadError> {
        quarantine::read(|| self.word(H_QUARANTINE), || self.words(H_QUARANTINE_LEN))
    }

    fn word(&self, offset: usize) -> Result<u64, ReadError> {
        self.words::<1>(offset).map(|[word]| word)
    }

    fn words<const N: usize>(&self, offset: usize) -> Result<[u64; N], ReadError> {
        let mut words = [0; N];
        self.source.read(offset, &mut words)?;
        Ok(words)
    }
}

/// The segment's descriptor, for queries about the file.
impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.file.as_fd()
    }
}

impl Description {
    fn read(words: &[u64; T_LANES / 8]) -> Option<Description> {
        let get = |offset: usize| words[word(offset)];
        let (state, generation) = SlotState::decode(get(T_CLAIM));
        if state == SlotState::Free {
            return None;
        }
        Some(Description {
            name: unpack_name([get(T_NAME), get(T_NAME + 8)]),
            generation,
            activity: get(T_ACTIVITY),
            work_key: get(T_WORK_KEY),
            attempt: get(T_ATTEMPT),
            deadline_ns: get(T_DEADLINE),
            trace: TraceContext {
                trace_id: join([get(T_TRACE_ID), get(T_TRACE_ID + 8)]),
                span_id: get(T_SPAN_ID).to_le_bytes(),
                flags: get(T_TRACE_FLAGS) as u8,
            },
        })
    }
}

/// How many slots to read: the writer's number, but at most `slots`.
fn used(high_water: u64, slots: u32) -> usize {
    high_water.min(slots.into()) as usize
}
