//! A condemnation that the judge has just announced must be justified, and its text must be true.
//! Each reason is checked against what really happened to the process and its threads.

use std::time::Duration;

use shard_watchdog::config::On;
use shard_watchdog::judge::Condemnation;
use shard_watchdog::judge::section::Section;
use shard_watchdog::observation::Claim;
use shard_watchdog::verdict::{Reason, StallKind};

use super::super::account::held;
use super::super::plan::{Nanos, Plan};
use super::super::process::Process;
use super::super::thread::Thread;
use super::super::watchdog::{ASKED, Watchdog};
use super::super::world::Torn;
use super::{DROPPED, Invariants};

impl Invariants {
    /// Checks a new condemnation, whatever its reason.
    pub(super) fn opened(
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
        let kind = condemned.thread.as_ref().and_then(|thread| thread.kind);
        let kills = match condemned.reason {
            Reason::Stalled => {
                kind.is_some_and(|kind| watchdog.kills(kind))
                    && !thread.is_some_and(|thread| watchdog.surely_reports(thread, plan))
            }
            Reason::ThreadGone => watchdog.policy.rules[0].on == On::Kill,
            _ => true,
        };
        if !kills {
            self.broken(now, "only reports", || format!("the rule does not kill: {}", condemned.why));
        }
        match condemned.reason {
            Reason::Stalled => {
                self.stalls += 1;
                match thread {
                    Some(thread) => self.stalled(now, watchdog, process, thread, condemned, plan),
                    None => self.broken(now, "false stall", || "of a thread that does not exist".to_owned()),
                }
            }
            Reason::ThreadGone | Reason::LeaderGone => self.lost(now, process, thread, condemned, plan),
            Reason::Stopped => self.stopped_too_long(now, watchdog, process),
            Reason::ExitHung => {
                if !self.ending.reached(watchdog.policy.exit_within) {
                    let sum = self.ending;
                    self.broken(now, "exits in time", || format!("ending for {sum:?}: {}", condemned.why));
                }
            }
            Reason::ProcessGone => self.process_gone(now, watchdog, process, condemned),
            Reason::Requested => self.requested(now, condemned),
            Reason::Silent => {
                let broken = self.silences.opened(watchdog, condemned);
                self.say(now, broken);
            }
            Reason::ChannelLag => {}
        }
    }

    /// A thread counts as lost once it has ended, or has dropped its slot long enough ago.
    fn lost(
        &mut self,
        now: Nanos,
        process: &Process,
        thread: Option<&Thread>,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
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

    /// A process that is stopped is condemned only beyond the cap of that excuse, if the policy
    /// kills for it, and while it still is stopped.
    fn stopped_too_long(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process) {
        let cap = watchdog.policy.stopped_at_most;
        if !self.stopped.reached(cap) || !watchdog.policy.stopped_kills || now >= process.stopped_until {
            let sum = self.stopped;
            self.broken(now, "within its cap", || format!("stopped for {sum:?} of {cap:?}"));
        }
    }

    /// A process that is gone has exited, and the work named with it was in some thread's hands.
    fn process_gone(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process, condemned: &Condemnation) {
        if !process.exited {
            self.broken(now, "false loss", || condemned.why.clone());
        }
        let at_work = watchdog.seen.threads.iter().filter(|thread| thread.working());
        // After random words the watchdog cannot know better.
        let readable = !self.garbage && self.torn == Torn::Nothing;
        if readable
            && condemned.work_key().is_some_and(|key| at_work.clone().all(|thread| thread.work_key != key))
        {
            self.broken(now, "unexplained", || format!("nobody was at its work: {condemned:?}"));
        }
    }

    /// A person's kill is for the process that the person named, and says what the person said.
    fn requested(&mut self, now: Nanos, condemned: &Condemnation) {
        if self.asked != Some(condemned.target) {
            self.broken(now, "nobody asked", || condemned.why.clone());
        }
        if condemned.why != ASKED || condemned.work_key().is_some() {
            self.broken(now, "unexplained", || format!("not what the person said: {condemned:?}"));
        }
    }

    /// A thread stalls only if it had work, could have run for its threshold, and nothing held it.
    fn stalled(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        thread: &Thread,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
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
        self.stalled_in_a_join(now, thread, condemned, threshold);
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
        let given = watchdog.given(thread);
        let section = Section::from_word(thread.section).map(|section| section.to_string());
        if said.section != section {
            self.broken(now, "unexplained", || format!("is in its section {section:?}: {condemned:?}"));
        }
        let hastened = condemned.threshold.is_some_and(|named| named < given);
        self.hastened += u64::from(hastened);
        if hastened != condemned.observations.iter().any(|line| line.contains("deadline")) {
            self.broken(now, "unexplained", || format!("not by whose word: {condemned:?}"));
        }
        self.kind_of_stall(now, thread, said.kind, condemned, (threshold, plan));
    }

    /// A thread that waits for workers stalls only if each of them could have run for as long, or
    /// if it or one of them burnt CPU for as long.
    fn stalled_in_a_join(
        &mut self,
        now: Nanos,
        thread: &Thread,
        condemned: &Condemnation,
        threshold: Duration,
    ) {
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
    }

    /// The kind of stall that the judge names must be the kind of hang that the thread is in,
    /// unless the kernel is silent about it or the thread has changed from one kind to another.
    fn kind_of_stall(
        &mut self,
        now: Nanos,
        thread: &Thread,
        said: Option<StallKind>,
        condemned: &Condemnation,
        (threshold, plan): (Duration, &Plan),
    ) {
        let Some(kind) = thread.kind_of_hang() else { return };
        let silent = !plan.machine.wchan || !plan.machine.schedstat;
        // The thread may be waiting for a worker that burns CPU, whatever it does itself.
        let works = said == Some(StallKind::Livelock)
            && thread.pool.iter().any(|worker| worker.account.burnt_at_most() > threshold / 2);
        let agrees = works || said == Some(kind) || said == Some(StallKind::Unknown) && silent;
        if !agrees && !thread.account.mixed {
            self.broken(now, "wrong kind", || format!("said {said:?}, is {kind:?}: {condemned:?}"));
        }
    }
}
