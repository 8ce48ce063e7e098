//! The incident that an earlier sidecar left open. This one goes on with it, by what it sees of the
//! target: the same process condemned again or ending, or its successor and that one's first
//! finished work. What happened while no sidecar watched is told without a time.
//!
//! As soon as the judge reports steps of its own about it, it is an open incident like any other.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::event::{FaultyThread, Opening, Step};
use crate::incident::spans::Told;
use crate::incident::timeline::{self, Entry, StepName};
use crate::incident::{Incident, Status, TargetRecord};
use crate::snapshot::{Snapshot, TargetIdentity};
use crate::verdict::{Health, Reason};

use super::stacks::Wants;
use super::{OpenIncident, Relay};

/// It ended while nobody watched, and the kernel has forgotten how.
const HOW_IT_ENDED: &str = "found dead by the next sidecar: when and how it ended is unknown";

/// That incident.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) open: OpenIncident,
    /// When this sidecar began to go on with it.
    since: Monotonic,
}

impl Relay {
    /// Takes over what the journal has found, once it has.
    pub(super) fn take_left(&mut self) {
        let Some(incident) = self.journal.take_left() else { return };
        let mut told = Told::default();
        // It is unknown which of these the earlier sidecar could still send.
        if let Some(spans) = &self.spans {
            spans.send(told.finished(&incident));
        }
        let incident = Arc::unwrap_or_clone(incident);
        let open = OpenIncident { number: 0, killed: false, wants: Wants::default(), told, incident };
        let now = crate::clock::now();
        self.left = Some(Left { open, since: now });
        // A disk that was slow answers after the target was found.
        if !self.open.is_empty() {
            self.abandon_left(now, "another incident began before it was over".to_owned());
        } else if let Some(target) = self.board.snapshot().and_then(|snapshot| snapshot.target) {
            self.left_adopted(now, target);
        }
    }

    /// A target was adopted: the process of the incident, or its successor.
    pub(super) fn left_adopted(&mut self, at: Monotonic, target: TargetIdentity) {
        let Some(left) = &self.left else { return };
        let incident = &left.open.incident;
        let restarted = Step::Restarted { target, after: Duration::ZERO };
        let (name, detail) = timeline::tell(&restarted);
        let known = |entry: &Entry| entry.step == name && entry.detail == detail;
        if is_same(incident.target, target) || incident.timeline.iter().any(known) {
            return;
        }
        let seen_to_start = age(target.start_time).is_some_and(|age| age <= at.since(left.since));
        if !has(incident, StepName::Exited) {
            self.left_step(
                at,
                &Step::Exited { how: Some(HOW_IT_ENDED.to_owned()), after_signal: None },
                false,
            );
        }
        self.left_step(at, &restarted, seen_to_start);
    }

    /// The state of the watch: the successor has finished work, or the thread at fault goes on.
    pub(super) fn left_seen(&mut self, snapshot: &Snapshot) {
        let (Some(left), Some(target)) = (&self.left, snapshot.target) else { return };
        let incident = &left.open.incident;
        if is_same(incident.target, target) {
            if let Some(thread) =
                incident.thread.as_ref().filter(|thread| goes_on(incident, thread, snapshot))
            {
                let why =
                    format!("the reason has gone: {} makes progress, as the next sidecar sees", thread.name);
                self.abandon_left(snapshot.at, why);
            }
        } else if let Some(work_key) = snapshot.first_finished {
            let restarted = incident.timeline.iter().rfind(|entry| entry.step == StepName::Restarted);
            // Only of a process that started before its eyes does it know which work was the first.
            let known =
                restarted.and_then(|entry| entry.monotonic_ns).is_some_and(|started| started >= left.since.0);
            self.left_step(snapshot.at, &Step::Recovered { work_key }, known);
        }
    }

    /// Whether an incident that the judge opens is the one that was left, which then goes on. Any
    /// other one ends it.
    pub(super) fn left_goes_on(&mut self, opening: &Opening) -> bool {
        let Some(mut left) = self.left.take_if(|left| is_the_same(&left.open.incident, opening)) else {
            self.abandon_left(opening.at, "another incident began before it was over".to_owned());
            return false;
        };
        let open = &mut left.open;
        open.number = opening.incident;
        let incident = &mut open.incident;
        incident.last_words = incident.last_words.take().or_else(|| opening.last_words.clone());
        let (anchor, mode) = (self.board.anchor(), self.board.mode().label());
        let step = match opening.reason {
            // The judge, too, reports this death as the next step.
            Reason::ProcessGone => None,
            Reason::Requested if incident.reason != Reason::Requested => {
                let step = Step::Requested { why: opening.why.clone() };
                incident.step(opening.at, &step, anchor);
                Some(timeline::tell(&step))
            }
            _ => {
                incident.condemned_again(opening, mode, anchor);
                open.wants.before_the_kill();
                Some((StepName::Verdict, Some(opening.why.clone())))
            }
        };
        if let Some(step) = step {
            let since = incident.since_last_progress(opening.at);
            open.tell(step, since, (&self.journal, &self.listeners), self.spans.as_ref());
        }
        self.open.push(left.open);
        true
    }

    fn abandon_left(&mut self, at: Monotonic, why: String) {
        self.left_step(at, &Step::Abandoned { why }, true);
    }

    /// Adds a step; `known` says whether it happened at `at`, or at an unknown time before.
    fn left_step(&mut self, at: Monotonic, step: &Step, known: bool) {
        let Some(Left { open, .. }) = &mut self.left else { return };
        let anchor = self.board.anchor();
        let since = if known {
            open.incident.step(at, step, anchor);
            open.incident.since_last_progress(at)
        } else {
            open.incident.found(at, step, anchor);
            None
        };
        open.tell(timeline::tell(step), since, (&self.journal, &self.listeners), self.spans.as_ref());
        let wanted = open.wants.after(step).then(|| open.incident.id.clone());
        if open.incident.status != Status::Open {
            self.left = None;
        }
        self.look_up(wanted);
    }
}

/// Whether the thread at fault is well again, so that a sidecar that had watched throughout would
/// have lifted its verdict. For other reasons nothing that shows soon after a start is proof.
fn goes_on(incident: &Incident, thread: &FaultyThread, snapshot: &Snapshot) -> bool {
    matches!(incident.reason, Reason::Stalled | Reason::Silent)
        && snapshot.threads.iter().any(|status| {
            status.name == thread.name
                && status.tid == Some(thread.tid)
                && status.beats > 0
                && matches!(status.health, Health::Idle | Health::Working)
        })
}

/// Whether a verdict of this sidecar belongs to that incident: the same process, which has ended,
/// or is condemned for the same reason and thread, or whose kill a person requests.
fn is_the_same(incident: &Incident, opening: &Opening) -> bool {
    let thread = |thread: Option<&FaultyThread>| thread.map(|thread| (thread.name.clone(), thread.tid));
    let same_ground = match opening.reason {
        Reason::ProcessGone | Reason::Requested => true,
        // Whichever thread was at work when that was noticed.
        Reason::LeaderGone | Reason::Stopped | Reason::ExitHung => opening.reason == incident.reason,
        Reason::ThreadGone | Reason::Stalled | Reason::ChannelLag | Reason::Silent => {
            opening.reason == incident.reason
                && thread(opening.thread.as_ref()) == thread(incident.thread.as_ref())
        }
    };
    is_same(incident.target, opening.target) && same_ground
}

/// Whether this is that process. The incarnation may change: a program can replace itself.
fn is_same(record: TargetRecord, target: TargetIdentity) -> bool {
    (record.pid, record.start_time) == (target.pid, target.start_time)
}

fn has(incident: &Incident, step: StepName) -> bool {
    incident.timeline.iter().any(|entry| entry.step == step)
}

/// How long ago a process started, by its start time in clock ticks since boot.
fn age(start_time: u64) -> Option<Duration> {
    let ticks = procfs::ticks_per_second();
    let started = Duration::from_millis(start_time.checked_mul(1_000)?.checked_div(ticks)?);
    crate::clock::since_boot()?.checked_sub(started)
}

#[cfg(test)]
#[path = "left/tests.rs"]
mod tests;
