//! A history before it is lived through: what the machine is like, and what happens when. All
//! chance is in here, so a plan that is run again goes the same way, and one with an event less is
//! another plan.

use std::fmt;
use std::time::Duration;

use shard_watchdog::config::{KillMode, KillSignal, On};

/// A moment or a length of virtual time, nanoseconds of the monotonic clock.
pub type Nanos = u64;
/// One millisecond.
pub const MS: Nanos = 1_000_000;

/// A whole history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it came from.
    pub seed: u64,
    /// What holds for all of it.
    pub machine: Machine,
    /// The rules at the start.
    pub rules: Rules,
    /// Watched threads of each incarnation.
    pub threads: usize,
    /// What happens, in order of time.
    pub events: Vec<Timed>,
    /// When it is over.
    pub end: Nanos,
}

/// The kernel, the supervisor and the habits of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How late a wake-up of the watchdog comes at most, as long as nothing holds it up.
    pub jitter: Nanos,
    /// The scheduler's tick: the CPU time of a thread that runs is brought up to date once a tick.
    pub tick: Nanos,
    /// Whether the kernel keeps `schedstat`.
    pub schedstat: bool,
    /// Whether the kernel tells where a thread sleeps.
    pub wchan: bool,
    /// Whether a frozen thread shows as `D` (the old freezer, and Linux 6.1+ where it slept) or as
    /// `S` (the new freezer's trap).
    pub frozen_is_d: bool,
    /// Whether ends of threads are polled.
    pub poll_threads: bool,
    /// How long the last thread of a process takes to end after the first.
    pub teardown: Nanos,
    /// How long the thread that begins an exit looks as if it went on. The judge believes a lone
    /// survivor after 2 ms.
    pub alone: Nanos,
    /// From the end of a process to the start of the next.
    pub restart: Nanos,
    /// From the start of a process until the sidecar has found it.
    pub adopt: Nanos,
    /// Whether the next process gets the same pid.
    pub same_pid: bool,
    /// Whether the main thread is one of the watched.
    pub watched_leader: bool,
    /// Other threads of the process, which nobody watches.
    pub others: u32,
    /// A thread that its cgroup throttles leaves the run queue, and no counter of its own tells
    /// that time (Linux 6.18 on).
    pub throttled_off_queue: bool,
    /// Whether the sidecar sees `cpu.stat`.
    pub cpu_stat: bool,
    /// How long the core of a process takes to write that is sent SIGABRT; zero: none is written.
    pub core: Nanos,
}

impl Machine {
    /// How far the CPU time of a thread that runs lags behind.
    pub const fn lag(&self) -> Nanos {
        if self.schedstat { self.tick } else { self.tick + super::thread::COARSE }
    }
}

/// What an operator can write, as far as it is simulated.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `stall_after` of the watched threads.
    pub stall_after: Duration,
    /// What follows.
    pub on: On,
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
    /// `[kill] signals`.
    pub signals: Vec<(KillSignal, Duration)>,
    /// `[kill] budget`.
    pub budget: (u32, Duration),
    /// The `[[channel]]`, if there is one.
    pub channel: Option<ChannelRule>,
}

/// One channel and its rule.
#[derive(Clone, Copy, Debug)]
pub struct ChannelRule {
    /// `max_age`.
    pub max_age: Duration,
    /// `max_depth`.
    pub max_depth: u64,
    /// Who should receive from it.
    pub consumer: Consumer,
    /// What follows.
    pub on: On,
    /// Each message is so many steps of work of this length; with none it is only taken.
    pub work: Option<(Nanos, u32)>,
}

/// Who should receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// The first of the watched threads.
    First,
    /// Any of them.
    All,
    /// Nobody who exists.
    Nobody,
}

impl ChannelRule {
    /// Whether the thread in that slot is one who should.
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
    /// When.
    pub at: Nanos,
    /// What.
    pub event: Event,
}

/// How a thread hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Asleep on a lock.
    Deadlock,
    /// Asleep on something else.
    Blocked,
    /// Burns CPU for nothing.
    Livelock,
    /// In uninterruptible sleep.
    Disk,
    /// The same for somebody's answer, and no device is late: as the parent of a vfork.
    Answer,
}

/// How much CPU a thread that wants it gets: `run` of every `run + wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// At a time on a CPU. Zero: never.
    pub run: Nanos,
    /// At a time in the run queue.
    pub wait: Nanos,
}

/// What can happen. Lengths say for how long. A thread is meant by its number among the watched.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the sentence above each event says what its fields are")]
pub enum Event {
    /// The thread gets work: `beats` steps of `beat` each, on a CPU or asleep; then `more`
    /// pieces like it without a pause. It says that each may stand still for `deadline`, if that is
    /// not zero.
    Work { thread: usize, beat: Nanos, beats: u32, on_cpu: bool, more: u32, deadline: Nanos },
    /// The thread gets work that `workers` in its lanes do, as in `Work`, while it sleeps.
    Join { thread: usize, workers: u32, beat: Nanos, beats: u32, on_cpu: bool, deadline: Nanos },
    /// Its word for that becomes another one, whatever it is at.
    Deadline { thread: usize, deadline: Nanos },
    /// One of its workers stops making progress.
    HangWorker { thread: usize, worker: usize, how: Hang },
    /// Neighbours take the CPU of one of its workers.
    StarveWorker { thread: usize, worker: usize, share: Share, length: Nanos },
    /// One of its workers ends, having dropped its lane or without a word.
    LoseWorker { thread: usize, worker: usize, said: bool },
    /// It stops making progress, at work.
    Hang { thread: usize, how: Hang },
    /// It makes progress again.
    Unhang { thread: usize },
    /// Its neighbours take the CPU.
    Starve { thread: usize, share: Share, length: Nanos },
    /// A debugger holds it.
    Trace { thread: usize, length: Nanos },
    /// Its cgroup makes it wait for memory.
    Memory { thread: usize, length: Nanos },
    /// It ends without a word.
    End { thread: usize },
    /// It drops its slot, as in unwinding; the end follows after `then`.
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
    /// A fatal signal whose core takes that long to write.
    Core { length: Nanos },
    /// The process ends, having said so or not.
    Exit { said: bool },
    /// It says that it will end, and does not.
    SaysStopping,
    /// It takes that back.
    SaysRunning,
    /// It begins to end and never finishes.
    ExitHangs,
    /// The main thread ends; the others go on.
    LeaderEnds,
    /// It runs another program.
    Exec,
    /// The machine sleeps; for `mono` of it clocks run and nobody else does.
    Suspend { mono: Nanos, boot: Nanos },
    /// Somebody sets the wall clock.
    WallClock { seconds: i64 },
    /// The segment is missing, short or of another version.
    Unreadable { length: Nanos },
    /// Random words in the segment.
    Garbage { length: Nanos },
    /// One look in `one_in` cannot read the segment, or finds a slot torn.
    Flaky { one_in: u64, length: Nanos },
    /// Messages are sent into the channel.
    Send { messages: u64 },
    /// So many every so often.
    Flood { messages: u64, times: u32, every: Nanos },
    /// Somebody who is not watched receives some of them.
    Take { messages: u64 },
    /// The thread does not hear of messages.
    Deaf { thread: usize, length: Nanos },
    /// Another channel of that name in the slot of the old one.
    Reopen,
    /// The watchdog gets no CPU.
    Away { length: Nanos },
    /// The watchdog begins a new life.
    Restart { after: Nanos },
    /// A person pauses killing.
    Pause { length: Nanos },
    /// A person ends the pause.
    Resume,
    /// A person asks for the kill of what is watched.
    Kill,
    /// A person says that this work, or all, is none that kills.
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

/// Writes out the times in a debug print: `length: 1500000` → `length: 1.5ms`.
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
