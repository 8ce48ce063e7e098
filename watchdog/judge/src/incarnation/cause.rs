//! What condemns a process, with everything that its incident must report, and what lifts a
//! condemnation.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use core::time::Duration;

use crate::clock::Monotonic;
use crate::observation::ProcessObservation;
use crate::policy::On;
use crate::verdict::{Health, Reason, StallKind, Verdict};
use crate::words::{self, Rounded};

use super::super::policy::{Policy, Rule};
use super::super::thread::ThreadTrial;
use super::super::{Condemnation, Finding, Note, Why};
use super::Incarnation;
use super::choice::{Ground, Key};

const GOES_ON: &str = "at least one other thread of the process is neither exiting nor has SIGKILL pending";

impl Incarnation {
    /// The incident of a process that ended unannounced and not by our signal.
    pub fn ended_by_itself(&self, at: Monotonic) -> Condemnation {
        let mut observations = vec![format!("the pidfd of process {} became readable", self.identity.pid)];
        if let Some(since) = self.exiting_since {
            observations.push(format!("it had been ending for {}", Rounded(at.since(since))));
        }
        // A thread that publishes a work key is reported in preference to one that is merely at
        // work.
        let at_work = || self.threads.iter().filter(|t| t.rule.is_some() && t.work.is_some());
        let stated = at_work().find(|t| t.work.is_some_and(|(key, _)| key != 0));
        let at_work = stated.or_else(|| at_work().next());
        Condemnation {
            reason: Reason::ProcessGone,
            why: format!("process {} ended, and this sidecar sent it no signal", self.identity.pid),
            target: self.identity,
            at,
            last_progress: self.last_seen,
            thread: at_work.map(ThreadTrial::faulty),
            slot: at_work.map(|t| t.key),
            channel: None,
            threshold: None,
            observations,
        }
    }

    /// A condemned process stays condemned, unless no signal was sent and the reason has gone.
    pub(super) fn already_condemned(
        &mut self,
        policy: &Policy,
        process: &ProcessObservation,
        notes: &mut Vec<Note>,
    ) -> Option<Finding> {
        let condemned = self.condemned.as_ref()?;
        if process.signalled.is_some() {
            let why = Why::Fixed("a signal of ours is on its way");
            return Some(Finding { verdict: Verdict::Dying, why });
        }
        let mine = self.threads.iter().find(|trial| Some(trial.key) == condemned.slot);
        let rule_of = |trial: &ThreadTrial| trial.rule.and_then(|rule| policy.rules.get(rule));
        let kills = |trial: &ThreadTrial| rule_of(trial).filter(|rule| rule.on == On::Kill);
        let over = match condemned.reason {
            // If the segment cannot be read any more the thread may be well again: no blind kill.
            Reason::Stalled => {
                !process.segment_readable
                    || !mine.is_some_and(|trial| {
                        !trial.left && rule_of(trial).is_some_and(|rule| stands(trial, rule))
                    })
            }
            // A reload may have removed the rule; the thread cannot come back.
            Reason::ThreadGone => mine.is_some_and(|trial| kills(trial).is_none()),
            Reason::ChannelLag => !process.segment_readable || self.hears_again(policy, condemned.channel),
            Reason::Silent => !process.segment_readable || self.is_no_longer_silent(policy, mine),
            Reason::Stopped => self.stopped_since.is_none() || !policy.stopped_kills,
            Reason::ExitHung => self.exiting_since.is_none(),
            Reason::LeaderGone | Reason::ProcessGone | Reason::Requested => false,
        };
        // A kill that a person asked for is not cancelled because the thread makes progress.
        if !over || self.is_requested() {
            return Some(Finding { verdict: Verdict::Condemned, why: Why::Changed(condemned.why.clone()) });
        }
        let why = format!("the kill was withheld and the reason has gone: {}", condemned.why);
        notes.push(Note::Lifted { why });
        self.condemned = None;
        None
    }

    /// The condemnation on that ground.
    pub(super) fn condemnation(
        &self,
        policy: &Policy,
        ground: Ground,
        at: Monotonic,
    ) -> Option<Condemnation> {
        match ground {
            Ground::Requested => self.requested(at),
            Ground::ExitHung => self.exit_hung(policy, at),
            Ground::ThreadGone(key) => self.thread_gone(key, at),
            Ground::LeaderGone => Some(self.leader_gone(at)),
            Ground::Stopped => self.stopped_too_long(policy, at),
            Ground::Stalled(key) => Some(self.stalled(policy, key, at)),
            Ground::Deaf(deaf) => self.deaf(policy, deaf, at),
            Ground::Silent(key) => self.silence(policy, key, at),
        }
    }

    fn requested(&self, at: Monotonic) -> Option<Condemnation> {
        let why = self.requested.as_deref()?;
        let at_work = self.threads.iter().filter(|t| t.rule.is_some() && t.work.is_some());
        let mut observations = vec![why.to_owned()];
        observations.extend(at_work.map(|trial| format!("thread {}: {}", trial.name, self::at_work(trial))));
        Some(Condemnation {
            reason: Reason::Requested,
            why: why.to_owned(),
            target: self.identity,
            at,
            last_progress: self.last_seen,
            thread: None,
            slot: None,
            channel: None,
            threshold: None,
            observations,
        })
    }

    fn thread_gone(&self, key: Key, at: Monotonic) -> Option<Condemnation> {
        let trial = self.trial(key)?;
        let (name, tid, pid) = (&trial.name, trial.tid, self.identity.pid);
        Some(Condemnation {
            reason: Reason::ThreadGone,
            why: format!("thread {name} (tid {tid}) ended while process {pid} lives on"),
            target: self.identity,
            at,
            last_progress: trial.last_beat.max(self.last_seen),
            thread: Some(trial.faulty()),
            slot: Some(trial.key),
            channel: None,
            threshold: None,
            observations: vec![
                format!("thread {name} with tid {tid} has ended, and did not leave the watch before"),
                GOES_ON.to_owned(),
                at_work(trial),
            ],
        })
    }

    fn leader_gone(&self, at: Monotonic) -> Condemnation {
        let pid = self.identity.pid;
        Condemnation {
            reason: Reason::LeaderGone,
            why: format!("the main thread of process {pid} ended while others live on"),
            target: self.identity,
            at,
            last_progress: self.last_seen,
            thread: None,
            slot: None,
            channel: None,
            threshold: None,
            observations: vec![format!("the main thread of process {pid} is a zombie"), GOES_ON.to_owned()],
        }
    }

    pub(super) fn trial(&self, key: (u32, u64)) -> Option<&ThreadTrial> {
        self.threads.iter().find(|trial| trial.key == key)
    }

    fn stalled(&self, policy: &Policy, key: (u32, u64), at: Monotonic) -> Condemnation {
        let trial = self.trial(key);
        let rule = trial.and_then(|t| t.rule).and_then(|r| policy.rules.get(r));
        let threshold = trial.zip(rule).map(|(trial, rule)| trial.stall_after(rule));
        let name = trial.map_or("?", |t| &*t.name);
        let counted = Rounded(trial.map_or(Duration::ZERO, |t| t.counted()));
        let kind = trial.map_or(StallKind::Unknown, ThreadTrial::kind);
        let last_progress = trial.map_or(at, |t| t.last_beat);
        let work = trial
            .and_then(|t| t.work)
            .map_or_else(String::new, |(key, attempt)| format!(" on work {key} (attempt {attempt})"));
        let section = trial.and_then(ThreadTrial::section);
        let section = section.map_or_else(String::new, |section| format!(" in its section {section}"));
        let mut observations = vec![
            format!(
                "thread {name} is at work and its progress has not changed for {}",
                Rounded(at.since(last_progress))
            ),
            format!(
                "for {counted} of that time it could have run; the threshold is {}",
                Rounded(threshold.unwrap_or_default())
            ),
        ];
        if let Some((trial, rule)) = trial.zip(rule) {
            observations.extend(why_that_threshold(trial, rule));
        }
        if let Some((earlier, last)) = trial.and_then(|t| t.clock.samples()) {
            observations.push(words::between(earlier, last));
        }
        if let Some((workers, ran)) = trial.and_then(|t| t.workers.told()) {
            observations.push(format!(
                "it may be waiting for {workers} workers, none of which was kept from running; the busiest used {} of CPU time",
                Rounded(ran)
            ));
        }
        Condemnation {
            reason: Reason::Stalled,
            why: format!(
                "thread {name} made no progress{work}{section} for {counted} in which it could have: {kind}"
            ),
            target: self.identity,
            at,
            last_progress,
            thread: trial.map(ThreadTrial::faulty),
            slot: trial.map(|t| t.key),
            channel: None,
            threshold,
            observations,
        }
    }

    fn stopped_too_long(&self, policy: &Policy, at: Monotonic) -> Option<Condemnation> {
        let since = self.stopped_since?;
        let stopped = Rounded(at.since(since));
        let pid = self.identity.pid;
        let cap = policy.stopped_at_most;
        Some(Condemnation {
            reason: Reason::Stopped,
            why: format!(
                "process {pid} has been stopped for {stopped}; a stop excuses at most {}",
                Rounded(cap)
            ),
            target: self.identity,
            at,
            last_progress: since,
            thread: None,
            slot: None,
            channel: None,
            threshold: Some(cap),
            observations: vec![format!("the main thread has been in state T (stopped) for {stopped}")],
        })
    }

    fn exit_hung(&self, policy: &Policy, at: Monotonic) -> Option<Condemnation> {
        let since = self.exiting_since?;
        let ending = Rounded(at.since(since));
        let pid = self.identity.pid;
        let how = if self.ends_on_purpose {
            "its segment is marked as stopping"
        } else {
            "the kernel reports that every thread is exiting"
        };
        Some(Condemnation {
            reason: Reason::ExitHung,
            why: format!("process {pid} began to end {ending} ago and has not"),
            target: self.identity,
            at,
            last_progress: since,
            thread: None,
            slot: None,
            channel: None,
            threshold: Some(policy.exit_within),
            observations: vec![format!("{how}, for {ending}")],
        })
    }
}

/// Whether the stall of a condemned thread still is a ground for it.
fn stands(trial: &ThreadTrial, rule: &Rule) -> bool {
    if trial.health == Health::Gone {
        return rule.on == On::Kill;
    }
    let kills = if rule.by_kind.is_empty() {
        rule.on == On::Kill
    } else {
        rule.kills() && !trial.stays_only_reported()
    };
    kills && trial.counted() >= trial.warn_after(rule)
}

/// Why another threshold than that of its rule is in force for a thread, a sentence for each
/// reason.
fn why_that_threshold(trial: &ThreadTrial, rule: &Rule) -> Vec<String> {
    let mut told = Vec::new();
    let (threshold, (given, _)) = (trial.stall_after(rule), trial.given(rule));
    let (allowed, usual) = (Rounded(threshold), Rounded(given));
    let whose = match trial.section_limits(rule) {
        Some(limits) => {
            let section = limits.section;
            told.push(format!(
                "its section {section} is allowed {usual}; the rule alone allows {}",
                Rounded(rule.stall_after)
            ));
            "section"
        }
        None => "rule",
    };
    if threshold < given {
        told.push(format!("the work's own deadline allows {allowed}, less than the {usual} of its {whose}"));
    }
    if threshold > given {
        told.push(format!(
            "it is the thread's first piece of work, which is allowed {allowed} instead of the {usual} of its {whose}"
        ));
    }
    told
}

fn at_work(trial: &ThreadTrial) -> String {
    let section = trial.section().map_or_else(String::new, |section| format!(", in its section {section}"));
    match trial.work {
        Some((key, attempt)) => format!("it was at work on {key} (attempt {attempt}){section}"),
        None => "it was idle".to_owned(),
    }
}
