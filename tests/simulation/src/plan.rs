//! A history before it is lived through: what the machine is like, and what happens when. It
//! contains all the chance, so a plan runs the same way every time, and one without some event is
//! another plan.

use std::fmt;
use std::time::Duration;

use shard_watchdog::config::{ByKind, KillMode, KillSignal, On};

use super::silence::Horizon;

/// A moment or a length of virtual time, nanoseconds of the monotonic clock.
pub type Nanos = u64;
/// One millisecond.
pub const MS: Nanos = 1_000_000;

/// A whole history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed it was made from.
    pub seed: u64,
    /// The machine's properties, constant throughout.
    pub machine: Machine,
    /// The rules at the start.
    pub rules: Rules,
    /// Number of watched threads in each incarnation.
    pub threads: usize,
    /// What happens, in order of time.
    pub events: Vec<Timed>,
    /// When the history ends.
    pub end: Nanos,
}

/// The kernel, supervisor and habits of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The latest that the watchdog wakes up after the time it asked for, if nothing holds it up.
    pub jitter: Nanos,
    /// The scheduler's tick: the kernel updates the CPU time of a running thread once a tick.
    pub tick: Nanos,
    /// Whether the kernel keeps `schedstat`.
    pub schedstat: bool,
    /// Whether the kernel shows where a thread sleeps.
    pub wchan: bool,
    /// Whether a frozen thread shows as `D` (the old freezer, and Linux 6.1+ where it slept) or as
    /// `S` (the new freezer's trap).
    pub frozen_is_d: bool,
    /// Whether the ends of threads are polled.
    pub poll_threads: bool,
    /// How much later the last thread of a process ends than the first.
    pub teardown: Nanos,
    /// How long the thread that begins an exit still appears to be running. The judge believes in a
    /// lone survivor after 2 ms.
    pub alone: Nanos,
    /// Time from the end of a process to the start of the next.
    pub restart: Nanos,
    /// Time from the start of a process until the sidecar has found it.
    pub adopt: Nanos,
    /// Whether the next process gets the same pid.
    pub same_pid: bool,
    /// Whether the main thread is watched.
    pub watched_leader: bool,
    /// Number of unwatched threads in the process.
    pub others: u32,
    /// A thread that its cgroup throttles leaves the run queue, and none of its own counters shows
    /// that time (Linux 6.18 on).
    pub throttled_off_queue: bool,
    /// Whether the sidecar sees `cpu.stat`.
    pub cpu_stat: bool,
    /// Whether its threads are in a scheduling class that limits their CPU time.
    pub limited_class: bool,
    /// Whether the kernel takes what the hypervisor steals for the CPU time of the thread.
    pub steal_in_cpu: bool,
    /// How long it takes to write the core of a process that is sent SIGABRT; zero: none is
    /// written.
    pub core: Nanos,
}

impl Machine {
    /// How far the CPU time of a running thread lags behind.
    pub const fn lag(&self) -> Nanos {
        if self.schedstat { self.tick } else { self.tick + super::thread::COARSE }
    }
}

/// What an operator can configure, as far as it is simulated.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `stall_after` of the watched threads.
    pub stall_after: Duration,
    /// `warm_up` of the watched threads.
    pub warm_up: Duration,
    /// `sections` of the watched threads: the word of each, and its `stall_after`.
    pub sections: Vec<(u64, Duration)>,
    /// What a stall leads to.
    pub on: On,
    /// The same for some kinds of stall.
    pub by_kind: ByKind,
    /// `[judge] exit_within`.
    pub exit_within: Duration,
    /// `stopped.at_most`.
    pub stopped_at_most: Duration,
    /// `stopped.then = "kill"`.
    pub stopped_kills: bool,
    /// The cap of every other excuse.
    pub excuse_cap: Duration,
    /// `[judge] poison_after`.
    pub poison_after: u32,
    /// `[restart] within`.
    pub restart_within: Duration,
    /// `[kill] mode`.
    pub mode: KillMode,
    /// `[kill] progress_brake`.
    pub brake: u32,
    /// How long `[kill] jitter` makes each kill for a stall wait.
    pub jitter: Duration,
    /// How long evidence is gathered before the first signal.
    pub evidence: Duration,
    /// `[kill] signals`.
    pub signals: Vec<(KillSignal, Duration)>,
    /// `[kill] budget`.
    pub budget: (u32, Duration),
    /// The `[[channel]]`, if there is one.
    pub channel: Option<ChannelRule>,
    /// The silence horizon of the watched threads, if there is one.
    pub silence: Option<Horizon>,
}

/// One channel and its rule.
#[derive(Clone, Copy, Debug)]
pub struct ChannelRule {
    /// `max_age`.
    pub max_age: Duration,
    /// `max_depth`.
    pub max_depth: u64,
    /// Which threads should receive from it.
    pub consumer: Consumer,
    /// What exceeding a limit leads to.
    pub on: On,
    /// The length and number of steps of work for each message; `None`: it is only taken.
    pub work: Option<(Nanos, u32)>,
}

/// Which threads should receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// The first watched thread.
    First,
    /// Any watched thread.
    All,
    /// No thread that exists.
    Nobody,
}

impl ChannelRule {
    /// Whether the thread in that slot should receive.
    pub const fn means(&self, slot: u32) -> bool {
        match self.consumer {
            Consumer::First => slot == 0,
            Consumer::All => true,
            Consumer::Nobody => false,
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// When it happens.
    pub at: Nanos,
    /// What happens.
    pub event: Event,
}

/// How a thread hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Asleep on a lock.
    Deadlock,
    /// Asleep on something else.
    Blocked,
    /// Burning CPU for nothing.
    Livelock,
    /// In uninterruptible sleep.
    Disk,
    /// In uninterruptible sleep for an answer, while no device is late: as the parent of a vfork.
    Answer,
}

/// How much CPU a thread that wants it gets: `run` of every `run + wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Time on a CPU per turn. Zero: never.
    pub run: Nanos,
    /// Time in the run queue per turn.
    pub wait: Nanos,
}

/// What can happen. Lengths give the duration. `thread` is a number among the watched threads.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the sentence above each event says what its fields are")]
pub enum Event {
    /// The thread gets work: `beats` steps of `beat` each, on a CPU or asleep; then `more` such
    /// pieces without a pause. It declares that each may stand still for `deadline`, unless that is
    /// zero.
    Work { thread: usize, beat: Nanos, beats: u32, on_cpu: bool, more: u32, deadline: Nanos },
    /// The thread gets work that `workers` in its lanes do, as in `Work`, while it sleeps.
    Join { thread: usize, workers: u32, beat: Nanos, beats: u32, on_cpu: bool, deadline: Nanos },
    /// It declares another deadline, whatever it is doing.
    Deadline { thread: usize, deadline: Nanos },
    /// While it is at work, it enters the section of that word. `torn`: it is interrupted after the
    /// first of the two stores, so that there is no progress.
    Enter { thread: usize, section: u64, torn: bool },
    /// One of its workers stops making progress.
    HangWorker { thread: usize, worker: usize, how: Hang },
    /// Neighbours take the CPU of one of its workers.
    StarveWorker { thread: usize, worker: usize, share: Share, length: Nanos },
    /// One of its workers ends, having dropped its lane or without notice.
    LoseWorker { thread: usize, worker: usize, said: bool },
    /// It stops making progress, while at work.
    Hang { thread: usize, how: Hang },
    /// It makes progress again.
    Unhang { thread: usize },
    /// Neighbours take its CPU.
    Starve { thread: usize, share: Share, length: Nanos },
    /// A debugger holds it.
    Trace { thread: usize, length: Nanos },
    /// Its cgroup makes it wait for memory.
    Memory { thread: usize, length: Nanos },
    /// It ends without notice.
    End { thread: usize },
    /// It drops its slot, as in unwinding, and ends after `then`.
    Drop { thread: usize, then: Nanos },
    /// It leaves the watch and ends.
    Leave { thread: usize },
    /// A new thread in its slot, with a tid used before.
    Register { thread: usize },
    /// SIGSTOP, later SIGCONT.
    Stop { length: Nanos },
    /// The cgroup is frozen.
    Freeze { length: Nanos },
    /// The cgroup has used up its quota.
    Throttle { share: Share, length: Nanos },
    /// The hypervisor takes the CPUs.
    Steal { share: Share, length: Nanos },
    /// A fatal signal, and a core that takes that long to write.
    Core { length: Nanos },
    /// The process ends, having declared it or not.
    Exit { said: bool },
    /// It declares that it will end, and does not.
    SaysStopping,
    /// It revokes that.
    SaysRunning,
    /// It begins to end and never finishes.
    ExitHangs,
    /// The main thread ends; the others go on.
    LeaderEnds,
    /// It runs another program.
    Exec,
    /// The machine sleeps; for `mono` of that time clocks run and nothing else does.
    Suspend { mono: Nanos, boot: Nanos },
    /// The wall clock is set.
    WallClock { seconds: i64 },
    /// The segment is missing, too short or of another version.
    Unreadable { length: Nanos },
    /// Random words in the segment.
    Garbage { length: Nanos },
    /// One observation in `one_in` cannot read the segment, or finds a slot torn.
    Flaky { one_in: u64, length: Nanos },
    /// Messages are sent into the channel.
    Send { messages: u64 },
    /// `messages` are sent `times` times, once in `every`.
    Flood { messages: u64, times: u32, every: Nanos },
    /// An unwatched thread receives some of them.
    Take { messages: u64 },
    /// The thread does not notice messages.
    Deaf { thread: usize, length: Nanos },
    /// Another channel of that name takes the old one's slot.
    Reopen,
    /// The watchdog gets no CPU.
    Away { length: Nanos },
    /// The watchdog restarts.
    Restart { after: Nanos },
    /// A person pauses killing.
    Pause { length: Nanos },
    /// A person ends the pause.
    Resume,
    /// A person requests the kill of the watched process.
    Kill,
    /// A person declares that this work, or all work, does not kill.
    Clear { key: Option<u64> },
    /// The rules are reloaded.
    Reload { stall_after: Duration, on: On, channel: On, mode: KillMode },
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos(self.at);
        write!(f, "{:>12}  {}", format!("{at:.3?}"), readable(&format!("{:?}", self.event)))
    }
}

/// Makes the times in a debug print readable: `length: 1500000` → `length: 1.5ms`.
fn readable(text: &str) -> String {
    const TIMES: [&str; 11] =
        ["length", "beat", "run", "wait", "mono", "boot", "after", "then", "restart", "every", "deadline"];
    let mut words = text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for place in 1..words.len() {
        let key = words[place - 1].trim_end_matches(':');
        let digits = words[place].trim_end_matches([',', '}']).to_owned();
        if TIMES.contains(&key)
            && let Ok(time) = digits.parse()
        {
            words[place] = words[place].replace(&digits, &format!("{:?}", Duration::from_nanos(time)));
        }
    }
    words.join(" ")
}
