//! Evidence of a condemned process: requested once its incident is open, and waited for before the
//! first signal, but no longer than its time limit.

use std::sync::Arc;

use crate::clock::Monotonic;
use crate::event::Step;
use crate::evidence::Subject;
use crate::evidence::gatherer::{Busy, Gatherer, Purpose, Request};
use crate::judge::Note;
use crate::judge::incarnation::Incarnation;
use crate::judge::words::Rounded;

use super::Watch;

/// The state of gathering.
#[derive(Debug)]
pub(super) struct Gathering {
    gatherer: Gatherer,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nothing is being gathered.
    Rests,
    /// An incident is about to open, or has just been opened.
    Due { until: Monotonic },
    /// It is being gathered.
    Asked { until: Monotonic },
}

impl Gathering {
    pub(super) const fn new(gatherer: Gatherer) -> Self {
        Self { gatherer, stage: Stage::Rests }
    }

    /// Until when a signal waits; `None` if it waits for nothing, or no longer.
    pub(super) fn until(&self) -> Option<Monotonic> {
        match self.stage {
            Stage::Rests => None,
            Stage::Due { until } => Some(until),
            Stage::Asked { until } => (!self.gatherer.is_done()).then_some(until),
        }
    }

    /// Has evidence of a late thread gathered, if the gatherer is free. Returns whether it will be.
    pub(super) fn ask_for_near_miss(&mut self, request: Request) -> bool {
        self.gatherer.ask(request).is_ok()
    }

    /// Whether nothing is being gathered.
    pub(super) fn is_quiet(&self) -> bool {
        self.gatherer.is_done()
    }

    /// Nothing waits for evidence any more: the process is dead, released, or no longer condemned.
    pub(super) const fn end(&mut self) {
        self.stage = Stage::Rests;
    }
}

impl Watch {
    /// If this observation condemns a living process, no signal goes out before there is evidence.
    /// To be called before the ladder is climbed.
    pub(super) fn wait_for_evidence(&mut self, at: Monotonic, exited: bool) {
        let opened = self.judge.notes().iter().any(|note| matches!(note, Note::Opened(_)));
        let limit = self.config.evidence.time_limit;
        if opened && !exited && !limit.is_zero() && self.probe.handle().is_some() {
            self.gathering.stage = Stage::Due { until: at.plus(limit) };
        }
    }

    /// Requests the evidence that is due, and reports what is late. To be called once the incident
    /// was reported, since evidence of an unknown incident would be dropped. Returns whether a
    /// signal that waited need not wait any longer.
    pub(super) fn gather(&mut self, at: Monotonic) -> bool {
        match self.gathering.stage {
            Stage::Rests => false,
            Stage::Due { until } => {
                let Some(incident) = self.story.number() else {
                    self.gathering.end();
                    return true;
                };
                let Some(handle) = self.probe.handle() else {
                    self.gathering.end();
                    return true;
                };
                let request = Request {
                    purpose: Purpose::Incident(incident),
                    target: handle.identity(),
                    process: handle.shared_process(),
                    subject: self.subject(),
                    deadline: until,
                    dump: self.config.evidence.minidump,
                };
                match self.gathering.gatherer.ask(request) {
                    Ok(()) => {
                        self.gathering.stage = Stage::Asked { until };
                        false
                    }
                    // It is over in a moment, and wakes the loop.
                    Err(Busy(Purpose::Rehearsal | Purpose::NearMiss(_))) if at < until => false,
                    Err(_) => {
                        self.gathering.end();
                        let why = "what was requested earlier is still being read";
                        self.no_evidence(at, why.to_owned());
                        true
                    }
                }
            }
            Stage::Asked { .. } if self.gathering.gatherer.is_done() => {
                self.gathering.end();
                true
            }
            Stage::Asked { until } if at >= until => {
                self.gathering.end();
                let limit = Rounded(self.config.evidence.time_limit);
                self.no_evidence(at, format!("not complete within {limit}; what is read later is kept"));
                false
            }
            Stage::Asked { .. } => false,
        }
    }

    /// Learns what of the process that was just adopted may be read, so that a person can grant
    /// what is missing before it is needed.
    pub(super) fn rehearse(&mut self, at: Monotonic) {
        let limit = self.config.evidence.time_limit;
        let Some(handle) = self.probe.handle().filter(|_| !limit.is_zero()) else { return };
        let target = handle.identity();
        let leader = target.pid;
        let request = Request {
            purpose: Purpose::Rehearsal,
            target,
            process: handle.shared_process(),
            subject: Subject { at_fault: Some(leader), watched: Vec::new(), others: false },
            deadline: at.plus(limit),
            dump: false,
        };
        // If the thread is at work, nothing is learnt this time.
        let _ = self.gathering.gatherer.ask(request);
    }

    fn no_evidence(&mut self, at: Monotonic, why: String) {
        self.story.step(at, Step::NoEvidence { why }, &mut self.publisher);
    }

    /// Whose evidence is wanted: the thread at fault first.
    fn subject(&self) -> Subject {
        let current = self.judge.incarnation();
        let condemned = current.and_then(Incarnation::condemned);
        let at_fault = condemned.and_then(|condemned| Some(condemned.thread.as_ref()?.tid));
        let threads = current.map(Incarnation::threads).unwrap_or_default();
        let watched = threads.iter().filter(|trial| !trial.left && trial.tid > 0);
        Subject {
            at_fault: at_fault.filter(|tid| *tid > 0),
            watched: watched.map(|trial| (trial.tid, Arc::clone(&trial.name))).collect(),
            others: true,
        }
    }
}
