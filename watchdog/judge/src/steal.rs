//! CPU time that the hypervisor takes from the machine (steal, `/proc/stat`).
//!
//! A vCPU from which the hypervisor takes the CPU stands still, and the thread on it with it; the
//! thread's state stays `R`. Kernels differ in what they call that time (`update_rq_clock_task` in
//! kernel/sched/core.c): with `CONFIG_PARAVIRT_TIME_ACCOUNTING` it is not part of a thread's CPU
//! time, so that the thread looks like one that is given no CPU. Without it, it is: a healthy
//! thread seems to use all the CPU time that it never had.
//!
//! While a thread stays runnable, it has had at most the time that passed less what was taken. CPU
//! time beyond that is taken off. A thread that seems to have used less leaves room: what is taken
//! shows only when the hypervisor lets the CPU go, which may be some readings later. So where the
//! kernel leaves steal out, nothing is taken off, and a livelock counts all CPU time that it had:
//! it is found once it has had `stall_after` of it, which takes `stall_after / (1 - s)` if the
//! hypervisor takes the share `s`, of the CPU that lost most among those on which a thread without
//! progress was seen.
//!
//! Readings are rarer than observations. CPU time since the last one counts for the time being, but
//! no verdict is given before a reading has confirmed it.

use core::time::Duration;

use crate::clock::Monotonic;

/// Steal is judged over at least this long: the kernel counts it in steps of 10 ms.
const WINDOW: Duration = Duration::from_millis(100);
/// It explains why a thread is given no CPU if it is at least this part of the time. Less is usual
/// on a shared host, and then something else keeps the thread from running.
const LARGE: u32 = 4;
/// For this long after the last reading.
const LARGE_FOR: Duration = Duration::from_secs(2);

/// A verdict waits for a reading no longer than this after the last one: the file may have become
/// unreadable.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// At most so much room is left to what shows later, and so much debt. A longer absence of the CPU
/// costs the CPU time of one reading; more room would hide steal behind a wait for other reasons.
pub const MOST_ROOM: Duration = Duration::from_millis(500);

/// What the hypervisor took, as one observation shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steal {
    /// Whether it is being read.
    known: bool,
    /// What it took since the reading before, if this observation has read it.
    read: Option<Duration>,
    /// Whether it takes so much that threads lack CPU because of it.
    large: bool,
}

impl Steal {
    /// Whether it takes so much that threads lack CPU because of it.
    pub const fn is_large(self) -> bool {
        self.large
    }

    /// Whether it is being read, so that a verdict can wait for the next reading.
    pub const fn is_known(self) -> bool {
        self.known
    }
}

/// What is remembered of the readings for one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thief {
    last: Option<(Monotonic, u64)>,
    /// The readings since the last judgement of how much it takes: time, and time taken.
    window: (Duration, Duration),
    large: bool,
}

impl Thief {
    /// Processes the reading of one observation, if there is one.
    pub fn look(&mut self, stolen_ns: Option<u64>, at: Monotonic) -> Steal {
        let Some(now) = stolen_ns else {
            let within = |time| self.last.is_some_and(|(last, _)| at.since(last) <= time);
            return Steal { known: within(KNOWN_FOR), read: None, large: self.large && within(LARGE_FOR) };
        };
        let (since, taken) = self.last.map_or((Duration::ZERO, Duration::ZERO), |(last, before)| {
            (at.since(last), Duration::from_nanos(now.saturating_sub(before)))
        });
        self.last = Some((at, now));
        self.window = (self.window.0.saturating_add(since), self.window.1.saturating_add(taken));
        if self.window.0 >= WINDOW {
            self.large = self.window.1.saturating_mul(LARGE) >= self.window.0;
            self.window = (Duration::ZERO, Duration::ZERO);
        }
        Steal { known: true, read: Some(taken), large: self.large }
    }
}

/// All the time since a clock began, or since its thread last slept.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    time: Duration,
    /// Time in the run queue.
    waited: Duration,
    /// What was stolen of it.
    stolen: Duration,
    /// CPU time counted before, less what had been taken off.
    before: Duration,
}

impl Whole {
    /// It lasts for `elapsed` more, of which the thread `waited`, while `stolen` shows. Returns
    /// what of that can be its own.
    fn lasts(&mut self, elapsed: Duration, waited: Duration, stolen: Duration) -> Duration {
        self.time = self.time.saturating_add(elapsed);
        self.waited = self.waited.saturating_add(waited);
        let own = stolen.min(self.time.saturating_sub(self.stolen));
        self.stolen = self.stolen.saturating_add(own);
        own
    }

    /// How much more than all of it was used, waited and stolen, if `used` is left of the CPU time
    /// by now. Where the kernel leaves steal out, these are no more than the time.
    const fn excess(&self, used: Duration) -> Duration {
        let spent = used.saturating_sub(self.before).saturating_add(self.stolen);
        spent.saturating_add(self.waited).saturating_sub(self.time)
    }
}

/// What the hypervisor had of the time that one stall clock counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Robbed {
    steal: Steal,
    taken: Duration,
    taken_now: Duration,
    /// What of that was not called lost before.
    taken_anew: Duration,
    /// CPU time beyond the time that passed, since the last reading: it was called lost before.
    late: Duration,
    robbed: bool,
    /// Whether the last observation has confirmed CPU time.
    confirms: bool,
    /// Time since the last reading, or since the clock began.
    since: Duration,
    /// Time before that in which it was on a CPU, or may have been, and seems to have used none.
    room: Duration,
    /// What was stolen beyond all of that: earlier CPU time had the room that it left.
    debt: Duration,
    /// Time in the run queue since then.
    waited: Duration,
    /// Whether there was a reading since the clock began.
    begun: bool,
    /// Whether an observation since then, or at it, has not found it runnable.
    slept: bool,
    /// What was stolen while it was runnable, and was not taken off.
    open: Duration,
    /// What is known of all the time since the clock began, or since it last slept.
    whole: Whole,
    /// CPU time counted by the last reading, and now.
    used: (Duration, Duration),
}

impl Robbed {
    /// What the coming observation shows.
    pub const fn hear(&mut self, steal: Steal) {
        self.steal = steal;
    }

    /// What the last observation showed.
    pub const fn heard(&self) -> Steal {
        self.steal
    }

    /// Accounts for `elapsed`, by the end of which the thread seems to have used so much CPU time
    /// since the clock began. `runs`: the observation finds it runnable. `waited`: time in the run
    /// queue that it shows, where nothing is taken from the thread itself.
    pub fn settle(&mut self, elapsed: Duration, used: Duration, runs: bool, waited: Duration) {
        (self.taken_now, self.taken_anew, self.confirms) = (Duration::ZERO, Duration::ZERO, false);
        self.since = self.since.saturating_add(elapsed);
        let growth = used.saturating_sub(self.used.1);
        self.late = self.late.saturating_add(growth.saturating_sub(elapsed));
        self.used.1 = used;
        self.slept |= !runs;
        self.waited = self.waited.saturating_add(waited);
        self.robbed &= runs;
        let Some(stolen) = self.steal.read else { return };
        if self.slept {
            (self.room, self.debt, self.open) = Default::default();
            self.whole = Whole { before: self.used.0.saturating_sub(self.taken), ..Whole::default() };
        }
        // Of what shows now, no more can have been taken since the clock began than there was time.
        let own = self.whole.lasts(self.since, self.waited, stolen);
        self.open = self.open.saturating_add(stolen);
        let unread = used.saturating_sub(self.used.0);
        let passed = self.room.saturating_add(self.since);
        let (stolen, own) = (stolen.saturating_add(self.debt), own.saturating_add(self.debt));
        let had = passed.saturating_sub(stolen);
        // CPU time lags by a tick: what exceeds the time that passed need not be stolen.
        self.taken_now = unread.saturating_sub(had).min(self.open);
        self.open = self.open.saturating_sub(self.taken_now);
        self.taken = self.taken.saturating_add(self.taken_now);
        self.taken_anew = self.taken_now.saturating_sub(core::mem::take(&mut self.late));
        self.confirms = unread > self.taken_now;
        self.robbed = !self.taken_now.is_zero() && self.taken_now >= self.since / 2;
        // What was stolen before the clock began, or while it slept, is no debt.
        let stays = !self.slept;
        let room = had.saturating_sub(unread).saturating_sub(self.waited).min(MOST_ROOM);
        let owed = own.saturating_sub(passed).min(MOST_ROOM);
        let debt = owed.min(self.whole.excess(used.saturating_sub(self.taken)));
        self.room = if stays { room } else { Duration::ZERO };
        self.debt = if stays && self.begun { debt } else { Duration::ZERO };
        self.begun = true;
        (self.since, self.waited, self.slept) = (Duration::ZERO, Duration::ZERO, !runs);
        self.used.0 = used;
    }

    /// All that was taken off.
    pub const fn taken(&self) -> Duration {
        self.taken
    }

    /// What the last observation took off, without what was called lost before it showed.
    pub const fn taken_anew(&self) -> Duration {
        self.taken_anew
    }

    /// Whether the hypervisor had at least half of the time before the last reading, although the
    /// kernel calls it the thread's.
    pub const fn is_robbed(&self) -> bool {
        self.robbed
    }

    /// Whether the last observation has confirmed some CPU time, although it took other off.
    pub const fn confirms(&self) -> bool {
        self.confirms
    }

    /// Whether a reading has confirmed all CPU time. Where steal is not known, nothing will.
    pub fn is_settled(&self) -> bool {
        !self.steal.known || self.used.0 == self.used.1
    }
}
