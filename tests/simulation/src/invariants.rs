//! What must hold at every observation, whatever happened. The world knows the truth, so each rule
//! is checked against the truth, not against what the judge believes.
//!
//! The exact bound on a real stall: a thread that stands still at work is condemned at the first
//! observation at which the time that two observations must show (`Account::sure`) has passed
//! `stall_after`, or its owner's deadline, plus one tick of CPU time for a thread that runs. While
//! the thread is at work, the judge asks for the next observation within one sample, which is
//! `stall_after / 125` between 4 and 50 ms. Counted from the last progress, that makes the
//! threshold and two samples of countable time: one until the standstill is first seen, one at the
//! threshold.

mod accounts;
mod condemned;
mod excuses;
mod kills;
mod missed;
mod pace;
mod poison;

use std::fmt;
use std::time::Duration;

use shard_watchdog::judge::{Decision, Note};
use shard_watchdog::observation::{Declared, ProcessObservation, Survivors, TaskState};
use shard_watchdog::snapshot::TargetIdentity;
use shard_watchdog::verdict::Reason;

use super::deafness::{At, Broken, Deafness};
use super::plan::{MS, Nanos, Plan};
use super::process::Process;
use super::silence::Silences;
use super::watchdog::{Obeyed, Watchdog};
use super::watched_time::Sum;
use super::world::{Torn, World};
pub use missed::two_samples;
use poison::Poison;

/// An observation that comes this much later than requested is void (docs: the watchdog itself was
/// late).
const LATE: Nanos = 100 * MS;
/// A thread whose slot was dropped is lost after this time.
const DROPPED: Nanos = 100 * MS;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it was broken.
    pub at: Nanos,
    /// Which rule: one of a few short names, by which the shrinker recognizes that the same rule is
    /// still broken.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3?}: {}: {}", Duration::from_nanos(self.at), self.rule, self.what)
    }
}

/// Checks what the judge makes of each observation.
#[derive(Debug, Default)]
pub struct Invariants {
    /// Kills that the ladder began.
    pub kills: u64,
    /// Stalls that were condemned.
    pub stalls: u64,
    /// Stalls condemned by the deadline that the work's owner gave.
    pub hastened: u64,
    /// Condemnations for a channel from which nobody received.
    pub lags: u64,
    /// Kills that a person requested.
    pub asked_kills: u64,
    /// Observations at which a kill was due and was withheld because its work is in a crash loop.
    pub spared: u64,
    /// Observations of a process whose core was being written.
    pub cores: u64,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    opened: Option<TargetIdentity>,
    held: Option<TargetIdentity>,
    dropped: Vec<Option<Nanos>>,
    /// As of the last observation, for each thread: how long it or one of its workers was kept from
    /// running, and whether one still may be.
    kept: Vec<(Nanos, bool)>,
    /// Time that passed unwatched before this observation.
    unwatched: Nanos,
    /// Watched time in which every observation saw the process stopped, or ending.
    stopped: Sum,
    ending: Sum,
    /// The process last declared that it would end.
    says_it_ends: bool,
    garbage: bool,
    /// What this observation found wrong with the segment.
    torn: Torn,
    channel: Deafness,
    /// What is known of idle threads.
    pub silences: Silences,
    /// How long the machine had been suspended at the last observation in this life of the
    /// watchdog.
    suspended: Option<Nanos>,
    /// Time that the judge had excused for that until then.
    told_suspended: Duration,
    /// Nothing is known about the time since the observation before this one.
    void: bool,
    /// The process that a person wants killed.
    asked: Option<TargetIdentity>,
    /// Kills of the judge since the target was last seen to finish a piece of work, or since a
    /// person cleared them.
    fruitless: u32,
    /// How many of them the watchdog has forgotten, since it was restarted in their middle.
    forgotten: u32,
    /// A kill of the judge is under way.
    killing: bool,
    poison: Poison,
}

impl Invariants {
    fn broken(&mut self, at: Nanos, rule: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, rule, what: what() });
        }
    }

    fn say(&mut self, at: Nanos, broken: Broken) {
        if let Some((rule, what)) = broken {
            self.broken(at, rule, || what);
        }
    }

    /// The watchdog carried out an order.
    pub fn obeyed(&mut self, what: Obeyed) {
        match what {
            Obeyed::Reborn => {
                self.opened = None;
                self.asked = None;
                let forgotten = u32::from(std::mem::take(&mut self.killing));
                (self.fruitless, self.forgotten) = (self.fruitless + forgotten, self.forgotten + forgotten);
                (self.suspended, self.told_suspended) = (None, Duration::ZERO);
                self.forget();
            }
            Obeyed::Asked(target) => self.asked = Some(target),
            Obeyed::Cleared(key) => {
                if key.is_none_or(|key| self.poison.contains(key)) {
                    (self.fruitless, self.forgotten) = (0, 0);
                }
                self.poison.clear(key);
            }
        }
    }

    fn forget(&mut self) {
        (self.stopped, self.ending) = (Sum::default(), Sum::default());
        self.says_it_ends = false;
        self.dropped.clear();
        self.channel.forget();
        self.silences.forget();
        self.poison.forget_condemned();
    }

    /// One observation and what the judge made of it.
    pub fn look(
        &mut self,
        world: &mut World<'_>,
        watchdog: &Watchdog,
        plan: &Plan,
        decision: Decision,
        execed: bool,
    ) {
        let (now, torn) = (world.now, world.torn);
        let suspended = self.suspended.replace(world.suspended).map_or(0, |before| world.suspended - before);
        // Whatever happened meanwhile, a suspended machine has the same effect as a late watchdog.
        let late = watchdog.asked.is_some_and(|asked| now.saturating_sub(asked) > LATE) || suspended > 0;
        self.void = late;
        let elapsed = watchdog.looked.map_or(0, |looked| now - looked);
        let at = At { now, elapsed, late, torn };
        self.next_look(now, watchdog, decision, world, plan);
        self.follow_target(watchdog, world);
        self.unwatched = if late { elapsed } else { 0 };
        for since in self.dropped.iter_mut().flatten() {
            *since += self.unwatched;
        }
        self.torn = torn;
        let garbage = matches!(torn, Torn::All | Torn::Thread(_) | Torn::Mixed(_));
        if garbage {
            self.dropped.clear();
        }
        let Some(process) = watchdog.observer.process(world) else {
            if decision.condemned {
                self.broken(now, "condemned nobody", || "no process is watched".to_owned());
            }
            return;
        };
        self.keep_accounts(at, watchdog, process, plan);
        self.channel.look(at, watchdog, process, plan);
        self.silences.look(at, watchdog, process, plan.machine.schedstat);
        if execed {
            return;
        }
        let Some(seen) = &watchdog.seen.process else { return };
        if !seen.exited {
            self.time_stops_and_ends(at, seen, process.dumps_core(now, &plan.machine));
        }
        caps_are_told(watchdog, process);
        let process = &*process;
        self.all_excused(at, suspended, watchdog, process, decision, plan);
        self.notes_are_true(now, watchdog, process, plan);
        self.crash_loops(now, watchdog, decision);
        self.garbage |= garbage;
        if !decision.condemned && !seen.exited && seen.signalled.is_none() {
            self.must_condemn(now, watchdog, process, plan);
        }
        if !seen.exited {
            let broken = self.channel.told(at, watchdog, process);
            self.say(now, broken);
            let broken = self.silences.told(at, watchdog, process);
            self.say(now, broken);
        }
        if seen.exited && process.ending.is_none() {
            self.broken(now, "simulation", || "a process exited that never began to".to_owned());
        }
        self.garbage = garbage;
    }

    /// Forgets what was known of the watched process, and of the time that its threads had, if
    /// another one is watched since this observation, or none.
    fn follow_target(&mut self, watchdog: &Watchdog, world: &mut World<'_>) {
        let held = watchdog.observer.held;
        if self.held == held {
            return;
        }
        self.held = held;
        self.forget();
        if let Some(process) = watchdog.observer.process(world) {
            for thread in &mut process.threads {
                thread.account.unknown();
                thread.deaf.unknown();
            }
        }
    }

    /// Counts how long the process was seen to be stopped, and to be ending.
    fn time_stops_and_ends(&mut self, at: At, seen: &ProcessObservation, dumps_core: bool) {
        self.stopped.look(seen.leader == Some(TaskState::Stopped), at.elapsed, at.late);
        if seen.declared == Declared::Running && std::mem::take(&mut self.says_it_ends) {
            // The process revoked its declaration. If the kernel says that it ends, its time begins
            // anew.
            self.ending = Sum::default();
        }
        self.says_it_ends |= seen.declared == Declared::Stopping;
        let ending = seen.declared == Declared::Stopping || seen.survivors == Survivors::None;
        // Its last declaration holds until it makes another.
        let still = seen.declared == Declared::Unknown;
        // A process whose core is being written cannot proceed with its end.
        self.ending.look(ending || self.ending.0.is_some() && still, at.elapsed, at.late || dumps_core);
    }

    /// Checks what the judge announced at this observation.
    fn notes_are_true(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process, plan: &Plan) {
        for note in watchdog.judge.notes() {
            match note {
                Note::Opened(condemned) if condemned.reason == Reason::ChannelLag => {
                    self.opened = Some(condemned.target);
                    self.lags += 1;
                    let broken = self.channel.opened(watchdog, process, condemned);
                    self.say(now, broken);
                    self.opened_in_an_excuse(now, process, condemned, plan);
                }
                Note::Opened(condemned) => self.opened(now, watchdog, process, condemned, plan),
                Note::ExcuseOver { thread, kind, .. } => {
                    self.excuse_over(now, watchdog, process, thread, *kind);
                }
                _ => {}
            }
        }
    }
}

/// Records which excuses the judge has reported to be over their cap, for the check that none stays
/// unreported.
fn caps_are_told(watchdog: &Watchdog, process: &mut Process) {
    for note in watchdog.judge.notes() {
        let Note::ExcuseOver { thread, kind, .. } = note else { continue };
        for thread in process.threads.iter_mut().filter(|known| known.name == *thread) {
            thread.account.told[*kind as usize] = true;
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
