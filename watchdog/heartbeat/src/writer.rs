//! The watched process's side: the handle on its segment.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::channel::ChannelBeat;
use crate::error::{CreateError, RegisterError};
use crate::identity;
use crate::in_flight::{self, InFlight};
use crate::last_words;
use crate::layout::{
    Geometry, H_MAGIC, H_STATE, H_WATCHDOG_BEAT, H_WATCHDOG_PID, H_WATCHDOG_START_TIME, MAGIC, MAX_NAME,
    MAX_SHARD, word,
};
use crate::quarantine::{self, Quarantine};
use crate::segment;
use crate::sight;
use crate::slot::Table;
use crate::state::ProcessState;
use crate::thread::ThreadBeat;
use crate::watchdog::WatchdogSeen;
use crate::words::Words;

/// The shape of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Name of the shard, at most 32 bytes.
    pub shard: String,
    /// Threads that can be watched at once, 1 to 4096.
    pub thread_slots: u32,
    /// Channels that can be watched at once, up to 4096.
    pub channel_slots: u32,
    /// Progress counters for each thread, its own included, 1 to 128: as many as the largest pool
    /// of workers that one of them waits for, plus one. The sidecar reads all of them at each
    /// observation, so a process of hundreds of threads without workers should set 1: at 1,000
    /// threads that halves the cost of an observation.
    pub lanes: u32,
}

impl Default for SegmentOptions {
    /// 64 threads with 16 lanes each, 64 channels: 94,208 bytes.
    fn default() -> SegmentOptions {
        SegmentOptions { shard: String::new(), thread_slots: 64, channel_slots: 64, lanes: 16 }
    }
}

impl SegmentOptions {
    /// The default shape for a shard of this name.
    pub fn new(shard: impl Into<String>) -> SegmentOptions {
        SegmentOptions { shard: shard.into(), ..SegmentOptions::default() }
    }
}

/// A handle on the segment that this process writes. Clones share it; when the last of them and of
/// everything registered through them is dropped, the segment is unmapped and unlocked. The file
/// stays, with its last contents: from them the sidecar learns the last state.
#[derive(Clone)]
pub struct Heartbeat {
    shared: Arc<Shared>,
}

struct Shared {
    words: Words,
    geometry: Geometry,
    path: PathBuf,
    incarnation: u64,
}

impl Heartbeat {
    /// Creates the segment at `path`, replacing any that is there. Readers find the old one or the
    /// complete new one, never anything in between. Two files lie beside it: `.<name>.new` during
    /// creation, and `<name>.lock`, which keeps a second writer out and is never removed.
    ///
    /// The path should be on tmpfs (`/run`, `/dev/shm`): on a disk, write-back can delay a beat.
    pub fn create(path: &Path, options: &SegmentOptions) -> Result<Heartbeat, CreateError> {
        let len = options.shard.len();
        if len > MAX_SHARD {
            return Err(CreateError::ShardTooLong { len });
        }
        let geometry = Geometry {
            thread_slots: options.thread_slots,
            channel_slots: options.channel_slots,
            lanes: options.lanes,
        };
        geometry.check().map_err(|(name, value, low, high)| CreateError::OutOfBounds {
            name,
            value,
            low,
            high,
        })?;
        let created = segment::create(path, &options.shard, geometry)?;
        let (words, incarnation) = (created.words, created.incarnation);
        Ok(Heartbeat { shared: Arc::new(Shared { words, geometry, path: path.to_owned(), incarnation }) })
    }

    /// The path given at creation.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The incarnation of this process: larger than any earlier one at the same path. Microseconds
    /// of wall time.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// Publishes the state of the process as a whole.
    pub fn set_state(&self, state: ProcessState) {
        self.shared.words[word(H_STATE)].store(state.code(), Ordering::Release);
    }

    /// Registers the calling thread for the watch under a name of 1 to 15 bytes. It is watched
    /// until [`ThreadBeat::leave`]; any other end counts as the thread's death.
    pub fn register(&self, name: &str) -> Result<ThreadBeat, RegisterError> {
        check_name(name)?;
        let who = identity::current_thread()?;
        let geometry = self.shared.geometry;
        let slots = geometry.thread_slots;
        let table = Table {
            segment: self.shared.words.clone(),
            offset: geometry.thread_offset(),
            stride: geometry.thread_stride(),
            slots,
        };
        table
            .claim(name, who)
            .and_then(|slot| ThreadBeat::new(slot, who, name))
            .ok_or(RegisterError::Exhausted { kind: "thread slots", slots })
    }

    /// Registers a channel for the watch under a name of 1 to 15 bytes. `capacity` is in messages;
    /// `None` = unbounded.
    pub fn channel(&self, name: &str, capacity: Option<u64>) -> Result<ChannelBeat, RegisterError> {
        check_name(name)?;
        let geometry = self.shared.geometry;
        let slots = geometry.channel_slots;
        ChannelBeat::claim(&self.shared.words, geometry.channel_offset(), slots, name, capacity)
            .ok_or(RegisterError::Exhausted { kind: "channel slots", slots })
    }

    /// Leaves the last words of this process for the sidecar, which puts them into the incident.
    /// Returns true if they were stored: only the first are, later ones are ignored.
    ///
    /// Text beyond 2,048 bytes is cut at a character boundary; an empty text is ignored. This never
    /// waits, takes no lock, allocates nothing and makes one system call: fit for a panic hook, or
    /// for a thread that will not come back. In a forked child it does nothing.
    pub fn last_words(&self, text: &str) -> bool {
        let words = &self.shared.words;
        // In a forked child this memory is private and zeroed: nobody would read it.
        words[word(H_MAGIC)].load(Ordering::Relaxed) == MAGIC
            && last_words::say(words, identity::current_tid(), text)
    }

    /// Makes this process visible to a sidecar of another pid namespace: a client at the socket
    /// `<path>.sight`, if it is the same user or root, receives this process's `/proc` and a pidfd.
    /// A separate thread serves the socket for the life of the process. A sidecar in the same pid
    /// namespace does not need this.
    ///
    /// # Errors
    /// If the socket cannot be created, or the thread cannot be started.
    pub fn show_proc(&self) -> io::Result<()> {
        sight::show(self.path())
    }

    /// The work of the calling thread: its own, or that of the thread whose lane it has joined.
    /// `None` if it is not watched, or idle.
    ///
    /// It takes no lock, so that a panic hook may call it wherever the panic came from. It
    /// allocates the name and reads `/proc`, which costs some ten microseconds.
    pub fn in_flight(&self) -> Option<InFlight> {
        in_flight::of_this_thread(&self.shared.words, self.shared.geometry)
    }

    /// What the watchdog has written into the segment.
    pub fn watchdog(&self) -> WatchdogSeen {
        let get = |offset: usize| self.shared.words[word(offset)].load(Ordering::Acquire);
        WatchdogSeen {
            beat: get(H_WATCHDOG_BEAT),
            pid: get(H_WATCHDOG_PID),
            start_time: get(H_WATCHDOG_START_TIME),
        }
    }

    /// Work that the watchdog asks this process not to take, because it was in flight at the death
    /// of more than one of its incarnations. Check it before taking work: it costs ten loads.
    /// Anybody who may write the file may have written it, so use it only to skip work and for
    /// nothing else.
    pub fn quarantine(&self) -> Quarantine {
        quarantine::look(&self.shared.words)
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, incarnation) = (self.path(), self.incarnation());
        f.debug_struct("Heartbeat")
            .field("path", &path)
            .field("incarnation", &incarnation)
            .finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), RegisterError> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(RegisterError::Name { name: name.to_owned() });
    }
    Ok(())
}

/// Makes a type neither `Send` nor `Sync`: it belongs to the thread that registered.
pub(crate) type OfThisThread = PhantomData<*const ()>;
