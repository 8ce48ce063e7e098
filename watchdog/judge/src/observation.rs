//! What the probe saw at one moment: all that the judge may know. Times are inside it, so that a
//! recorded observation gives the same decision tomorrow. What the kernel did not say is `None`,
//! never zero.

use alloc::vec::Vec;

use alloc::sync::Arc;

use crate::clock::Monotonic;
use crate::target::TargetIdentity;

/// One look at the target.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When the look began.
    pub at: Monotonic,
    /// How long the machine has been suspended since it was started, nanoseconds: what
    /// `CLOCK_BOOTTIME` has beyond `CLOCK_MONOTONIC`. Grows by a suspend and by nothing else.
    pub suspended_ns: u64,
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
    /// What it says of itself.
    pub declared: Declared,
    /// Whether its segment could be read this time. Always true for a target without one.
    pub segment_readable: bool,
    /// Whether its pidfd says that it has ended.
    pub exited: bool,
    /// State of the main thread.
    pub leader: Option<TaskState>,
    /// Whether any thread still runs. Looked at only when a thread or the leader has ended.
    pub survivors: Survivors,
    /// When the first signal of ours went to it.
    pub signalled: Option<Monotonic>,
    /// What its cgroups say of throttling, as of when that was last read: while a thread that
    /// stands still is runnable, and not at every look.
    pub throttle: Option<ThrottleObservation>,
    /// Whether the kernel writes its core. Looked at only when the leader, or a thread, is on its
    /// way out: all of them are then.
    pub core_dumping: bool,
}

/// How much the CPU bandwidth limit of a process's cgroup, and of those above it, has held back. Of
/// all CPUs together, and told late: that it grows means something, by how much does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleObservation {
    /// Periods in which it did, `nr_throttled`.
    pub periods: u64,
    /// For so long, nanoseconds.
    pub time_ns: u64,
}

/// What the process says of itself in its segment. A hint that may excuse, never one that condemns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declared {
    /// It says nothing, or something unknown.
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
    /// Whether a process that says this of itself is ending on purpose.
    pub const fn says_it_ends(self) -> bool {
        matches!(self, Self::Stopping)
    }
}

/// Whether a process with an ended thread goes on without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survivors {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// The kernel did not say.
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
    /// Use of that slot.
    pub generation: u64,
    /// Registered name, or the kernel's.
    pub name: Arc<str>,
    /// Thread id as the sidecar sees it.
    pub tid: i32,
    /// What its owner says of the slot.
    pub claim: Claim,
    /// Whether it exists.
    pub presence: Presence,
    /// Even = idle, odd = working.
    pub activity: u64,
    /// Changes whenever any of its lanes makes progress.
    pub progress: u64,
    /// What it works on. Meaningful while working.
    pub work_key: u64,
    /// Which attempt.
    pub attempt: u64,
    /// How long that work may stand still by its owner's own word, nanoseconds; zero: it says
    /// nothing. Hostile like every word of the segment.
    pub deadline_ns: u64,
    /// What the kernel says of it. Read only while it is at work and has shown no progress since
    /// the last look.
    pub task: Option<TaskObservation>,
    /// The workers in its lanes, for which it may be waiting. Read when `task` is, and as many as
    /// the probe has room for.
    pub workers: Vec<WorkerObservation>,
}

/// One worker of a thread that shows no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerObservation {
    /// Its lane in the thread's slot.
    pub lane: u32,
    /// Use of that lane.
    pub generation: u64,
    /// Whether it exists.
    pub presence: Presence,
    /// What the kernel says of it.
    pub task: Option<TaskObservation>,
}

impl ThreadObservation {
    /// Whether it says that it is at work.
    pub const fn working(&self) -> bool {
        self.activity & 1 == 1
    }
}

/// What the owner says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// On watch.
    Live,
    /// Left in an orderly way: off the watch.
    Left,
    /// Dropped without a word, unwinding included.
    Dropped,
}

/// Whether a thread exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Present,
    /// It has ended.
    Gone,
    /// The kernel did not say.
    Unknown,
    /// Nobody asked the kernel: the watchdog has no descriptors left to look at it with.
    Unopened,
}

/// The kernel's view of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskObservation {
    /// Scheduler state.
    pub state: TaskState,
    /// CPU time used, nanoseconds (`schedstat`, field 1; where the kernel keeps none, user and
    /// system time of `stat`, which comes in steps of 10 ms).
    pub cpu_ns: Option<u64>,
    /// Time spent runnable and waiting for a CPU, nanoseconds (`schedstat`, field 2). Lags: it
    /// moves only when the thread is given a CPU again.
    pub run_delay_ns: Option<u64>,
    /// Where in the kernel it sleeps.
    pub wait: Option<WaitChannel>,
}

/// Where in the kernel a thread sleeps, as far as the difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitChannel {
    /// The freezer of its cgroup.
    Frozen,
    /// A futex, with priority inheritance or without: a lock, a condition, a join, a channel.
    Futex,
    /// Its cgroup, which makes it wait for memory (`memory.high`).
    Memory,
    /// What somebody else must do: a child of a vfork, another process that answers, a thread that
    /// brings a page, the end of an RCU grace period. Often in `D`, and no device is late.
    Answer,
    /// Anything else: a socket, a pipe, a timer; in `D` as a rule a disk.
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
    /// Use of that slot.
    pub generation: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Messages ever sent.
    pub sent: u64,
    /// Messages ever received.
    pub received: u64,
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
