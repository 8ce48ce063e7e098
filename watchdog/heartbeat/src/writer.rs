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
    MAX_SHARD, STATE_BOOT, STATE_FAILED, STATE_RUNNING, STATE_STOPPING, word,
};
use crate::quarantine::{self, Quarantine};
use crate::segment;
use crate::sight;
use crate::slot::Table;
use crate::thread::ThreadBeat;
use crate::watchdog::WatchdogSeen;
use crate::words::Words;

/// The shape of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Name of the shard, at most 32 bytes.
    pub shard: String,
    /// Threads that can be on the watch at once, 1 to 4096.
    pub thread_slots: u32,
    /// Channels that can be on the watch at once, up to 4096.
    pub channel_slots: u32,
    /// Progress counters for each thread, its own included, 1 to 128: as many as the largest pool
    /// of workers that one of them waits for, and one more. The sidecar reads all of them at each
    /// look, so a process of hundreds of threads without workers should say 1: at 1,000 threads
    /// that halves what a look costs.
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

/// What a process says about itself as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// Starting, not yet able to work. A new segment says this.
    Boot,
    /// Doing its duty.
    Running,
    /// An orderly stop is under way.
    Stopping,
    /// It gave up by itself.
    Failed,
}

impl ProcessState {
    /// The word that stands for it in a segment.
    pub fn code(self) -> u64 {
        match self {
            ProcessState::Boot => STATE_BOOT,
            ProcessState::Running => STATE_RUNNING,
            ProcessState::Stopping => STATE_STOPPING,
            ProcessState::Failed => STATE_FAILED,
        }
    }

    /// The state that a word stands for; `None` for a code that version 1 does not know.
    pub fn from_code(code: u64) -> Option<ProcessState> {
        [ProcessState::Boot, ProcessState::Running, ProcessState::Stopping, ProcessState::Failed]
            .into_iter()
            .find(|state| state.code() == code)
    }
}

/// A handle on the segment that this process writes. Clones share it; when the last of them and of
/// what was registered through them is gone, the segment is unmapped and unlocked. The file stays,
/// with its last state: it is how the sidecar learns what was.
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
    /// Creates the segment at `path`, replacing one that may be there. Readers find the old one or
    /// the complete new one, never something between. Two files stand beside it: `.<name>.new`
    /// while it is made, and `<name>.lock`, which keeps a second writer out and stays.
    ///
    /// The path should be on tmpfs (`/run`, `/dev/shm`): on a disk, write-back can hold up a beat.
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

    /// Which life of the process this is: larger than any before it at the same path. Microseconds
    /// of wall time.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// Says how the process as a whole is.
    pub fn set_state(&self, state: ProcessState) {
        self.shared.words[word(H_STATE)].store(state.code(), Ordering::Release);
    }

    /// Puts the calling thread on the watch under a name of 1 to 15 bytes. It stays on it until
    /// [`ThreadBeat::leave`]; any other end counts as the thread's death.
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

    /// Puts a channel on the watch under a name of 1 to 15 bytes. `capacity` is in messages; `None`
    /// = unbounded.
    pub fn channel(&self, name: &str, capacity: Option<u64>) -> Result<ChannelBeat, RegisterError> {
        check_name(name)?;
        let geometry = self.shared.geometry;
        let slots = geometry.channel_slots;
        ChannelBeat::claim(&self.shared.words, geometry.channel_offset(), slots, name, capacity)
            .ok_or(RegisterError::Exhausted { kind: "channel slots", slots })
    }

    /// Leaves the last words of this process for the sidecar, which puts them into the incident.
    /// True if they are the ones that stand: the first stand, whoever says more says it in vain.
    ///
    /// Text beyond 2,048 bytes is cut at the end of a character; an empty text is none. It waits
    /// for nobody, takes no lock and no memory, and makes one system call: fit for a panic hook, or
    /// for a thread that will not come back. In a forked child it does nothing.
    pub fn last_words(&self, text: &str) -> bool {
        let words = &self.shared.words;
        // What a forked child finds here is private and zeroed: nobody would read it.
        words[word(H_MAGIC)].load(Ordering::Relaxed) == MAGIC
            && last_words::say(words, identity::current_tid(), text)
    }

    /// Lets a sidecar of another pid namespace see this process: who asks at the socket
    /// `<path>.sight`, as the same user or root, gets `/proc` as it is here, and a pidfd. For the
    /// life of the process, by a thread of its own. A sidecar that shares the pid namespace needs
    /// none of it.
    ///
    /// # Errors
    /// If the socket cannot be made, or the thread not be started.
    pub fn show_proc(&self) -> io::Result<()> {
        sight::show(self.path())
    }

    /// What the calling thread is at: its own work, or that of the thread whose lane it has joined.
    /// `None` if it is not on the watch, or idle.
    ///
    /// It takes no lock, so that a panic hook may ask wherever the panic came from; it allocates
    /// the name and reads `/proc`, which costs some ten microseconds.
    pub fn in_flight(&self) -> Option<InFlight> {
        in_flight::of_this_thread(&self.shared.words, self.shared.geometry)
    }

    /// What the watchdog has written back.
    pub fn watchdog(&self) -> WatchdogSeen {
        let get = |offset: usize| self.shared.words[word(offset)].load(Ordering::Acquire);
        WatchdogSeen {
            beat: get(H_WATCHDOG_BEAT),
            pid: get(H_WATCHDOG_PID),
            start_time: get(H_WATCHDOG_START_TIME),
        }
    }

    /// Work that the watchdog asks this process not to take, because it was in flight at the death
    /// of more than one of its incarnations. Whoever takes work asks before: it costs ten loads.
    /// Anybody who may write the file may have written it, so it may cost the work's turn here, and
    /// nothing else may rest on it.
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
