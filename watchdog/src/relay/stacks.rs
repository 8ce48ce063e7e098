//! The stacks of minidumps, which are looked up after the kill. The answer may come long after the
//! incident was closed: it gets a step all the same, and a new version of its document.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::clock::Monotonic;
use crate::event::{FoundStacks, NoStacks, StacksOutcome, Step, Symbolized};
use crate::incident::Incident;
use crate::incident::id::IncidentId;
use crate::incident::timeline::{self, StepName};
use crate::symbolizer::Symbolizer;

use super::Relay;

/// No more wait for an answer: the others were refused at once.
const MOST_WAITING: usize = 16;

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    symbolizer: Arc<OnceLock<Symbolizer>>,
    tickets: u64,
    waiting: VecDeque<(u64, IncidentId)>,
}

/// Whether the stacks of an incident are to be looked up, and whether that may begin: not before
/// the signal, or it would take CPU time from the kill.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    dumped: bool,
    kill_over: bool,
}

impl Asked {
    pub(super) fn of(symbolizer: Arc<OnceLock<Symbolizer>>) -> Self {
        Self { symbolizer, ..Self::default() }
    }

    /// Asks, if anybody looks them up. Returns false if too many others wait.
    fn ask(&mut self, id: IncidentId) -> bool {
        let Some(symbolizer) = self.symbolizer.get() else { return true };
        self.tickets += 1;
        if !symbolizer.ask(self.tickets, id.clone()) {
            return false;
        }
        // The oldest one here has been answered by an event that was dropped.
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((self.tickets, id));
        true
    }

    fn answered(&mut self, ticket: u64) -> Option<IncidentId> {
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == ticket)?;
        self.waiting.remove(place).map(|(_, id)| id)
    }
}

impl Wants {
    /// A minidump was taken.
    pub(super) const fn dumped(&mut self) {
        self.dumped = true;
    }

    /// It is condemned again: another kill is due.
    pub(super) const fn before_the_kill(&mut self) {
        self.kill_over = false;
    }

    /// Notes a step. Returns whether the stacks are to be looked up now; true once.
    pub(super) const fn after(&mut self, step: &Step) -> bool {
        self.kill_over |= matches!(
            step,
            Step::Signal { .. }
                | Step::Withheld(_)
                | Step::Unproven { .. }
                | Step::Exited { .. }
                | Step::Recovered { .. }
                | Step::Abandoned { .. }
        );
        self.kill_over && std::mem::replace(&mut self.dumped, false)
    }

    /// The same once no further step is expected.
    pub(super) const fn at_the_end(&mut self) -> bool {
        std::mem::replace(&mut self.dumped, false)
    }
}

impl Relay {
    /// Incidents whose stacks an earlier sidecar left to this one.
    pub(super) fn take_without_stacks(&self) -> Vec<IncidentId> {
        match self.stacks.symbolizer.get() {
            Some(_) => self.journal.take_without_stacks(),
            None => Vec::new(),
        }
    }

    /// Looks those up; of the incident that goes on, once its kill is over.
    pub(super) fn look_up_left(&mut self, without: Vec<IncidentId>) {
        for id in without {
            let Some(left) = self.left.as_mut().filter(|left| left.open.incident.id == id) else {
                self.look_up(Some(id));
                continue;
            };
            left.open.wants.dumped();
            let over = |step| matches!(step, StepName::Signal | StepName::Withheld | StepName::Exited);
            let is_over = left.open.incident.timeline.iter().any(|entry| over(entry.step));
            if is_over && left.open.wants.at_the_end() {
                self.look_up(Some(id));
            }
        }
    }

    /// Has the stacks of this incident looked up, if there is one.
    pub(super) fn look_up(&mut self, wanted: Option<IncidentId>) {
        let Some(id) = wanted else { return };
        if !self.stacks.ask(id.clone()) {
            let why = "the stacks of too many other incidents wait to be looked up".to_owned();
            let none = Err(NoStacks { outcome: StacksOutcome::Dropped, why });
            self.has_stacks(&id, crate::clock::now(), none);
        }
    }

    /// They were looked up, or not.
    pub(super) fn symbolized(&mut self, symbolized: Symbolized) {
        let Symbolized { ticket, at, stacks } = symbolized;
        if let Some(id) = self.stacks.answered(ticket) {
            self.has_stacks(&id, at, stacks);
        }
    }

    fn has_stacks(&mut self, id: &IncidentId, at: Monotonic, stacks: Result<FoundStacks, NoStacks>) {
        self.telemetry.stacks(stacks.as_ref().map_or_else(|none| none.outcome, |_| StacksOutcome::Written));
        let (step, frames) = match stacks {
            Ok(FoundStacks { text, headline, tid, own_frames }) => {
                self.journal.keep_stacks(id.clone(), text);
                (Step::Stacks { headline }, Some((tid, own_frames)))
            }
            Err(NoStacks { why, .. }) => (Step::NoStacks { why }, None),
        };
        // If the thread at fault is gone, the dump is about another one.
        let take = |incident: &mut Incident| {
            let guilty = incident.thread.as_ref().map(|thread| thread.tid);
            if let Some((_, own_frames)) = frames.filter(|(tid, _)| Some(*tid) == guilty) {
                incident.own_frames = own_frames;
            }
        };
        let anchor = self.board.anchor();
        let left = self.left.as_mut().map(|left| &mut left.open);
        let mut open = self.open.iter_mut().chain(left);
        if let Some(open) = open.find(|open| open.incident.id == *id) {
            take(&mut open.incident);
            open.incident.step(at, &step, anchor);
            let since = open.incident.since_last_progress(at);
            open.tell(timeline::tell(&step), since, (&self.journal, &self.listeners), self.spans.as_ref());
        } else if let Some(closed) = self.journal.get(id) {
            let mut incident = Arc::unwrap_or_clone(closed);
            take(&mut incident);
            incident.step(at, &step, anchor);
            let (name, detail) = timeline::tell(&step);
            self.listeners.incident(&incident, name, detail.as_deref());
            super::told_step(&incident, (name, detail), incident.since_last_progress(at));
            self.journal.amend(Arc::new(incident));
        }
    }
}

#[cfg(test)]
#[path = "stacks/tests.rs"]
mod tests;
