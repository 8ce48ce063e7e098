//! What must hold when a signal goes out: the target is the very process that was condemned,
//! killing is switched on and not paused, nothing excuses the process in that moment, and the
//! budget is never exceeded, whatever was restarted, reloaded or set meanwhile. And when no signal
//! goes out, something must forbid it.

use std::time::Duration;

use shard_watchdog::judge::{Condemnation, Decision};
use shard_watchdog::observation::Claim;
use shard_watchdog::verdict::Reason;

use super::super::account::held;
use super::super::plan::{Hang, Nanos, Plan};
use super::super::process::Process;
use super::super::thread::{Doing, Thread};
use super::super::watchdog::Watchdog;
use super::super::world::World;
use super::Invariants;

/// A part of a kill too small to count: the budget counts in whole numbers, this check in
/// fractions.
const NOTHING: f64 = 1e-6;

impl Invariants {
    /// A signal is about to go out. `first`: it is the first of its ladder.
    pub fn signal(&mut self, watchdog: &Watchdog, world: &World<'_>, plan: &Plan, first: bool) {
        let now = world.now;
        let target = watchdog.observer.held;
        let condemned = watchdog.judge.incarnation().and_then(|incarnation| incarnation.condemned());
        if target.is_none() || condemned.map(|condemned| condemned.target) != target || self.opened != target
        {
            let opened = self.opened;
            self.broken(now, "wrong process", || format!("a signal to {target:?}, condemned was {opened:?}"));
        }
        let asked = self.asked.is_some() && self.asked == target;
        if watchdog.is_paused() && !asked {
            self.broken(now, "paused", || "a signal while killing is paused".to_owned());
        }
        if !first {
            return;
        }
        self.kills += 1;
        self.asked_kills += u64::from(asked);
        if asked {
            // A person's kill takes precedence over all the checks below.
            return;
        }
        if !watchdog.enforces() {
            self.broken(now, "only observes", || "a kill that nobody switched on".to_owned());
        }
        let process = world.processes.iter().find(|process| Some(process.identity) == target);
        if let Some((condemned, process)) = condemned.zip(process) {
            self.killed_in_an_excuse(now, watchdog, process, condemned, plan);
        }
        if let Some(key) = condemned.and_then(|condemned| condemned.work_key())
            && self.poison.contains(key)
        {
            self.broken(now, "poison", || format!("a kill for work {key}, which nobody has cleared"));
        }
        let (brake, fruitless) = (watchdog.kill.progress_brake, self.fruitless);
        if brake > 0 && fruitless >= brake + self.forgotten {
            self.broken(now, "brake", || format!("a kill after {fruitless} without progress"));
        }
        self.killing = true;
        let before = watchdog.kills.len() - 1;
        let left = kills_left(watchdog, &watchdog.kills[..before], now);
        if left < 1.0 - NOTHING {
            self.broken(now, "budget", || format!("a kill when {left} were left"));
        }
    }

    fn killed_in_an_excuse(
        &mut self,
        now: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
        if process.dumps_core(now, &plan.machine) {
            self.broken(now, "excused", || format!("killed while its core is written: {}", condemned.why));
        }
        if !matches!(condemned.reason, Reason::Stalled | Reason::Silent) {
            return;
        }
        let mut seen = watchdog.seen.threads.iter();
        let seen = seen.find(|seen| Some((seen.slot, seen.generation)) == condemned.slot);
        if let Some(thread) = at_fault(process, condemned)
            && thread.ended.is_none()
            && thread.claim == Claim::Live
            && thread.working()
            && !thread.moved
            && watchdog.surely_reports(thread, plan)
        {
            self.broken(now, "only reports", || {
                format!("killed for a kind that it reports: {}", condemned.why)
            });
        }
        // A thread that has dropped its slot is as good as gone.
        let live = seen.filter(|seen| seen.claim == Claim::Live);
        if let Some(kind) = live.and_then(|seen| held(seen.task?)) {
            self.broken(now, "excused", || format!("killed while it is {kind}: {}", condemned.why));
        }
        let stands = at_fault(process, condemned).is_some_and(|thread| {
            let at_fault = thread.working() || condemned.reason == Reason::Silent;
            at_fault && !thread.moved && thread.ended.is_none() && thread.claim == Claim::Live
        });
        if self.void && stands {
            self.broken(now, "excused", || {
                format!("killed after a time that nobody watched: {}", condemned.why)
            });
        }
    }

    /// The loop has acted on an observation.
    pub fn acted(&mut self, watchdog: &Watchdog, world: &World<'_>, decision: Decision, plan: &Plan) {
        let now = world.now;
        let Some(target) = watchdog.observer.held.filter(|_| watchdog.observer.signalled.is_none()) else {
            return;
        };
        // A person's kill waits for nothing but evidence.
        if self.asked == Some(target) && !watchdog.waits(now) {
            self.broken(now, "asked in vain", || format!("{target:?} should have been sent a signal"));
        }
        let Some(condemned) = watchdog.judge.incarnation().and_then(|incarnation| incarnation.condemned())
        else {
            return;
        };
        let process = world.processes.iter().find(|process| process.identity == target);
        let excused = decision.held
            && !process.is_some_and(|process| {
                surely_free(process, condemned, self.void)
                    && at_fault(process, condemned).is_some_and(|thread| watchdog.surely_kills(thread, plan))
            });
        let spared = condemned.work_key().is_some_and(|key| self.poison.contains(key));
        let left = kills_left(watchdog, &watchdog.kills, now);
        let spared = spared || watchdog.brakes() || watchdog.waits(now);
        if watchdog.enforces() && !watchdog.is_paused() && !spared && !excused && left >= 1.0 + NOTHING {
            self.broken(now, "not killed", || format!("{left} kills are left: {}", condemned.why));
        }
    }
}

fn at_fault<'p>(process: &'p Process, condemned: &Condemnation) -> Option<&'p Thread> {
    process.threads.iter().find(|thread| Some((thread.slot, thread.generation)) == condemned.slot)
}

/// Whether the thread that the process is condemned for stands still, and nothing can have kept it
/// from running since the last observation.
fn surely_free(process: &Process, condemned: &Condemnation, void: bool) -> bool {
    condemned.reason == Reason::Stalled
        && !void
        && process.ending.is_none()
        && at_fault(process, condemned).is_some_and(|thread| {
            let locked = matches!(thread.doing, Doing::Hang(Hang::Deadlock | Hang::Blocked));
            locked && !thread.account.mixed && thread.pool.is_empty() && thread.account.gained
        })
}

/// A token bucket, computed anew from every kill. A person's kill takes whatever is left.
fn kills_left(watchdog: &Watchdog, kills: &[Nanos], now: Nanos) -> f64 {
    let capacity = f64::from(watchdog.kill.budget_kills);
    let per = watchdog.kill.budget_per.as_secs_f64();
    let refill = |left: f64, time: Nanos| {
        (left + capacity * Duration::from_nanos(time).as_secs_f64() / per).min(capacity)
    };
    let (left, last) = kills
        .iter()
        .fold((capacity, 0), |(left, last), kill| ((refill(left, kill - last) - 1.0).max(0.0), *kill));
    refill(left, now - last)
}
