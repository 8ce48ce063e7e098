//! The verdict on a process that nothing condemns.

use alloc::format;
use alloc::vec::Vec;

use crate::clock::Monotonic;
use crate::observation::{Declared, ProcessObservation};
use crate::policy::{On, Policy};
use crate::verdict::{ExcuseKind, Health, Unobserved, Verdict};
use crate::{Finding, Why};

use super::{Incarnation, ThreadTrial};

/// Descriptors that the watchdog holds for each thread, used to report how many it lacks.
const DESCRIPTORS_OF_A_THREAD: u32 = 2;

impl Incarnation {
    /// The verdict on a process that nothing condemns.
    pub(super) fn standing(&self, policy: &Policy, process: &ProcessObservation, at: Monotonic) -> Finding {
        if self.exiting_since.is_some() && !self.core_dumping {
            let why = if self.ends_on_purpose {
                "the process is stopping in an orderly way"
            } else {
                "the process is exiting"
            };
            return Finding { verdict: Verdict::Dying, why: Why::Fixed(why) };
        }
        if let Some(finding) = self.out_of_sight(policy) {
            return finding;
        }
        if let Some(finding) = self.excused() {
            return finding;
        }
        if let Some(finding) = self.missing_threads(policy, at) {
            return finding;
        }
        if let Some(finding) = self.unpublished_channels(policy, at) {
            return finding;
        }
        if let Some(finding) = self.no_witness(policy, at) {
            return finding;
        }
        if process.declared == Declared::Boot && at.since(self.first_seen) < policy.startup_grace {
            return Finding {
                verdict: Verdict::Starting,
                why: Why::Fixed("the target says that it is starting"),
            };
        }
        if !process.segment_readable {
            return Finding {
                verdict: Verdict::Degraded,
                why: Why::Fixed("its heartbeat segment cannot be read any more"),
            };
        }
        let is_silent = |t: &ThreadTrial| t.health == Health::Late && t.activity() & 1 == 0;
        if let Some(thread) = self
            .watched()
            .find(|t| matches!(t.health, Health::Late | Health::Stalled | Health::Gone) && !is_silent(t))
        {
            let why = if thread.health == Health::Stalled && thread.is_only_reported() {
                let kind = thread.kind();
                format!("thread {} is stalled ({kind}), which its rule only reports", thread.name)
            } else {
                format!("thread {} is {}", thread.name, thread.health)
            };
            return Finding { verdict: Verdict::Degraded, why: Why::Changed(why) };
        }
        if let Some(finding) = self.late_channels(policy, at) {
            return finding;
        }
        if let Some(finding) = self.silent_threads(policy) {
            return finding;
        }
        Finding {
            verdict: Verdict::Healthy,
            why: Why::Fixed("every watched thread is idle or makes progress"),
        }
    }

    /// The finding for a process that makes no progress through no fault of its own, as a whole or
    /// in one of its threads. An excuse beyond its cap comes first: it asks for a person.
    fn excused(&self) -> Option<Finding> {
        if let Some(trial) = self.watched().find(|t| t.health == Health::Excused && t.over_cap) {
            let (name, kind) = (&trial.name, trial.excuse.map_or("excused", ExcuseKind::label));
            let why = format!(
                "thread {name} has been {kind} for longer than the cap allows: nothing is killed for it; a person should investigate"
            );
            return Some(Finding { verdict: Verdict::Excused, why: Why::Changed(why) });
        }
        if self.core_dumping {
            let why = "the kernel writes the core of the process";
            return Some(Finding { verdict: Verdict::Excused, why: Why::Fixed(why) });
        }
        let stopped = self.stopped_since.is_some();
        if stopped || self.watched().any(|t| t.health == Health::Excused) {
            let named = self.watched().find(|t| t.health == Health::Excused).and_then(|t| t.excuse);
            let why = match (stopped, named) {
                (true, _) => "the process is stopped by a signal",
                (false, Some(ExcuseKind::Traced)) => "a debugger holds a watched thread",
                (false, Some(ExcuseKind::Starved)) => "a watched thread gets no CPU time",
                (false, Some(ExcuseKind::Throttled)) => {
                    "a watched thread has used up the CPU time that its cgroup or its scheduling class allows"
                }
                (false, Some(ExcuseKind::Stolen)) => {
                    "the hypervisor takes the CPU that a watched thread needs (steal)"
                }
                (false, Some(ExcuseKind::MemoryThrottled)) => {
                    "a watched thread is made to wait for memory by its cgroup (memory.high)"
                }
                (false, Some(ExcuseKind::Suspended)) => "the machine was suspended",
                (false, Some(ExcuseKind::ObserverLate)) => "the watchdog itself was late and cannot know",
                (false, _) => "a watched thread makes no progress through no fault of its own",
            };
            return Some(Finding { verdict: Verdict::Excused, why: Why::Fixed(why) });
        }
        None
    }

    /// The finding for rules that too few threads match. During the grace period, the rest may
    /// still be about to start.
    fn missing_threads(&self, policy: &Policy, at: Monotonic) -> Option<Finding> {
        if self.missing.is_empty() {
            return None;
        }
        let names = self
            .missing
            .iter()
            .filter_map(|&index| policy.rules.get(index))
            .map(|rule| rule.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let grace_over = at.since(self.first_seen) >= policy.startup_grace;
        let verdict = if grace_over { Verdict::Degraded } else { Verdict::Starting };
        let why = format!("too few threads match these rules: {names}");
        Some(Finding { verdict, why: Why::Changed(why) })
    }

    /// The threads that a rule watches, if any may need a remark.
    fn watched(&self) -> impl Iterator<Item = &ThreadTrial> {
        self.tally.remarkable(&self.threads).iter().filter(|trial| trial.rule.is_some() && !trial.left)
    }

    /// A thread out of sight is not known to be well, whatever excuses another one.
    fn out_of_sight(&self, policy: &Policy) -> Option<Finding> {
        let rule = |trial: &ThreadTrial| policy.rules.get(trial.rule?);
        let watched = self
            .tally
            .remarkable(&self.threads)
            .iter()
            .filter(|trial| !trial.left && rule(trial).is_some_and(|rule| rule.on != On::Ignore));
        let (mut all, mut short, mut unreadable) = (0_u32, 0_u32, 0_u32);
        let mut named = None;
        for trial in watched {
            all += 1;
            match trial.unobserved {
                Some(Unobserved::NoDescriptors) => short += 1,
                Some(Unobserved::Unreadable) => {
                    unreadable += 1;
                    named.get_or_insert(trial);
                }
                None => {}
            }
        }
        let why = if short > 0 {
            format!(
                "{short} of {all} watched threads are out of sight: the sidecar has no descriptors left for them. Raise its \
                 limit of open files by {} at least (LimitNOFILE= in its unit, ulimit -n)",
                short.saturating_mul(DESCRIPTORS_OF_A_THREAD)
            )
        } else {
            let ThreadTrial { name, tid, .. } = named?;
            let pid = self.identity.pid;
            // If its tid in the sidecar's pid namespace is unknown, that is what could not be read.
            let task = if *tid > 0 { format!("{tid}") } else { "*".into() };
            format!(
                "{unreadable} of {all} watched threads are out of sight: /proc tells nothing of thread {name}, so neither its \
                 end nor a stall would be noticed. Read /proc/{pid}/task/{task}/stat and status as the sidecar's user to see why"
            )
        };
        Some(Finding { verdict: Verdict::Degraded, why: Why::Changed(why) })
    }
}
