//! The history of a shard, from one incarnation to the next, and the result of each observation.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::clock::Monotonic;
use crate::crash_loop::{self, CrashLoops};
use crate::excuse::Kept;
use crate::observation::{Observation, ProcessObservation};
use crate::target::TargetIdentity;
use crate::verdict::{ExcuseKind, Verdict};

use super::decision::{Condemnation, Decision, Note};
use super::finding::Why;
use super::incarnation::{Basis, Incarnation, Report};
use super::look::{Look, OBSERVER_LATE};
use super::policy::Policy;
use super::steal::Steal;

/// Interval while no target is watched: nothing can be missed, and the adopter wakes the loop when
/// that changes.
const LOOK_UNGUARDED: Duration = Duration::from_secs(1);

/// The judge's state between observations.
#[derive(Debug)]
pub struct Judge {
    verdict: Verdict,
    why: String,
    since: Monotonic,
    current: Option<Incarnation>,
    death: Option<Death>,
    recovering: Option<Recovery>,
    next_look: Option<Monotonic>,
    previous_look: Option<Monotonic>,
    /// The machine's total suspended time at `previous_look`.
    suspended_ns: u64,
    crash_loops: CrashLoops,
    report: Report,
}

/// The end of the last incarnation.
#[derive(Clone, Copy, Debug)]
struct Death {
    at: Monotonic,
    orderly: bool,
    overdue: bool,
    identity: TargetIdentity,
}

/// A new incarnation after an incident, whose first finished work closes it.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    identity: TargetIdentity,
}

impl Judge {
    /// Creates a judge without any observation yet.
    pub fn new(at: Monotonic) -> Self {
        Self {
            verdict: Verdict::Unguarded,
            why: "no target seen yet".to_owned(),
            since: at,
            current: None,
            death: None,
            recovering: None,
            next_look: None,
            previous_look: None,
            suspended_ns: 0,
            crash_loops: CrashLoops::NONE,
            report: Report { excused: [Duration::ZERO; ExcuseKind::ALL.len()], notes: Vec::new() },
        }
    }

    /// The same judge, with the crash loops known to an earlier run of the watchdog.
    #[must_use]
    pub const fn remembering(mut self, crash_loops: CrashLoops) -> Self {
        self.crash_loops = crash_loops;
        self
    }

    /// Replaces what the judge knows of deaths and crash loops.
    pub const fn remember(&mut self, crash_loops: CrashLoops) {
        self.crash_loops = crash_loops;
    }

    /// Work for which nothing is killed, and the deaths that may add to it.
    pub const fn crash_loops(&self) -> &CrashLoops {
        &self.crash_loops
    }

    /// A person clears `key`, or all work, so that it is judged as usual again. Returns how many
    /// keys were in a crash loop. If the target is condemned for that work, it may be killed from
    /// the next observation on.
    pub fn clear(&mut self, key: Option<u64>) -> usize {
        self.crash_loops.clear(key)
    }

    /// The current verdict.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The reason for the current verdict, as a sentence.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// When the current verdict began.
    pub const fn since(&self) -> Monotonic {
        self.since
    }

    /// The incarnation under watch.
    pub const fn incarnation(&self) -> Option<&Incarnation> {
        self.current.as_ref()
    }

    /// Time excused so far, in the order of [`ExcuseKind::ALL`], summed over threads.
    pub const fn excused(&self) -> &[Duration; ExcuseKind::ALL.len()] {
        &self.report.excused
    }

    /// Events of the last observation.
    pub fn notes(&self) -> &[Note] {
        &self.report.notes
    }

    /// Whether the next observation should read what the hypervisor took: a verdict may depend on
    /// it.
    pub fn wants_steal(&self) -> bool {
        self.current.as_ref().is_some_and(Incarnation::wants_steal)
    }

    /// Judges one observation.
    pub fn observe(&mut self, policy: &Policy, seen: &Observation) -> Decision {
        self.report.notes.clear();
        let late_by = self.next_look.map_or(Duration::ZERO, |due| seen.at.since(due));
        let elapsed = self.previous_look.map_or(Duration::ZERO, |before| seen.at.since(before));
        let slept = seen.suspended_ns.saturating_sub(self.suspended_ns);
        let suspended = Duration::from_nanos(if self.previous_look.is_some() { slept } else { 0 });
        let look = Look {
            at: seen.at,
            elapsed,
            late: late_by > OBSERVER_LATE || !suspended.is_zero(),
            suspended,
            kept: Kept::default(),
            throttled: false,
            steal: Steal::default(),
            core_dumping: false,
            untold: false,
        };
        match &seen.process {
            Some(process) => self.observe_process(policy, seen, process, look),
            None => self.observe_nothing(policy, look),
        }
        let look_at = self.look_at(policy, seen.at);
        self.next_look = Some(look_at);
        self.previous_look = Some(seen.at);
        self.suspended_ns = seen.suspended_ns;
        Decision {
            verdict: self.verdict,
            condemned: self.current.as_ref().is_some_and(|c| c.condemned().is_some()),
            held: self.current.as_ref().is_some_and(Incarnation::is_held),
            spared: self.spares(),
            look_at,
            late_by,
        }
    }

    /// Records why no target was adopted, so that it can be reported.
    pub fn refused(&mut self, why: &str, at: Monotonic) {
        if self.current.is_none() && self.death.is_none() {
            self.say(Verdict::Unguarded, Why::Changed(why.to_owned()), at);
        }
    }

    /// A person asks for the kill of the process under watch: the next observation condemns it,
    /// whatever it does by then. False if no process is under watch, or if a kill was already asked
    /// for.
    pub fn request(&mut self, why: &str) -> bool {
        self.current.as_mut().is_some_and(|current| current.request(why))
    }

    /// Applies another policy: the rule of each thread is looked up again, and counted time is
    /// retained.
    pub fn rules_changed(&mut self, policy: &Policy) {
        if let Some(current) = &mut self.current {
            current.rules_changed(policy);
        }
    }

    fn observe_process(
        &mut self,
        policy: &Policy,
        seen: &Observation,
        process: &ProcessObservation,
        look: Look,
    ) {
        if self.current.as_ref().is_none_or(|c| c.identity() != process.identity) {
            self.meet(policy, process, look.at);
        }
        let Some(current) = &mut self.current else { return };
        if process.exited {
            current.last_words(&seen.threads);
            let orderly = current.exit_was_orderly(process.declared);
            let ended = (current.condemned().is_none() && !orderly).then(|| current.ended_by_itself(look.at));
            let in_flight = ended.as_ref().or(current.condemned()).and_then(Condemnation::work_key);
            let in_incident = current.condemned().is_some() || !orderly;
            if let Some(mut ended) = ended {
                self.crash_loops.tell(&mut ended);
                self.report.notes.push(Note::Opened(Box::new(ended)));
            }
            if in_incident {
                self.report.notes.push(Note::Exited);
            }
            if let Some(work_key) = in_flight
                && self.crash_loops.died(work_key, policy.poison_after)
            {
                self.report.notes.push(Note::CrashLoop { work_key });
            }
            if process.signalled.is_some() && !current.is_requested() {
                self.crash_loops.killed();
            }
            let identity = current.identity();
            self.current = None;
            self.recovering = None;
            self.death = Some(Death { at: look.at, orderly: !in_incident, overdue: false, identity });
            self.observe_nothing(policy, look);
            return;
        }
        let basis = Basis { policy, crash_loops: &self.crash_loops };
        let found = current.observe(basis, seen, process, look, &mut self.report);
        let finished = self.current.as_ref().and_then(Incarnation::first_finished);
        if finished.is_some() {
            self.crash_loops.progressed();
        }
        if let Some(recovery) = self.recovering
            && recovery.identity == process.identity
            && let Some(work_key) = finished
        {
            self.recovering = None;
            self.report.notes.push(Note::Recovered { work_key });
        }
        for note in &mut self.report.notes {
            if let Note::Opened(condemned) = note {
                self.crash_loops.tell(condemned);
            }
        }
        match self.in_crash_loop(found.verdict) {
            Some(why) => self.say(Verdict::CrashLoop, Why::Changed(why), look.at),
            None => self.say(found.verdict, found.why, look.at),
        }
    }

    /// Whether the target is condemned for work in a crash loop, so that no kill is sent.
    pub fn spares(&self) -> bool {
        self.spared().is_some()
    }

    /// The work in a crash loop for which the target is condemned, if it is.
    fn spared(&self) -> Option<u64> {
        self.current.as_ref()?.spared_for(&self.crash_loops)
    }

    /// Why the verdict is `crash_loop` instead of `found`. It is so while any work is in a crash
    /// loop, unless a kill, a death or a start is under way: that is more urgent than last week's
    /// block.
    fn in_crash_loop(&self, found: Verdict) -> Option<String> {
        let keys = self.crash_loops.keys();
        match found {
            Verdict::Healthy | Verdict::Degraded | Verdict::Excused if !keys.is_empty() => {
                Some(crash_loop::standing(keys))
            }
            Verdict::Condemned => {
                let (key, condemned) = (self.spared()?, self.current.as_ref()?.condemned()?);
                Some(crash_loop::sparing(key, &condemned.why))
            }
            _ => None,
        }
    }

    /// Begins the trial of a process that it has not judged before.
    fn meet(&mut self, policy: &Policy, process: &ProcessObservation, at: Monotonic) {
        if let Some(death) = self.death.take()
            && !death.orderly
        {
            let after = at.since(death.at);
            self.report.notes.push(Note::Restarted { target: process.identity, after });
            self.recovering = Some(Recovery { identity: process.identity });
        }
        self.current = Some(Incarnation::new(policy, process.identity, at));
    }

    fn observe_nothing(&mut self, policy: &Policy, look: Look) {
        // A target that vanished without an exit was taken off the watch, not lost: the loop gives
        // the reason.
        self.current = None;
        let Some(death) = &mut self.death else {
            let why = if self.verdict == Verdict::Unguarded { None } else { Some("no target is watched") };
            if let Some(why) = why {
                self.say(Verdict::Unguarded, Why::Fixed(why), look.at);
            }
            return;
        };
        if death.orderly {
            self.say(Verdict::Unguarded, Why::Fixed("the target stopped in an orderly way"), look.at);
            return;
        }
        if !death.overdue && look.at.since(death.at) >= policy.restart_within {
            death.overdue = true;
            self.report.notes.push(Note::RestartOverdue);
        }
        let death = *death;
        let (verdict, why) = if death.overdue {
            (Verdict::Dead, "its supervisor has not restarted it in time")
        } else {
            (Verdict::Restarting, "waiting for its supervisor to restart it")
        };
        let pid = death.identity.pid;
        self.say(verdict, Why::Told(&|| format!("process {pid} is dead: {why}")), look.at);
    }

    fn say(&mut self, verdict: Verdict, why: Why<'_>, at: Monotonic) {
        if verdict != self.verdict {
            self.report.notes.push(Note::Verdict { from: self.verdict });
            self.verdict = verdict;
            self.since = at;
            self.why = why.tell();
        } else if why.differs_from(&self.why) {
            self.why = why.tell();
        }
    }

    fn look_at(&self, policy: &Policy, at: Monotonic) -> Monotonic {
        if let Some(current) = &self.current {
            return current.look_at(policy, at, self.spares());
        }
        match self.death {
            Some(Death { at: died, orderly: false, overdue: false, .. }) => {
                died.plus(policy.restart_within).min(at.plus(LOOK_UNGUARDED)).max(at)
            }
            _ => at.plus(LOOK_UNGUARDED),
        }
    }
}
