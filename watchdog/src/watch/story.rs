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
    dead: Option<Dead>,
}

/// A dead process whose end is still to be told.
#[derive(Debug)]
struct Dead {
    handle: TargetHandle,
    /// How many processes of its cgroup the OOM killer ended while it was watched.
    oom_kills: u64,
    at: Monotonic,
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

    /// Holds the handle of a dead process until the kernel tells how it ended. `oom_kills`: how
    /// many processes of its cgroup the OOM killer ended while it was watched.
    pub fn keep_for_status(&mut self, handle: Option<TargetHandle>, oom_kills: u64, at: Monotonic) {
        let handle = handle.filter(|_| self.open.is_some());
        // A signal of ours is explanation enough.
        let oom_kills = if self.first_signal.is_some() { 0 } else { oom_kills };
        self.dead = handle.map(|handle| Dead { handle, oom_kills, at });
    }

    /// Whether the exit status of a dead process is still wanted.
    pub const fn wants_exit_status(&self) -> bool {
        self.dead.is_some()
    }

    /// Asks the kernel for that status.
    pub fn ask_exit_status(&mut self, at: Monotonic, publisher: &mut Publisher) {
        let Some(Dead { handle, oom_kills, at: since }) = &self.dead else { return };
        let (status, oom_kills) = (handle.exit_status(), *oom_kills);
        if status.is_none() && at.since(*since) < ASK_STATUS_FOR {
            return;
        }
        self.dead = None;
        if let Some(how) = told_end(status, oom_kills) {
            self.step(at, Step::ExitStatus { how }, publisher);
        }
    }
}

/// How a process ended: its status, where the kernel tells it, and kills by the OOM killer, where
/// the status does not speak against one.
fn told_end(status: Option<String>, oom_kills: u64) -> Option<String> {
    let killed = status.as_ref().is_none_or(|status| status == "killed by SIGKILL");
    if oom_kills == 0 || !killed {
        return status;
    }
    let kills = if oom_kills == 1 { "1 kill".to_owned() } else { format!("{oom_kills} kills") };
    let cause = format!("its cgroup counts {kills} by the kernel's OOM killer since it came under watch");
    Some(status.map_or_else(|| cause.clone(), |status| format!("{status}; {cause}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oom_killer_is_named_where_nothing_speaks_against_it() {
        let killed = || Some("killed by SIGKILL".to_owned());
        assert_eq!(told_end(killed(), 0), killed());
        assert_eq!(
            told_end(killed(), 1).unwrap(),
            "killed by SIGKILL; its cgroup counts 1 kill by the kernel's OOM killer since it came under watch"
        );
        assert!(told_end(None, 2).unwrap().starts_with("its cgroup counts 2 kills"));
        assert_eq!(
            told_end(Some("exit code 3".to_owned()), 1).unwrap(),
            "exit code 3",
            "another one was killed"
        );
        assert_eq!(told_end(None, 0), None);
    }
}
