//! What the probe observed at one moment: the whole input of the judge. It includes its own times,
//! so that a recorded observation gives the same decision when replayed. What the kernel did not
//! report is `None`, never zero.

use alloc::vec::Vec;

use alloc::sync::Arc;

use crate::clock::Monotonic;
use crate::target::TargetIdentity;

/// One observation of the target.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When the observation began.
    pub at: Monotonic,
    /// How long the machine has been suspended since boot, nanoseconds: `CLOCK_BOOTTIME` minus
    /// `CLOCK_MONOTONIC`. Only a suspend makes it grow.
    pub suspended_ns: u64,
    /// CPU time that the hypervisor has taken since the probe began to read it, nanoseconds: from
    /// each reading to the next, what it took of that CPU which lost most, among those on which a
    /// runnable thread without progress was seen meanwhile. `None`: not read for this observation.
    /// It is read only while such a thread exists, and not at every observation.
    pub stolen_ns: Option<u64>,
    /// The process, or `None` while none is watched.
    pub process: Option<ProcessObservation>,
    /// Its registered threads (or, without a segment, the threads whose names match a rule).
    pub threads: Vec<ThreadObservation>,
    /// Its published channels.
    pub channels: Vec<ChannelObservation>,
}

/// The process as a whole.
#[derive(Clone, Debug)]
pub struct ProcessObservation {
    /// Which process.
    pub identity: TargetIdentity,
    /// The state that it declares in its segment.
    pub declared: Declared,
    /// Whether its segment could be read this time. Always true for a target without one.
    pub segment_readable: bool,
    /// Whether its pidfd reports that it has ended.
    pub exited: bool,
    /// State of the main thread.
    pub leader: Option<TaskState>,
    /// Whether any thread still runs. Checked only when a thread or the leader has ended.
    pub survivors: Survivors,
    /// When our first signal was sent to it.
    pub signalled: Option<Monotonic>,
    /// Throttling counters of its cgroups, as last read. They are read only while a thread that
    /// stands still is runnable, and not at every observation.
    pub throttle: Option<ThrottleObservation>,
    /// Whether the kernel is writing its core. Checked only when the leader, or a thread, is
    /// exiting: during a core dump all of them are.
    pub core_dumping: bool,
}

impl ProcessObservation {
    /// A process of which only the identity is known. Recordings are encoded as differences from
    /// this, so another value of a field here makes older recordings say something else.
    pub const fn blank(identity: TargetIdentity) -> Self {
        Self {
            identity,
            declared: Declared::Unknown,
            segment_readable: true,
            exited: false,
            leader: None,
            survivors: Survivors::NotAsked,
            signalled: None,
            throttle: None,
            core_dumping: false,
        }
    }
}

/// How much the CPU bandwidth limits of a process's cgroup, and of those above it, have throttled.
/// The counters cover all CPUs together and lag: that they grow is significant, by how much is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleObservation {
    /// Periods with throttling, `nr_throttled`.
    pub periods: u64,
    /// Throttled time, nanoseconds.
    pub time_ns: u64,
}

/// The state that the process declares in its segment. A hint that may excuse, never one that
/// condemns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declared {
    /// It declares nothing, or something unknown.
    #[default]
    Unknown,
    /// It is starting.
    Boot,
    /// It is up.
    Running,
    /// It is ending in an orderly way.
    Stopping,
    /// It has given up and will end.
    Failed,
}

impl Declared {
    /// Whether a process that declares this is ending on purpose.
    pub const fn says_it_ends(self) -> bool {
        matches!(self, Self::Stopping)
    }
}

/// Whether a process with an ended thread goes on without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survivors {
    /// Not checked.
    #[default]
    NotAsked,
    /// The kernel did not answer.
    Unknown,
    /// Every remaining thread is exiting or has SIGKILL pending: the process is on its way out.
    None,
    /// One thread goes on, and no other. In the first moments of an exit or of an exec the thread
    /// that began it looks like this too.
    Alone,
    /// At least two threads go on: nobody has begun to end the process.
    Some,
}

/// One thread.
#[derive(Clone, Debug)]
pub struct ThreadObservation {
    /// Slot in the segment, or a number given by the probe.
    pub slot: u32,
    /// Generation of that slot; each use has its own.
    pub generation: u64,
    /// Registered name, or else the kernel's.
    pub name: Arc<str>,
    /// Thread id as the sidecar sees it.
    pub tid: i32,
    /// The state of the slot, written by its owner.
    pub claim: Claim,
    /// Whether it exists.
    pub presence: Presence,
    /// Even = idle, odd = working.
    pub activity: u64,
    /// Changes whenever any of its lanes makes progress.
    pub progress: u64,
    /// Key of its work. Meaningful while working.
    pub work_key: u64,
    /// Attempt number of that work.
    pub attempt: u64,
    /// How long that work may stand still according to its owner, nanoseconds; zero: not stated.
    /// Untrusted, like every word of the segment.
    pub deadline_ns: u64,
    /// The word of the section of that work, as its owner wrote it; zero: none. Untrusted: see
    /// [`crate::section::Section::from_word`].
    pub section: u64,
    /// The kernel's view of it. Read only while it is at work and has made no progress since the
    /// last observation.
    pub task: Option<TaskObservation>,
    /// The workers in its lanes, for which it may be waiting. Read whenever `task` is, up to as
    /// many as the probe has room for.
    pub workers: Vec<WorkerObservation>,
}

/// One worker of a thread that makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerObservation {
    /// Its lane in the thread's slot.
    pub lane: u32,
    /// Generation of that lane; each use has its own.
    pub generation: u64,
    /// Whether it exists.
    pub presence: Presence,
    /// The kernel's view of it.
    pub task: Option<TaskObservation>,
}

impl ThreadObservation {
    /// A live, idle thread of which only the identity is known. Recordings are encoded as
    /// differences from this, so another value of a field here makes older recordings say something
    /// else.
    pub const fn blank(slot: u32, generation: u64, name: Arc<str>, tid: i32) -> Self {
        Self {
            slot,
            generation,
            name,
            tid,
            claim: Claim::Live,
            presence: Presence::Present,
            activity: 0,
            progress: 0,
            work_key: 0,
            attempt: 0,
            deadline_ns: 0,
            section: 0,
            task: None,
            workers: Vec::new(),
        }
    }

    /// Whether its activity counter says that it is at work.
    pub const fn working(&self) -> bool {
        self.activity & 1 == 1
    }
}

/// The state of a slot, written by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Under watch.
    Live,
    /// Left in an orderly way: no longer watched.
    Left,
    /// Dropped without leaving, for example by unwinding.
    Dropped,
}

/// Whether a thread exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It exists.
    Present,
    /// It has ended.
    Gone,
    /// The kernel did not answer.
    Unknown,
    /// Not checked: the watchdog has no descriptors left for it.
    Unopened,
}

/// The kernel's view of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskObservation {
    /// Scheduler state.
    pub state: TaskState,
    /// CPU time used, nanoseconds (`schedstat`, field 1; on a kernel without it, user plus system
    /// time from `stat`, in steps of 10 ms).
    pub cpu_ns: Option<u64>,
    /// Time spent runnable and waiting for a CPU, nanoseconds (`schedstat`, field 2). Lags: it is
    /// updated only when the thread is given a CPU again.
    pub run_delay_ns: Option<u64>,
    /// Where in the kernel it sleeps or, of a runnable thread, what limits its CPU time, if known.
    pub wait: Option<WaitChannel>,
}

/// What a thread waits for in the kernel, as far as the difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitChannel {
    /// The freezer of its cgroup.
    Frozen,
    /// A futex, with priority inheritance or without: a lock, a condition, a join, a channel.
    Futex,
    /// Its cgroup makes it wait for memory (`memory.high`).
    Memory,
    /// Something that somebody else must do: the child of a vfork, a process that must answer, a
    /// thread that must provide a page, the end of an RCU grace period. Often in `D`, although no
    /// device is late.
    Answer,
    /// It is runnable, in a scheduling class whose CPU time the kernel limits: `SCHED_DEADLINE` by
    /// the runtime of each period, `SCHED_FIFO` and `SCHED_RR` by real-time throttling (sched(7)).
    /// While it uses no CPU, that is why.
    RealTime,
    /// Anything else: a socket, a pipe, a timer; in `D` usually a disk.
    Other,
}

/// Scheduler state, `/proc/PID/stat` field 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// `R`: on a CPU or waiting for one.
    Running,
    /// `S`: interruptible sleep.
    Sleeping,
    /// `D`: uninterruptible sleep.
    DiskSleep,
    /// `T`: stopped by a signal.
    Stopped,
    /// `t`: held by a tracer.
    Traced,
    /// `Z`: ended, not yet reaped.
    Zombie,
    /// `X`: being torn down.
    Dead,
    /// Any other letter.
    Other,
}

impl From<char> for TaskState {
    fn from(letter: char) -> Self {
        match letter {
            'R' => Self::Running,
            'S' | 'I' => Self::Sleeping,
            'D' => Self::DiskSleep,
            'T' => Self::Stopped,
            't' => Self::Traced,
            'Z' => Self::Zombie,
            'X' | 'x' => Self::Dead,
            _ => Self::Other,
        }
    }
}

/// One channel.
#[derive(Clone, Debug)]
pub struct ChannelObservation {
    /// Slot in the segment.
    pub slot: u32,
    /// Generation of that slot; each use has its own.
    pub generation: u64,
    /// Published name.
    pub name: Arc<str>,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
}

impl ChannelObservation {
    /// A channel that was never used.
    pub const fn blank(slot: u32, generation: u64, name: Arc<str>) -> Self {
        Self { slot, generation, name, sent: 0, received: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::TaskState::{self, *};

    #[test]
    fn the_letters_are_those_of_proc_pid_stat() {
        let told = [
            ('R', Running),
            ('S', Sleeping),
            ('I', Sleeping),
            ('D', DiskSleep),
            ('T', Stopped),
            ('t', Traced),
            ('Z', Zombie),
            ('X', Dead),
            ('x', Dead),
            ('P', Other),
            ('?', Other),
        ];
        for (letter, state) in told {
            assert_eq!(TaskState::from(letter), state, "{letter}");
        }
    }
}
