//! The open incident as the loop reports it: a number, and one step after another.

use shard_heartbeat::TraceContext;

use crate::clock::Monotonic;
use crate::event::{Event, Opening, Step};
use crate::judge::Condemnation;
use crate::probe::handle::TargetHandle;
use crate::probe::tracer::Tracer;

use super::publish::Publisher;
use super::{ASK_STATUS_FOR, not_permitted};

/// What the process at fault reported in its segment, and who traced it. It adds to the report and
/// decides nothing.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The trace context of the work in flight.
    pub trace: Option<TraceContext>,
    /// The last words in its segment.
    pub last_words: Option<String>,
    /// Who traced the thread at fault. The kernel reports this, before any signal is sent.
    pub tracer: Option<Tracer>,
}

/// The state of the report.
#[derive(Debug, Default)]
pub struct Story {
    last: u64,
    open: Option<u64>,
    first_signal: Option<Monotonic>,
    dead: Option<(TargetHandle, Monotonic)>,
}

impl Story {
    /// Begins an incident; if another is still open, that one ends.
    pub fn open(
        &mut self,
        condemned: &Condemnation,
        judged: Monotonic,
        said: Said,
        publisher: &mut Publisher,
    ) {
        self.abandon(condemned.at, "another incident began before it was over".to_owned(), publisher);
        self.last += 1;
        self.open = Some(self.last);
        self.first_signal = None;
        let mut thread = condemned.thread.clone();
        if let (Some(thread), Some(trace)) = (&mut thread, said.trace) {
            thread.trace_id = Some(hex(&trace.trace_id));
            thread.span_id = Some(hex(&trace.span_id));
        }
        let mut observations = condemned.observations.clone();
        if let Some(words) = &said.last_words {
            let first = words.lines().next().unwrap_or_default();
            observations.push(format!("its last words: \"{first}\""));
        }
        if let Some(tracer) = &said.tracer {
            observations.push(format!("{tracer} traced it"));
        }
        publisher.send(Event::IncidentOpened(Box::new(Opening {
            incident: self.last,
            at: judged,
            reason: condemned.reason,
            why: condemned.why.clone(),
            target: condemned.target,
            thread,
            last_progress: condemned.last_progress,
            seen: condemned.at,
            threshold: condemned.threshold,
            observations,
            last_words: said.last_words,
            tracer: said.tracer,
        })));
    }

    /// The number of the open incident.
    pub const fn number(&self) -> Option<u64> {
        self.open
    }

    /// Reports one step of the open incident.
    pub fn step(&mut self, at: Monotonic, step: Step, publisher: &mut Publisher) {
        let Some(incident) = self.open else { return };
        if let Step::Signal { error: None, .. } = &step {
            self.first_signal.get_or_insert(at);
        }
        let refused = not_permitted(&step);
        publisher.send(Event::IncidentStep { incident, at, step });
        if let Some(withheld) = refused {
            publisher.send(Event::IncidentStep { incident, at, step: Step::Withheld(withheld) });
        }
    }

    /// Reports that the process is dead.
    pub fn exited(&mut self, at: Monotonic, publisher: &mut Publisher) {
        let after_signal = self.first_signal.map(|sent| at.since(sent));
        self.step(at, Step::Exited { how: None, after_signal }, publisher);
    }

    /// Reports that the next incarnation finished its first work, which ends the incident.
    pub fn recovered(&mut self, at: Monotonic, work_key: Option<u64>, publisher: &mut Publisher) {
        self.step(at, Step::Recovered { work_key }, publisher);
        self.open = None;
    }

    /// Reports that the incident ends without recovery.
    pub fn abandon(&mut self, at: Monotonic, why: String, publisher: &mut Publisher) {
        self.step(at, Step::Abandoned { why }, publisher);
        self.open = None;
    }

    /// Holds the handle of a dead process until the kernel tells how it ended.
    pub fn keep_for_status(&mut self, handle: Option<TargetHandle>, at: Monotonic) {
        self.dead = handle.filter(|_| self.open.is_some()).map(|handle| (handle, at));
    }

    /// Whether the exit status of a dead process is still wanted.
    pub const fn wants_exit_status(&self) -> bool {
        self.dead.is_some()
    }

    /// Asks the kernel for that status.
    pub fn ask_exit_status(&mut self, at: Monotonic, publisher: &mut Publisher) {
        let Some((handle, since)) = &self.dead else { return };
        let how = handle.exit_status();
        if how.is_none() && at.since(*since) < ASK_STATUS_FOR {
            return;
        }
        self.dead = None;
        if let Some(how) = how {
            self.step(at, Step::ExitStatus { how }, publisher);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
