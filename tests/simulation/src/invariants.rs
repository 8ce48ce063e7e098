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

mod excuses;
mod kills;
mod pace;
mod poison;

use std::fmt;
use std::time::Duration;

use shard_watchdog::config::On;
use shard_watchdog::judge::policy::SAMPLES_APART;
use shard_watchdog::judge::{Condemnation, Decision, Note};
use shard_watchdog::observation::{Claim, Declared, Survivors, TaskState};
use shard_watchdog::snapshot::TargetIdentity;
use shard_watchdog::verdict::{ExcuseKind, Reason, StallKind, Verdict};

use super::account::held;
use super::deafness::{At, Broken, Deafness};
use super::plan::{Hang, MS, Nanos, Plan};
use super::pool::{kept, lag_of_pool, look_at_pool};
use super::process::Process;
use super::thread::{Doing, Thread};
use super::watchdog::{ASKED, Obeyed, Watchdog};
use super::watched_time::Sum;
use super::world::{Torn, World};
use poison::Poison;

/// An observation that comes this much later than requested is void (docs: the watchdog itself was
/// late).
const LATE: Nanos = 100 * MS;
/// A thread whose slot was dropped is lost after this time.
const DROPPED: Nanos = 100 * MS;

/// An excuse is named within this time. A thread that shows no CPU time for less than the longest
/// tick may have run. That is doubled because observations fall at arbitrary moments, and doubled
/// again because a period of starving may be in two parts.
const NAMED_WITHIN: Duration = Duration::from_millis(40);

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
        let now = world.now;
        let late = watchdog.asked.is_some_and(|asked| now.saturating_sub(asked) > LATE);
        let suspended = self.suspended.replace(world.suspended).map_or(0, |before| world.suspended - before);
        // Whatever happened meanwhile, a suspended machine has the same effect as a late watchdog.
        let late = late || suspended > 0;
        self.void = late;
        let elapsed = watchdog.looked.map_or(0, |looked| now - looked);
        self.next_look(now, watchdog, decision, world, plan);
        let held = watchdog.observer.held;
        if self.held != held {
            self.held = held;
            self.forget();
            if let Some(process) = watchdog.observer.process(world) {
                for thread in &mut process.threads {
                    thread.account.unknown();
                    thread.deaf.unknown();
                }
            }
        }
        self.unwatched = if late { elapsed } else { 0 };
        for since in self.dropped.iter_mut().flatten() {
            *since += self.unwatched;
        }
        let torn = world.torn;
        self.torn = torn;
        let garbage = matches!(torn, Torn::All | Torn::Thread(_));
        let unreadable = torn == Torn::Unreadable;
        if garbage {
            self.dropped.clear();
        }
        let Some(process) = watchdog.observer.process(world) else {
            if decision.condemned {
                self.broken(now, "condemned nobody", || "no process is watched".to_owned());
            }
            return;
        };
        let seen_of = |thread: &Thread| {
            let threads = watchdog.seen.threads.iter();
            threads.clone().find(|seen| (seen.slot, seen.generation) == (thread.slot, thread.generation))
        };
        // A thread that sleeps while another of its process is kept from running, now or as of the
        // last observation, may be waiting for that one.
        let kept: Vec<_> = process.threads.iter().map(|thread| kept(thread, seen_of(thread))).collect();
        let kept_before = std::mem::replace(&mut self.kept, kept);
        let dumps_core = process.dumps_core(now, &plan.machine);
        for (place, thread) in process.threads.iter_mut().enumerate() {
            let garbage = torn == Torn::All || torn == Torn::Thread(place);
            thread.moved = thread.account.moved;
            let sure = thread.account.sure;
            let seen = seen_of(thread);
            look_at_pool(thread, seen.map_or(&[], |seen| &seen.workers), elapsed, late, plan);
            if seen.and_then(|seen| seen.task).is_some_and(|task| task.state == TaskState::Sleeping) {
                let others = self.kept.iter().enumerate().chain(kept_before.iter().enumerate());
                let others = others.filter(|(other, _)| *other != place).map(|(_, kept)| *kept);
                let (waited, runnable) =
                    others.fold((0, false), |(most, any), (waited, kept)| (most.max(waited), any || kept));
                thread.account.others_waited(waited + Nanos::from(runnable), runnable);
            }
            if unreadable {
                thread.account.blind_look(elapsed, late);
            } else {
                // For an idle thread that should receive, the kernel is asked for another reason.
                let task = seen.filter(|seen| seen.working()).and_then(|seen| seen.task);
                thread.account.look(elapsed, late, task, &plan.machine);
            }
            if garbage && watchdog.observer.held.is_some() || seen.is_none() {
                for account in
                    std::iter::once(&mut thread.account).chain(thread.pool.iter_mut().map(|w| &mut w.account))
                {
                    account.forgotten();
                    (account.moved, account.torn) = (true, garbage);
                }
                if seen.is_none() {
                    thread.account.unknown();
                }
            } else if !unreadable && thread.working() {
                thread.account.shows_deadline(thread.deadline);
            }
            if dumps_core && !late && thread.ended.is_none() && thread.claim != Claim::Left {
                thread.account.dumps_core(elapsed, !thread.moved && !garbage);
            }
            let allowed = watchdog.allows(thread);
            thread.account.settle_threshold(allowed, sure);
        }
        let at = At { now, elapsed, late, torn };
        self.channel.look(at, watchdog, process, plan);
        if execed {
            return;
        }
        let Some(seen) = &watchdog.seen.process else { return };
        if !seen.exited {
            self.stopped.look(seen.leader == Some(TaskState::Stopped), elapsed, late);
            if seen.declared == Declared::Running && std::mem::take(&mut self.says_it_ends) {
                // The process revoked its declaration. If the kernel says that it ends, its time
                // begins anew.
                self.ending = Sum::default();
            }
            self.says_it_ends |= seen.declared == Declared::Stopping;
            let ending = seen.declared == Declared::Stopping || seen.survivors == Survivors::None;
            // Its last declaration holds until it makes another.
            let still = seen.declared == Declared::Unknown;
            // A process whose core is being written cannot proceed with its end.
            self.ending.look(ending || self.ending.0.is_some() && still, elapsed, late || dumps_core);
        }
        for note in watchdog.judge.notes() {
            let Note::ExcuseOver { thread, kind, .. } = note else { continue };
            for thread in process.threads.iter_mut().filter(|known| known.name == *thread) {
                thread.account.told[*kind as usize] = true;
            }
        }
        let process = &*process;
        self.all_excused(at, suspended, watchdog, process, decision, plan);
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
        self.crash_loops(now, watchdog, decision);
        self.garbage |= garbage;
        if !decision.condemned && !seen.exited && seen.signalled.is_none() {
            self.must_condemn(now, watchdog, process, plan);
        }
        if !seen.exited {
            let broken = self.channel.told(at, watchdog, process);
            self.say(now, broken);
        }
        if seen.exited && process.ending.is_none() {
            self.broken(now, "simulation", || "a process exited that never began to".to_owned());
        }
        self.garbage = garbage;
    }

    /// A condemnation must be justified, and its text must be true.
    fn opened(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
        self.opened = Some(condemned.target);
        if condemned.target != process.identity {
            self.broken(now, "wrong process", || format!("condemns {:?}", condemned.target));
        }
        if condemned.observations.is_empty() || condemned.at.0 != now || condemned.last_progress.0 > now {
            self.broken(now, "unexplained", || format!("{condemned:?}"));
        }
        let thread = condemned
            .slot
            .and_then(|key| process.threads.iter().find(|thread| (thread.slot, thread.generation) == key));
        if let (Some(thread), Some(said)) = (thread, &condemned.thread)
            && (*thread.name != *said.name || thread.tid != said.tid)
        {
            self.broken(now, "unexplained", || format!("names another thread: {said:?}"));
        }
        self.opened_in_an_excuse(now, process, condemned, plan);
        if condemned.reason != Reason::ProcessGone && watchdog.policy.rules[0].on != On::Kill {
            let about_thread = matches!(condemned.reason, Reason::Stalled | Reason::ThreadGone);
            if about_thread {
                self.broken(now, "only reports", || format!("the rule does not kill: {}", condemned.why));
            }
        }
        match condemned.reason {
            Reason::Stalled => {
                self.stalls += 1;
                match thread {
                    Some(thread) => self.stalled(now, watchdog, process, thread, condemned, plan),
                    None => self.broken(now, "false stall", || "of a thread that does not exist".to_owned()),
                }
            }
            Reason::ThreadGone | Reason::LeaderGone => {
                let at = match condemned.reason {
                    Reason::LeaderGone => process.leader_ended,
                    _ => thread.filter(|thread| thread.claim != Claim::Left).and_then(|thread| {
                        let dropped = thread.dropped.map(|at| at + DROPPED).filter(|at| *at <= now);
                        thread.ended.or(dropped)
                    }),
                };
                // Threads also end when their process ends: that is no loss.
                let ends = process.ends_since(&plan.machine).unwrap_or(Nanos::MAX);
                if at.is_none_or(|at| at >= ends) {
                    self.broken(now, "false loss", || condemned.why.clone());
                }
            }
            Reason::Stopped => {
                let cap = watchdog.policy.stopped_at_most;
                if !self.stopped.reached(cap)
                    || !watchdog.policy.stopped_kills
                    || now >= process.stopped_until
                {
                    let sum = self.stopped;
                    self.broken(now, "within its cap", || format!("stopped for {sum:?} of {cap:?}"));
                }
            }
            Reason::ExitHung => {
                if !self.ending.reached(watchdog.policy.exit_within) {
                    let sum = self.ending;
                    self.broken(now, "exits in time", || format!("ending for {sum:?}: {}", condemned.why));
                }
            }
            Reason::ProcessGone => {
                if !process.exited {
                    self.broken(now, "false loss", || condemned.why.clone());
                }
                let at_work = watchdog.seen.threads.iter().filter(|thread| thread.working());
                // After random words the watchdog cannot know better.
                let readable = !self.garbage && self.torn == Torn::Nothing;
                if readable
                    && condemned
                        .work_key()
                        .is_some_and(|key| at_work.clone().all(|thread| thread.work_key != key))
                {
                    self.broken(now, "unexplained", || format!("nobody was at its work: {condemned:?}"));
                }
            }
            Reason::Requested => {
                if self.asked != Some(condemned.target) {
                    self.broken(now, "nobody asked", || condemned.why.clone());
                }
                if condemned.why != ASKED || condemned.work_key().is_some() {
                    self.broken(now, "unexplained", || format!("not what the person said: {condemned:?}"));
                }
            }
            Reason::ChannelLag => {}
        }
    }

    fn stalled(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        thread: &Thread,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
        let stall_after = watchdog.policy.rules[0].stall_after;
        let (threshold, longest) = thread.account.thresholds(watchdog.allows(thread));
        let could = thread.account.at_most();
        if !thread.working() || could < threshold {
            self.broken(now, "false stall", || {
                format!(
                    "{} could have run for {could:?} of {threshold:?} at most: {}",
                    thread.name, condemned.why
                )
            });
        }
        if process.ending.is_some() {
            self.broken(now, "false stall", || "the process is ending".to_owned());
        }
        let workers =
            || thread.pool.iter().filter(|worker| worker.ended.is_none() && worker.claim == Claim::Live);
        let kept = workers().map(|worker| worker.account.at_most()).min().filter(|could| *could < threshold);
        let burnt = workers().map(|worker| worker.account.burnt_at_most()).max().unwrap_or_default();
        if let Some(could) = kept
            && burnt < threshold
            && thread.account.burnt_at_most() < threshold
        {
            self.broken(now, "false stall of a join", || {
                format!("a worker could have run for {could:?} of {threshold:?}, none ran for more than {burnt:?}: {}", condemned.why)
            });
        }
        let seen = watchdog.seen.threads.iter().find(|seen| seen.slot == thread.slot);
        if let Some(task) = seen.and_then(|seen| seen.task)
            && held(task).is_some()
        {
            self.broken(now, "excused", || format!("condemned while it is held: {task:?}"));
        }
        let Some(said) = &condemned.thread else {
            self.broken(now, "unexplained", || "a stall of no thread".to_owned());
            return;
        };
        let named = condemned.threshold.is_some_and(|named| (threshold..=longest).contains(&named));
        if said.work_key != Some(thread.work_key) || !named {
            self.broken(now, "unexplained", || {
                format!("not its work or not its threshold of {threshold:?}: {condemned:?}")
            });
        }
        let hastened = condemned.threshold.is_some_and(|named| named < stall_after);
        self.hastened += u64::from(hastened);
        if hastened != condemned.observations.iter().any(|line| line.contains("deadline")) {
            self.broken(now, "unexplained", || format!("not by whose word: {condemned:?}"));
        }
        let kind = match thread.doing {
            Doing::Hang(Hang::Deadlock) => StallKind::Deadlock,
            Doing::Hang(Hang::Blocked | Hang::Answer) => StallKind::Blocked,
            Doing::Hang(Hang::Livelock) => StallKind::Livelock,
            Doing::Hang(Hang::Disk) => StallKind::IoWait,
            _ => return,
        };
        let silent = !plan.machine.wchan || !plan.machine.schedstat;
        // The thread may be waiting for a worker that burns CPU, whatever it does itself.
        let works = said.kind == Some(StallKind::Livelock)
            && thread.pool.iter().any(|worker| worker.account.burnt_at_most() > threshold / 2);
        let agrees = works || said.kind == Some(kind) || said.kind == Some(StallKind::Unknown) && silent;
        if !agrees && !thread.account.mixed {
            self.broken(now, "wrong kind", || format!("said {:?}, is {kind:?}: {condemned:?}", said.kind));
        }
    }

    fn excuse_over(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        name: &str,
        kind: ExcuseKind,
    ) {
        let Some(cap) = watchdog.policy.excuse_caps.of(kind) else { return };
        for thread in process.threads.iter().filter(|thread| *thread.name == *name) {
            let excused = Duration::from_nanos(thread.account.excused[kind as usize]);
            if excused < cap {
                self.broken(now, "cap told too early", || {
                    format!("{name}: {kind} for {excused:?} of {cap:?}")
                });
            }
        }
    }

    /// Reports a condemnation that is missing.
    fn must_condemn(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process, plan: &Plan) {
        let Some(seen) = &watchdog.seen.process else { return };
        self.dropped.resize(process.threads.len(), None);
        if process.dumps_core(now, &plan.machine) {
            return;
        }
        if self.ending.0.is_some() || process.exec_at.is_some() {
            if self.ending.reached(watchdog.policy.exit_within) {
                self.broken(now, "missed exit", || "it should have been over".to_owned());
            }
            return;
        }
        if process.ending.is_some() {
            return;
        }
        if self.stopped.reached(watchdog.policy.stopped_at_most) && watchdog.policy.stopped_kills {
            self.broken(now, "missed stop", || "it is stopped beyond its cap".to_owned());
        }
        if !seen.segment_readable || self.garbage {
            return;
        }
        for thread in process
            .threads
            .iter()
            .filter(|thread| thread.seen && thread.ended.is_none() && thread.claim == Claim::Live)
        {
            // Beyond a quota, the first period is called starved and the rest throttled, so neither
            // is reported on its own. Off the run queue nothing shows a wait that is shorter than a
            // tick.
            let quota = (process.throttle.0.periods > 0 || process.throttled.is_some())
                && (plan.machine.cpu_stat || plan.machine.throttled_off_queue);
            let kinds =
                [ExcuseKind::Starved, ExcuseKind::Traced, ExcuseKind::Frozen, ExcuseKind::MemoryThrottled];
            for kind in kinds {
                if quota && kind == ExcuseKind::Starved {
                    continue;
                }
                let Some(cap) = watchdog.policy.excuse_caps.of(kind) else { continue };
                let excused = Duration::from_nanos(thread.account.surely_excused[kind as usize]);
                // Each slice of CPU starts the naming again.
                if excused >= cap * 5 / 4 + NAMED_WITHIN && !thread.account.told[kind as usize] {
                    let name = &thread.name;
                    self.broken(now, "cap not told", || {
                        format!("{name} is {kind} for {excused:?} of {cap:?}")
                    });
                }
            }
        }
        let broken = self.channel.must_condemn(watchdog, process, seen.survivors);
        self.say(now, broken);
        let kills = watchdog.policy.rules[0].on == On::Kill;
        let goes_on = seen.survivors == Survivors::Some;
        for (thread, dropped) in process.threads.iter().zip(&mut self.dropped) {
            if !thread.seen || !kills {
                continue;
            }
            let stall_after = watchdog.policy.rules[0].stall_after;
            let (_, threshold) = thread.account.thresholds(watchdog.allows(thread));
            let sure = Duration::from_nanos(thread.account.sure);
            // A thread that sleeps all the time has no CPU time that could lag.
            let lag = Duration::from_nanos(thread.account.lag) + lag_of_pool(thread, stall_after, plan);
            let slept = matches!(
                thread.doing,
                Doing::Hang(Hang::Deadlock | Hang::Blocked | Hang::Disk | Hang::Answer)
            );
            let lag =
                if slept && !thread.account.mixed && thread.pool.is_empty() { Duration::ZERO } else { lag };
            let stalled = thread.ended.is_none()
                && thread.claim == Claim::Live
                && sure >= threshold.max(two_samples(thread)) + lag
                && thread.account.sure >= thread.account.before_change + plan.machine.lag()
                && thread.account.gained;
            let broken = if stalled {
                Some((
                    "missed stall",
                    format!("{} could surely have run for {sure:?} of {threshold:?}", thread.name),
                ))
            } else if thread.ended.is_some() && thread.claim == Claim::Live && goes_on {
                Some(("missed loss", format!("{} has ended", thread.name)))
            } else if thread.claim == Claim::Dropped {
                let since = *dropped.get_or_insert(now);
                (goes_on && now.saturating_sub(since) >= DROPPED)
                    .then(|| ("missed loss", format!("{} has dropped its slot", thread.name)))
            } else {
                None
            };
            if let Some((rule, what)) = broken {
                self.violation.get_or_insert(Violation { at: now, rule, what });
                return;
            }
        }
        if process.leader_ended.is_some() && goes_on {
            self.broken(now, "missed loss", || "the main thread has ended".to_owned());
        }
        let excused = watchdog.judge.verdict() == Verdict::Excused;
        if excused && !process.threads.iter().any(|t| t.working()) && self.stopped.0.is_none() {
            self.broken(now, "excused without reason", || watchdog.judge.why().to_owned());
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// No stall is reported before two samples of the kernel's view are far enough apart: the first
/// comes up to one observation after the last progress, the second up to one observation later than
/// it could.
pub fn two_samples(thread: &Thread) -> Duration {
    SAMPLES_APART + Duration::from_nanos(2 * thread.account.longest)
}
