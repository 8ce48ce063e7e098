//! What excuses a whole process, or a whole observation: a core being written, a suspended machine,
//! a late watchdog. Each thread is reported as excused for that, and none is condemned meanwhile.

use std::time::Duration;

use shard_watchdog::judge::{Condemnation, Decision};
use shard_watchdog::observation::Claim;
use shard_watchdog::verdict::{ExcuseKind, Reason, Verdict};

use super::super::deafness::At;
use super::super::plan::{MS, Nanos, Plan};
use super::super::process::Process;
use super::super::watchdog::Watchdog;
use super::Invariants;

/// How long the judge waits between two observations of a process whose core is being written.
const LOOK_IN_A_CORE: Nanos = 50 * MS;

impl Invariants {
    /// Reports a condemnation that must not fall during an excuse.
    pub(super) fn opened_in_an_excuse(
        &mut self,
        now: Nanos,
        process: &Process,
        condemned: &Condemnation,
        plan: &Plan,
    ) {
        if matches!(condemned.reason, Reason::Requested | Reason::ProcessGone) {
            return;
        }
        let why = &condemned.why;
        if process.dumps_core(now, &plan.machine) {
            self.broken(now, "excused", || format!("condemned while its core is written: {why}"));
        }
        if self.void && matches!(condemned.reason, Reason::Stalled | Reason::ChannelLag | Reason::Silent) {
            self.broken(now, "excused", || format!("condemned after a time that nobody watched: {why}"));
        }
    }

    /// What excuses all threads must be reported for each, with its duration. `suspended`: how long
    /// the machine was suspended since the observation before.
    pub(super) fn all_excused(
        &mut self,
        at: At,
        suspended: Nanos,
        watchdog: &Watchdog,
        process: &Process,
        decision: Decision,
        plan: &Plan,
    ) {
        let told = watchdog.judge.excused()[ExcuseKind::Suspended as usize];
        let told = told.saturating_sub(std::mem::replace(&mut self.told_suspended, told));
        let Some(incarnation) = watchdog.judge.incarnation() else { return };
        let dumps_core = process.dumps_core(at.now, &plan.machine);
        self.cores += u64::from(dumps_core);
        let kind = match (suspended, at.late, dumps_core) {
            (1.., _, _) => ExcuseKind::Suspended,
            (0, true, _) => ExcuseKind::ObserverLate,
            (0, false, true) => ExcuseKind::CoreDumping,
            (0, false, false) => return,
        };
        let mut owed = Duration::ZERO;
        for (place, thread) in process.threads.iter().enumerate() {
            let torn = at.torn.spoils(place);
            let live = thread.seen && thread.ended.is_none() && thread.claim == Claim::Live;
            // No thread works while a core is being written: idle threads are excused as well.
            let stands = thread.working() || dumps_core;
            if torn || thread.moved || !live || !stands {
                continue;
            }
            let key = (thread.slot, thread.generation);
            let Some(trial) = incarnation.threads().iter().find(|trial| trial.key == key) else { continue };
            owed += Duration::from_nanos(suspended);
            if trial.excuse != Some(kind) {
                let (name, said) = (&thread.name, trial.excuse);
                self.broken(at.now, "not excused", || format!("{name} is {kind}, by the judge {said:?}"));
            }
            // Time that a thread's workers have lost may be made up for meanwhile, as far as they
            // could differ: by some observations, of which this one may be the shortest.
            let look = at.elapsed.max(LOOK_IN_A_CORE);
            let workers =
                if thread.pool.is_empty() { Duration::ZERO } else { Duration::from_nanos(3 * look) };
            let cap = watchdog.policy.excuse_caps.of(ExcuseKind::CoreDumping).map(|cap| cap + workers);
            let excused = thread.account.surely_excused[ExcuseKind::CoreDumping as usize];
            let told = thread.account.told[ExcuseKind::CoreDumping as usize];
            if !told && cap.is_some_and(|cap| Duration::from_nanos(excused) >= cap) {
                let name = &thread.name;
                self.broken(at.now, "cap not told", || {
                    format!("the core is written for {excused} ns: {name} of {cap:?}")
                });
            }
        }
        if told < owed {
            self.broken(at.now, "not excused", || {
                format!("{told:?} suspended by the judge, and was {owed:?}")
            });
        }
        let stands = matches!(decision.verdict, Verdict::Excused | Verdict::CrashLoop);
        if dumps_core && !decision.condemned && !stands {
            self.broken(at.now, "not excused", || {
                format!("its core is written, and the verdict is {}", decision.verdict)
            });
        }
    }

    /// An excuse that the judge reports to be over its cap has lasted that long.
    pub(super) fn excuse_over(
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
}
