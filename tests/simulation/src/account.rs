//! The true state of one thread that makes no progress, recorded beside the judge's own sum so that
//! the two can be compared.
//!
//! There are two bounds, one from above and one from below:
//! - `able`: every nanosecond since the thread's last progress in which it could have run (it
//!   slept, or had a CPU) while the watchdog was not late. The judge must never have counted more
//!   than that, apart from what no two observations can show (`forgiven`).
//! - `sure`: time in which it could have run that two observations must show. Once this has passed
//!   the threshold, the judge must have condemned the thread.

use std::time::Duration;

use shard_watchdog::judge::steal::MOST_ROOM;
use shard_watchdog::observation::{TaskObservation, TaskState, WaitChannel};
use shard_watchdog::verdict::ExcuseKind;

use super::plan::{MS, Machine, Nanos};

/// A shorter deadline for a piece of work counts as this one (ADR 018).
const SHORTEST_DEADLINE: Duration = Duration::from_nanos(150 * MS);

/// The truth about one period without progress.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Time in which the thread could have run.
    pub able: Nanos,
    /// Time that the judge may count in error because no two observations can show it: a hold that
    /// began and ended between them, the first observation after a beat (which has nothing to
    /// compare with), and one tick of CPU time wherever a count begins.
    pub forgiven: Nanos,
    /// Time that the judge must have counted.
    pub sure: Nanos,
    /// CPU time by which `sure` may lag behind: one tick for each run of observations that began
    /// while the thread was runnable.
    pub lag: Nanos,
    /// Time that an excuse may have taken, by kind: all intervals that it touched.
    pub excused: [Nanos; ExcuseKind::ALL.len()],
    /// Time that an excuse must have taken, by kind.
    pub surely_excused: [Nanos; ExcuseKind::ALL.len()],
    /// Which caps the judge has reported as passed, by kind.
    pub told: [bool; ExcuseKind::ALL.len()],
    /// Since its last progress it began to stand still in another way.
    pub mixed: bool,
    /// The last observation must have brought the judge nearer to a verdict.
    pub gained: bool,
    /// The thread made progress since the last observation.
    pub moved: bool,
    /// Its words were random at the last observation, so the next two have nothing to compare with.
    pub torn: bool,
    /// The longest time between two observations since its last progress: 50 ms while another
    /// thread stands condemned.
    pub longest: Nanos,
    /// What must have been counted when its threshold last changed. A verdict falls in time counted
    /// after that.
    pub before_change: Nanos,
    /// What must have been counted when the rules were last reloaded: the kind of its standstill
    /// may have been one that only reported until then.
    pub before_reload: Option<Nanos>,
    /// How often they had been reloaded by then.
    reloads: u32,
    /// The shortest deadline that an observation has shown for this work since its last progress.
    given: Option<Nanos>,
    /// The same, over the observations that the watchdog cannot have forgotten.
    surely_given: Option<Nanos>,
    /// The threshold at the last observation.
    threshold: Duration,
    /// CPU time that it used while the watchdog was not late.
    pub burnt: Nanos,
    /// One of its workers was runnable at the last observation.
    waits_for_cpu: bool,
    /// `None` without workers. With workers: whether one was, or may have been, kept from running
    /// since the last observation.
    workers: Option<bool>,
    /// For a thread with workers, `sure` is the greater of two sums that must have been counted:
    /// time in which no worker was kept from running, and CPU time of its own. The kernel's
    /// counters, which lag by a tick each, do not show how far the two overlap; adding them would
    /// count some time twice.
    unkept: Nanos,
    ran_surely: Nanos,
    /// At this observation the thread may be waiting for another one.
    others: bool,
    /// `others` at the last observation, so this one has nothing to compare with.
    blinded: bool,
    /// No observation since the last progress has seen it stand still.
    fresh: bool,
    /// At which of the last observations a tracer held it, one bit each.
    traced: u128,
    /// A tracer repeatedly stops and releases one of its workers.
    workers_traced: bool,
    /// How long it waited for a CPU before anything was stolen from it.
    may_hide: Nanos,
    now: Now,
    before: Seen,
}

/// Sums since the last observation, or since the last progress if that was later.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    slept: Nanos,
    ran: Nanos,
    waited: Nanos,
    held: Nanos,
    /// As much of what is stolen may count, where the kernel takes it for CPU time: the time in
    /// which neighbours had its CPU, or its quota was used up (ADR 049).
    hidden: Nanos,
}

/// What an observation showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    /// The kernel was not asked, or gave no answer.
    #[default]
    Nothing,
    /// Held, for this reason.
    Held(ExcuseKind),
    /// Runnable.
    Runnable,
    /// Asleep.
    Asleep,
}

impl Account {
    /// The thread made progress: the account begins anew.
    pub fn progressed(&mut self) {
        let reloads = self.reloads;
        *self = Self { moved: true, fresh: true, before: Seen::Nothing, reloads, ..Self::default() };
    }

    /// The thread stands still in another way from now on.
    pub const fn changed_ways(&mut self) {
        self.mixed = true;
    }

    /// The watchdog has forgotten all of it, or saw something else: it need not have counted
    /// anything that came before.
    pub fn forgotten(&mut self) {
        // What was reported stays reported: the watchdog may not have forgotten that.
        (self.sure, self.lag, self.surely_excused) = (0, 0, Default::default());
        (self.unkept, self.ran_surely) = (0, 0);
        (self.fresh, self.before) = (true, Seen::Nothing);
        self.surely_given = None;
    }

    /// The watchdog knows nothing of the thread.
    pub fn unknown(&mut self) {
        self.forgotten();
        (self.given, self.moved) = (None, true);
    }

    /// An observation shows the deadline that the owner gives its work; zero means none.
    pub fn shows_deadline(&mut self, deadline: Nanos) {
        if deadline > 0 {
            for least in [&mut self.given, &mut self.surely_given] {
                *least = Some(least.map_or(deadline, |least| least.min(deadline)));
            }
        }
    }

    /// The shortest and the longest threshold that a rule's `stall_after` may leave it. Its owner's
    /// deadline never lengthens it.
    pub fn thresholds(&self, stall_after: Duration) -> (Duration, Duration) {
        let of = |given: Option<Nanos>| {
            given.map_or(stall_after, |given| {
                stall_after.min(SHORTEST_DEADLINE.max(Duration::from_nanos(given)))
            })
        };
        (of(self.given), of(self.surely_given))
    }

    /// The threshold may have changed at a time when `sure` must have been counted.
    pub fn settle_threshold(&mut self, stall_after: Duration, sure: Nanos) {
        let (_, threshold) = self.thresholds(stall_after);
        if std::mem::replace(&mut self.threshold, threshold) != threshold {
            self.before_change = sure;
        }
    }

    /// The rules have been reloaded so often, and `sure` was counted before this observation.
    pub fn settle_reload(&mut self, reloads: u32, sure: Nanos) {
        if std::mem::replace(&mut self.reloads, reloads) != reloads {
            self.before_reload = Some(sure);
        }
    }

    /// An observation says nothing about the thread: nothing counts, and the next one has nothing
    /// to compare with.
    pub fn pause(&mut self) {
        self.now = Now::default();
        (self.gained, self.moved) = (false, false);
        (self.fresh, self.before) = (true, Seen::Nothing);
    }

    /// An observation finds that the thread has ended: it could have been replaced.
    pub fn look_gone(&mut self, elapsed: Nanos, late: bool) {
        self.gained = !late && !std::mem::take(&mut self.moved);
        self.able += if late { 0 } else { elapsed };
        self.sure += if self.gained { elapsed } else { 0 };
    }

    /// It slept, and could have continued if what it waits for had come.
    pub const fn slept(&mut self, time: Nanos) {
        self.now.slept += time;
    }

    /// It had a CPU.
    pub const fn ran(&mut self, time: Nanos) {
        self.now.ran += time;
    }

    /// It waited for a CPU.
    pub const fn waited(&mut self, time: Nanos) {
        self.now.waited += time;
    }

    /// It waited for neighbours or its quota. As much of what is stolen may count in error, of what
    /// comes later up to half a second. `robbed`: some has been stolen before.
    pub const fn may_hide_theft(&mut self, time: Nanos, robbed: bool) {
        if robbed {
            self.now.hidden += time;
        } else {
            self.may_hide += time;
        }
    }

    /// The hypervisor takes its CPU. `in_cpu`: the kernel will take that for CPU time.
    pub fn robbed(&mut self, in_cpu: bool) {
        if in_cpu {
            let most = u64::try_from(MOST_ROOM.as_nanos()).unwrap_or(u64::MAX);
            self.now.hidden += std::mem::take(&mut self.may_hide).min(most);
        }
    }

    /// How long it waited for a CPU, or was held, since the last observation.
    pub const fn kept_now(&self) -> Nanos {
        self.now.waited + self.now.held
    }

    /// One of its workers is seen to be held.
    pub fn worker_held(&mut self, kind: ExcuseKind, elapsed: Nanos) {
        self.excused[kind as usize] += elapsed;
    }

    /// One of its workers waited this long for a CPU. `runnable`: the observation shows a worker
    /// that may be waiting; `any`: the thread has workers.
    pub fn workers_waited(&mut self, time: Nanos, runnable: bool, any: bool) {
        self.now.waited += time;
        self.waits_for_cpu = runnable;
        self.workers = any.then_some(time > 0);
    }

    /// A tracer repeatedly stops one of its workers, whose CPU time then counts for nothing.
    pub const fn workers_are_traced(&mut self, traced: bool) {
        self.workers_traced = traced;
    }

    /// The kernel writes the core of its process, or did until this observation. `surely`: the
    /// observation shows nothing else.
    pub fn dumps_core(&mut self, elapsed: Nanos, surely: bool) {
        self.excused[ExcuseKind::CoreDumping as usize] += elapsed;
        self.surely_excused[ExcuseKind::CoreDumping as usize] += if surely { elapsed } else { 0 };
    }

    /// It sleeps, and another thread of its process, or a worker of that thread, waited this long
    /// for a CPU. `runnable`: an observation shows one that may be waiting.
    pub fn others_waited(&mut self, time: Nanos, runnable: bool) {
        self.now.waited += time;
        self.waits_for_cpu |= runnable;
        self.others = time > 0 || runnable;
    }

    /// It was held.
    pub const fn held(&mut self, time: Nanos) {
        self.now.held += time;
    }

    /// An observation, `elapsed` after the one before, could not read the segment.
    pub fn blind_look(&mut self, elapsed: Nanos, late: bool) {
        let now = std::mem::take(&mut self.now);
        self.able += if late { 0 } else { now.slept + now.ran };
        self.before = Seen::Nothing;
        self.fresh = false;
        if late {
            self.excused[ExcuseKind::ObserverLate as usize] += elapsed;
        }
    }

    /// An observation, `elapsed` after the one before, showed `task`.
    pub fn look(&mut self, elapsed: Nanos, late: bool, task: Option<TaskObservation>, machine: &Machine) {
        self.traced = self.traced << 1 | u128::from(task.is_some_and(|task| task.state == TaskState::Traced));
        let now = std::mem::take(&mut self.now);
        self.burnt += if late { 0 } else { now.ran };
        self.longest = self.longest.max(if late { 0 } else { elapsed });
        let seen = task.map_or(Seen::Nothing, seen);
        let before = std::mem::replace(&mut self.before, seen);
        if std::mem::take(&mut self.moved) {
            // The watchdog sees the progress now, and begins to count here.
            self.able += if late { 0 } else { now.slept + now.ran };
            self.excuses(elapsed, late, Seen::Nothing, seen, now, machine);
            self.before = Seen::Nothing;
            self.fresh = !std::mem::take(&mut self.torn);
            return;
        }
        self.gained = false;
        let fresh = std::mem::take(&mut self.fresh);
        let blinded = std::mem::replace(&mut self.blinded, std::mem::take(&mut self.others));
        self.excuses(elapsed, late, before, seen, now, machine);
        if late {
            // A void observation: the next one is compared with it, and any count begins there.
            self.forgiven += machine.lag();
            self.lag += machine.lag();
            return;
        }
        self.able += now.slept + now.ran;
        let held = |seen| matches!(seen, Seen::Held(_));
        if !held(before) && !held(seen) {
            self.forgiven += now.held;
        }
        if fresh {
            // A sleeping thread is assumed to have slept since the beat.
            self.forgiven += if seen == Seen::Asleep { now.waited } else { 0 };
        }
        if before != Seen::Runnable && before != Seen::Asleep {
            self.forgiven += machine.lag();
            self.lag += machine.lag();
        }
        self.forgiven += now.hidden;
        if before != Seen::Runnable && machine.steal_in_cpu {
            // What was stolen shows in ticks, and not all of the last one.
            self.forgiven += super::theft::TICK;
        }
        let known = before == Seen::Runnable || before == Seen::Asleep || fresh && seen == Seen::Asleep;
        if now.held > 0 || !known || blinded || self.workers_traced || self.tracer_comes_and_goes() {
            return;
        }
        let sure = self.sure;
        let more = match seen {
            Seen::Asleep if now.waited == 0 && before != Seen::Runnable => elapsed,
            Seen::Asleep | Seen::Runnable => now.ran,
            _ => 0,
        };
        if let Some(kept) = self.workers {
            self.unkept += if kept { 0 } else { more };
            self.ran_surely += now.ran;
            self.sure = self.sure.max(self.unkept).max(self.ran_surely);
        } else {
            self.sure += more;
        }
        self.gained = self.sure > sure;
    }

    /// Whether a tracer held it at some of the last observations and not at others, so that its CPU
    /// time may count for nothing. The judge demands more than that, over fewer observations, which
    /// need not be exactly these.
    pub const fn tracer_comes_and_goes(&self) -> bool {
        const LOOKS: u32 = 68;
        let changes = (self.traced ^ self.traced >> 1) & ((1 << LOOKS) - 1);
        changes.count_ones() >= 2
    }

    fn excuses(&mut self, elapsed: Nanos, late: bool, before: Seen, seen: Seen, now: Now, machine: &Machine) {
        let traced = self.tracer_comes_and_goes() || self.workers_traced;
        let mut touched = |kind: ExcuseKind| self.excused[kind as usize] += elapsed;
        if late {
            touched(ExcuseKind::ObserverLate);
            return;
        }
        for end in [before, seen] {
            if let Seen::Held(kind) = end {
                touched(kind);
                if before == seen {
                    break;
                }
            }
        }
        // Without a run-queue time counter, a thread that was runnable may have waited until now.
        let unknown = !machine.schedstat && before == Seen::Runnable;
        if now.waited > 0 || unknown || seen == Seen::Runnable || std::mem::take(&mut self.waits_for_cpu) {
            touched(ExcuseKind::Starved);
            // A wait for a throttling cgroup gets that name once the cgroup's counters show it.
            touched(ExcuseKind::Throttled);
            // Or of the hypervisor, which takes the CPU.
            touched(ExcuseKind::Stolen);
            // A thread that sleeps beside one whose cgroup gives it no memory may be waiting for
            // that one.
            touched(ExcuseKind::MemoryThrottled);
        }
        if traced {
            touched(ExcuseKind::Traced);
        }
        match seen {
            Seen::Held(kind) if before == seen => self.surely_excused[kind as usize] += elapsed,
            // If a tracer comes and goes, a wait for a CPU is also called traced.
            Seen::Runnable if before == seen && now.waited == elapsed && now.ran == 0 && !traced => {
                self.surely_excused[ExcuseKind::Starved as usize] += elapsed;
            }
            _ => {}
        }
    }

    /// The most CPU time that the judge may have taken as used.
    pub const fn burnt_at_most(&self) -> Duration {
        Duration::from_nanos(self.burnt + self.now.ran + self.forgiven)
    }

    /// The most time that the judge may have counted.
    pub const fn at_most(&self) -> Duration {
        Duration::from_nanos(self.able + self.now.slept + self.now.ran + self.forgiven)
    }
}

/// What holds a thread for which the kernel reports `task`.
pub fn held(task: TaskObservation) -> Option<ExcuseKind> {
    match seen(task) {
        Seen::Held(kind) => Some(kind),
        _ => None,
    }
}

fn seen(task: TaskObservation) -> Seen {
    match (task.state, task.wait) {
        (_, Some(WaitChannel::Frozen)) | (TaskState::DiskSleep, None) => Seen::Held(ExcuseKind::Frozen),
        (_, Some(WaitChannel::Memory)) => Seen::Held(ExcuseKind::MemoryThrottled),
        (TaskState::Stopped, _) => Seen::Held(ExcuseKind::Stopped),
        (TaskState::Traced, _) => Seen::Held(ExcuseKind::Traced),
        (TaskState::Running, _) => Seen::Runnable,
        _ => Seen::Asleep,
    }
}
