//! What is really so about one thread's standing still, kept beside the judge's own sum so that the
//! two can be compared.
//!
//! Two sums, one from above and one from below:
//! - `able`: every nanosecond since its last progress in which it could have run (it slept, or had
//!   a CPU) while the watchdog was not late. The judge may never have counted more than that, but
//!   for what no two looks can show (`forgiven`).
//! - `sure`: time in which it could have run that two looks must show. Once it has passed the
//!   threshold the judge must have condemned the thread.

use std::time::Duration;

use shard_watchdog::observation::{TaskObservation, TaskState, WaitChannel};
use shard_watchdog::verdict::ExcuseKind;

use super::plan::{MS, Machine, Nanos};

/// A deadline of a piece of work that is shorter counts as this one (ADR 018).
const SHORTEST_DEADLINE: Duration = Duration::from_nanos(150 * MS);

/// The truth about one piece of standing still.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Time in which it could have run.
    pub able: Nanos,
    /// What no two looks can show, and the judge may count in error: a hold that began and ended
    /// between them, the first look after a beat, which has nothing to be compared with, and one
    /// tick of CPU time where a count begins.
    pub forgiven: Nanos,
    /// Time that the judge must have counted.
    pub sure: Nanos,
    /// CPU time of which that may lag behind: a tick for each span of looks that began while it was
    /// runnable.
    pub lag: Nanos,
    /// Time that some excuse may have taken, by kind: all intervals that it touched.
    pub excused: [Nanos; ExcuseKind::ALL.len()],
    /// Time that the excuse must have taken.
    pub surely_excused: [Nanos; ExcuseKind::ALL.len()],
    /// The caps that were told, by kind.
    pub told: [bool; ExcuseKind::ALL.len()],
    /// It began to stand still in another way since its last progress.
    pub mixed: bool,
    /// The last look must have brought the judge nearer to a verdict.
    pub gained: bool,
    /// Progress since the last look.
    pub moved: bool,
    /// Its words were random at the last look, so that the next two have nothing to be compared
    /// with.
    pub torn: bool,
    /// The longest time between two looks since its last progress: while another thread stands
    /// condemned that is 50 ms.
    pub longest: Nanos,
    /// What must have been counted when its threshold last changed: a verdict falls in time that
    /// counts after that.
    pub before_change: Nanos,
    /// The least that a look has shown its owner to give this work since its last progress.
    given: Option<Nanos>,
    /// The same, of looks that the watchdog cannot have forgotten.
    surely_given: Option<Nanos>,
    /// What was the threshold at the last look.
    threshold: Duration,
    /// CPU time that it has had while the watchdog was not late.
    pub burnt: Nanos,
    /// One of its workers was runnable at the last look.
    waits_for_cpu: bool,
    /// It has workers, and one was kept from running since the last look, or may have been.
    workers: Option<bool>,
    /// With workers two sums must have been counted, and `sure` is the greater: time in which none
    /// of them was kept from running, and CPU time of its own. What the two have in common the
    /// kernel's counters do not tell, which lag by a tick each; to add them would count some of it
    /// twice.
    unkept: Nanos,
    ran_surely: Nanos,
    /// At this look another thread may be what it waits for.
    others: bool,
    /// At the last look: this one has nothing to be compared with.
    blinded: bool,
    /// No look since the last progress has seen it stand still.
    fresh: bool,
    /// At which of the last looks a tracer held it, one bit a look.
    traced: u32,
    /// A tracer comes and goes at one of its workers.
    workers_traced: bool,
    now: Now,
    before: Seen,
}

/// Since the last look, or the last progress if that was later.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    slept: Nanos,
    ran: Nanos,
    waited: Nanos,
    held: Nanos,
}

/// What a look showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    /// Nothing was asked, or the kernel did not say.
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
    /// It made progress: a new beginning.
    pub fn progressed(&mut self) {
        *self = Self { moved: true, fresh: true, before: Seen::Nothing, ..Self::default() };
    }

    /// It stands still in another way from now on.
    pub const fn changed_ways(&mut self) {
        self.mixed = true;
    }

    /// The watchdog has forgotten all of it, or saw something else: nothing that came before must
    /// have been counted.
    pub fn forgotten(&mut self) {
        // What was told stays told: the watchdog may not have forgotten that.
        (self.sure, self.lag, self.surely_excused) = (0, 0, Default::default());
        (self.unkept, self.ran_surely) = (0, 0);
        (self.fresh, self.before) = (true, Seen::Nothing);
        self.surely_given = None;
    }

    /// The watchdog knows nothing of it.
    pub fn unknown(&mut self) {
        self.forgotten();
        (self.given, self.moved) = (None, true);
    }

    /// A look shows what the owner gives its work; zero: nothing.
    pub fn shows_deadline(&mut self, deadline: Nanos) {
        if deadline > 0 {
            for least in [&mut self.given, &mut self.surely_given] {
                *least = Some(least.map_or(deadline, |least| least.min(deadline)));
            }
        }
    }

    /// The threshold that a rule of `stall_after` leaves it: never longer for its owner's word. The
    /// shortest that it may be, and the longest.
    pub fn thresholds(&self, stall_after: Duration) -> (Duration, Duration) {
        let of = |given: Option<Nanos>| {
            given.map_or(stall_after, |given| {
                stall_after.min(SHORTEST_DEADLINE.max(Duration::from_nanos(given)))
            })
        };
        (of(self.given), of(self.surely_given))
    }

    /// The threshold may have become another one, when so much must have been counted.
    pub fn settle_threshold(&mut self, stall_after: Duration, sure: Nanos) {
        let (_, threshold) = self.thresholds(stall_after);
        if std::mem::replace(&mut self.threshold, threshold) != threshold {
            self.before_change = sure;
        }
    }

    /// A look came that says nothing of it: nothing counts, and the next one has nothing to be
    /// compared with.
    pub fn pause(&mut self) {
        self.now = Now::default();
        (self.gained, self.moved) = (false, false);
        (self.fresh, self.before) = (true, Seen::Nothing);
    }

    /// A look came that finds it ended: it could have been replaced.
    pub fn look_gone(&mut self, elapsed: Nanos, late: bool) {
        self.gained = !late && !std::mem::take(&mut self.moved);
        self.able += if late { 0 } else { elapsed };
        self.sure += if self.gained { elapsed } else { 0 };
    }

    /// It slept, and could have gone on if what it waits for had come.
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

    /// How long it waited for a CPU, or was held, since the last look.
    pub const fn kept_now(&self) -> Nanos {
        self.now.waited + self.now.held
    }

    /// One of its workers shows that it is held.
    pub fn worker_held(&mut self, kind: ExcuseKind, elapsed: Nanos) {
        self.excused[kind as usize] += elapsed;
    }

    /// For so long one of its workers waited for a CPU; `runnable`: the look shows one that may be
    /// waiting; `any`: it has workers.
    pub fn workers_waited(&mut self, time: Nanos, runnable: bool, any: bool) {
        self.now.waited += time;
        self.waits_for_cpu = runnable;
        self.workers = any.then_some(time > 0);
    }

    /// A tracer comes and goes at one of its workers, whose CPU time counts for nothing then.
    pub const fn workers_are_traced(&mut self, traced: bool) {
        self.workers_traced = traced;
    }

    /// The kernel writes the core of its process, or did until this look; `surely`: that is all
    /// that the look shows.
    pub fn dumps_core(&mut self, elapsed: Nanos, surely: bool) {
        self.excused[ExcuseKind::CoreDumping as usize] += elapsed;
        self.surely_excused[ExcuseKind::CoreDumping as usize] += if surely { elapsed } else { 0 };
    }

    /// It sleeps, and another thread of its process, or a worker of that one, waited for a CPU for
    /// so long; `runnable`: a look shows one that may be waiting.
    pub fn others_waited(&mut self, time: Nanos, runnable: bool) {
        self.now.waited += time;
        self.waits_for_cpu |= runnable;
        self.others = time > 0 || runnable;
    }

    /// It was held.
    pub const fn held(&mut self, time: Nanos) {
        self.now.held += time;
    }

    /// A look came, `elapsed` after the one before, and could not read the segment.
    pub fn blind_look(&mut self, elapsed: Nanos, late: bool) {
        let now = std::mem::take(&mut self.now);
        self.able += if late { 0 } else { now.slept + now.ran };
        self.before = Seen::Nothing;
        self.fresh = false;
        if late {
            self.excused[ExcuseKind::ObserverLate as usize] += elapsed;
        }
    }

    /// A look came, `elapsed` after the one before, and showed `task`.
    pub fn look(&mut self, elapsed: Nanos, late: bool, task: Option<TaskObservation>, machine: &Machine) {
        self.traced = self.traced << 1 | u32::from(task.is_some_and(|task| task.state == TaskState::Traced));
        let now = std::mem::take(&mut self.now);
        self.burnt += if late { 0 } else { now.ran };
        self.longest = self.longest.max(if late { 0 } else { elapsed });
        let seen = task.map_or(Seen::Nothing, seen);
        let before = std::mem::replace(&mut self.before, seen);
        if std::mem::take(&mut self.moved) {
            // The watchdog sees the progress now, and begins to count now.
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
            // A void look: the next one is compared with it, and whatever it counts begins there.
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
            // Whoever is asleep is taken to have slept since the beat.
            self.forgiven += if seen == Seen::Asleep { now.waited } else { 0 };
        }
        if before != Seen::Runnable && before != Seen::Asleep {
            self.forgiven += machine.lag();
            self.lag += machine.lag();
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

    /// Whether a tracer held it at some of the last looks and not at others: its CPU time may count
    /// for nothing. The judge asks for more than that, of fewer looks, which need not be quite
    /// these.
    pub const fn tracer_comes_and_goes(&self) -> bool {
        const LOOKS: u32 = 20;
        let changes = (self.traced ^ self.traced >> 1) & ((1 << LOOKS) - 1);
        changes.count_ones() >= 2
    }

    fn excuses(&mut self, elapsed: Nanos, late: bool, before: Seen, seen: Seen, now: Now, machine: &Machine) {
        let traced = self.tracer_comes_and_goes();
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
        // Without a count of the time in the run queue whoever was runnable may have waited until
        // now.
        let unknown = !machine.schedstat && before == Seen::Runnable;
        if now.waited > 0 || unknown || seen == Seen::Runnable || std::mem::take(&mut self.waits_for_cpu) {
            touched(ExcuseKind::Starved);
            // What its cgroup keeps is called so once the cgroup has told.
            touched(ExcuseKind::Throttled);
            // Who sleeps beside one that its cgroup gives no memory may wait for that one.
            touched(ExcuseKind::MemoryThrottled);
        }
        if traced {
            touched(ExcuseKind::Traced);
        }
        match seen {
            Seen::Held(kind) if before == seen => self.surely_excused[kind as usize] += elapsed,
            // Beside a tracer that comes and goes a wait for a CPU is called traced, too.
            Seen::Runnable if before == seen && now.waited == elapsed && now.ran == 0 && !traced => {
                self.surely_excused[ExcuseKind::Starved as usize] += elapsed;
            }
            _ => {}
        }
    }

    /// The judge may have taken this much CPU time for used at most.
    pub const fn burnt_at_most(&self) -> Duration {
        Duration::from_nanos(self.burnt + self.now.ran + self.forgiven)
    }

    /// The judge may have counted this much at most.
    pub const fn at_most(&self) -> Duration {
        Duration::from_nanos(self.able + self.now.slept + self.now.ran + self.forgiven)
    }
}

/// What holds a thread of which the kernel says `task`.
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
