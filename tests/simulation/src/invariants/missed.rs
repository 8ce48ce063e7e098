//! What must have been condemned, or reported, at this observation at the latest. The world knows
//! since when it is due, so silence is checked as well as speech.

use std::time::Duration;

use shard_watchdog::config::On;
use shard_watchdog::judge::policy::SAMPLES_APART;
use shard_watchdog::observation::{Claim, Survivors};
use shard_watchdog::verdict::{ExcuseKind, Verdict};

use super::super::deafness::Broken;
use super::super::plan::{Hang, Nanos, Plan};
use super::super::pool::lag_of_pool;
use super::super::process::Process;
use super::super::thread::{Doing, Thread};
use super::super::watchdog::Watchdog;
use super::{DROPPED, Invariants, Violation};

/// An excuse is named within this time. A thread that shows no CPU time for less than the longest
/// tick may have run. That is doubled because observations fall at arbitrary moments, and doubled
/// again because a period of starving may be in two parts.
const NAMED_WITHIN: Duration = Duration::from_millis(40);

impl Invariants {
    /// Reports a condemnation that is missing.
    pub(super) fn must_condemn(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process, plan: &Plan) {
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
        self.must_tell_caps(now, watchdog, process, plan);
        let broken = self.channel.must_condemn(watchdog, process, seen.survivors);
        self.say(now, broken);
        let goes_on = seen.survivors == Survivors::Some;
        let rule = &watchdog.policy.rules[0];
        if rule.on == On::Kill || !rule.by_kind.is_empty() {
            let threads = process.threads.iter().zip(&mut self.dropped);
            let missed = threads.filter(|(thread, _)| thread.seen).find_map(|(thread, dropped)| {
                missed_thread(now, watchdog, process, thread, dropped, (goes_on, plan))
            });
            if let Some((rule, what)) = missed {
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

    /// An excuse that lasts beyond its cap must have been reported.
    fn must_tell_caps(&mut self, now: Nanos, watchdog: &Watchdog, process: &Process, plan: &Plan) {
        // A wait for the hypervisor gets that name once its counter shows it, and one for a
        // scheduling class is called throttled.
        let otherwise = process.robbed || plan.machine.limited_class;
        // Beyond a quota, the first period is called starved and the rest throttled, so neither is
        // reported on its own. Off the run queue nothing shows a wait that is shorter than a tick.
        let quota = (process.throttle.0.periods > 0 || process.throttled.is_some())
            && (plan.machine.cpu_stat || plan.machine.throttled_off_queue);
        let live = |thread: &&Thread| thread.seen && thread.ended.is_none() && thread.claim == Claim::Live;
        for thread in process.threads.iter().filter(live) {
            let kinds =
                [ExcuseKind::Starved, ExcuseKind::Traced, ExcuseKind::Frozen, ExcuseKind::MemoryThrottled];
            for kind in kinds {
                if (quota || otherwise) && kind == ExcuseKind::Starved {
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
    }
}

/// What a thread should have been condemned for by now. `dropped`: since when its slot is seen to
/// be dropped; `goes_on`: other threads of its process live on, so a lost one is a loss.
fn missed_thread(
    now: Nanos,
    watchdog: &Watchdog,
    process: &Process,
    thread: &Thread,
    dropped: &mut Option<Nanos>,
    (goes_on, plan): (bool, &Plan),
) -> Broken {
    let missed_stall = missed_stall(watchdog, process, thread, plan);
    if missed_stall.is_some() && watchdog.surely_kills(thread, plan) {
        return missed_stall;
    }
    if watchdog.policy.rules[0].on != On::Kill {
        return None;
    }
    if thread.ended.is_some() && thread.claim == Claim::Live && goes_on {
        return Some(("missed loss", format!("{} has ended", thread.name)));
    }
    if thread.claim == Claim::Dropped {
        let since = *dropped.get_or_insert(now);
        return (goes_on && now.saturating_sub(since) >= DROPPED)
            .then(|| ("missed loss", format!("{} has dropped its slot", thread.name)));
    }
    None
}

/// A thread that surely stood still for its threshold, by the bound in the doc of
/// [`super`](super).
fn missed_stall(watchdog: &Watchdog, process: &Process, thread: &Thread, plan: &Plan) -> Broken {
    let stall_after = watchdog.policy.rules[0].stall_after;
    let (_, threshold) = thread.account.thresholds(watchdog.allows(thread));
    let sure = Duration::from_nanos(thread.account.sure);
    // A thread that sleeps all the time has no CPU time that could lag.
    let lag = Duration::from_nanos(thread.account.lag) + lag_of_pool(thread, stall_after, plan);
    // A verdict on CPU time waits for a reading of what the hypervisor took, one observation at
    // most (ADR 049).
    let lag = lag + Duration::from_nanos(thread.account.longest);
    let slept =
        matches!(thread.doing, Doing::Hang(Hang::Deadlock | Hang::Blocked | Hang::Disk | Hang::Answer));
    let lag = if slept && !thread.account.mixed && thread.pool.is_empty() {
        Duration::ZERO
    } else {
        lag + lag_of_theft(process, thread, plan)?
    };
    let stalled = thread.ended.is_none()
        && thread.claim == Claim::Live
        && sure >= threshold.max(two_samples(thread)) + lag
        && thread.account.sure >= thread.account.before_change + plan.machine.lag() + thread.account.longest
        && thread.account.gained;
    stalled.then(|| {
        ("missed stall", format!("{} could surely have run for {sure:?} of {threshold:?}", thread.name))
    })
}

/// CPU time that may be taken off although the hypervisor did not have it: at a reading that is the
/// first of a standstill, which also shows what was taken before it. `None`: no bound, because
/// another thread may be on a CPU from which more is taken.
fn lag_of_theft(process: &Process, thread: &Thread, plan: &Plan) -> Option<Duration> {
    if !process.robbed {
        return Some(Duration::ZERO);
    }
    let alone = plan.threads == 1 && thread.pool.is_empty();
    alone.then(|| Duration::from_millis(120) + Duration::from_nanos(2 * thread.account.longest))
}

/// No stall is reported before two samples of the kernel's view are far enough apart: the first
/// comes up to one observation after the last progress, the second up to one observation later than
/// it could.
pub fn two_samples(thread: &Thread) -> Duration {
    SAMPLES_APART + Duration::from_nanos(2 * thread.account.longest)
}
