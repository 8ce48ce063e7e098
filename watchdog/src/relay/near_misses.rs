//! Near misses as the relay tells them: to the log, the metrics and the journal, each once it is
//! over.

use std::time::Duration;

use crate::event::LateThread;
use crate::evidence::Evidence;
use crate::incident::id::IncidentId;
use crate::incident::near_miss::NearMiss;
use crate::judge::words::Rounded;
use crate::verdict::NearMissOutcome;

use super::Relay;

/// The watch loop has no more than these open. If events were dropped, the oldest give way.
const MOST_OPEN: usize = 16;

/// Those that are not over.
#[derive(Debug, Default)]
pub(super) struct NearMisses(Vec<(LateThread, Option<Evidence>)>);

/// The end of one.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) number: u64,
    pub(super) outcome: NearMissOutcome,
    pub(super) lasted: Duration,
    pub(super) incident: Option<IncidentId>,
    /// Whether the evidence was complete before the thread went on.
    pub(super) holds: bool,
}

impl NearMisses {
    /// Keeps the evidence until the near miss is over.
    pub(super) fn gathered(&mut self, number: u64, evidence: Evidence) {
        if let Some((_, place)) = self.0.iter_mut().find(|(late, _)| late.number == number) {
            *place = Some(evidence);
        }
    }
}

impl Relay {
    pub(super) fn late(&mut self, late: LateThread) {
        let name = &late.thread.name;
        let (counted, stall_after) = (late.counted, late.stall_after);
        tracing::info!(
            event = "late",
            thread = name,
            work_key = late.thread.work_key,
            section = late.thread.section,
            counted_seconds = counted.as_secs_f64(),
            stall_after_seconds = stall_after.as_secs_f64(),
            "{name} has made no progress for {} of {}",
            Rounded(counted),
            Rounded(stall_after)
        );
        if self.near.0.len() >= MOST_OPEN {
            self.near.0.remove(0);
        }
        self.near.0.push((late, None));
    }

    pub(super) fn late_over(&mut self, over: Over) {
        let Some(place) = self.near.0.iter().position(|(late, _)| late.number == over.number) else { return };
        let (late, evidence) = self.near.0.remove(place);
        let Over { outcome, lasted, incident, holds, .. } = over;
        // What a thread shows after it went on explains nothing.
        let evidence = evidence.filter(|_| holds);
        let guess = evidence.as_ref().and_then(|evidence| evidence.guess(late.thread.tid));
        let name = &late.thread.name;
        let doing = guess.as_ref().map(|guess| format!("; {guess}")).unwrap_or_default();
        tracing::warn!(
            event = "near_miss",
            thread = name,
            %outcome,
            work_key = late.thread.work_key,
            section = late.thread.section,
            lasted_seconds = lasted.as_secs_f64(),
            stall_after_seconds = late.stall_after.as_secs_f64(),
            guess,
            "near miss: {name} made no progress for {}, stall_after is {}: {outcome}{doing}",
            Rounded(lasted),
            Rounded(late.stall_after)
        );
        self.telemetry.near_miss(name, outcome);
        let at = self.board.wall(late.at);
        let near_miss = NearMiss {
            id: IncidentId::new(at, late.number),
            shard: self.board.shard().to_owned(),
            at,
            outcome,
            lasted_seconds: lasted.as_secs_f64(),
            counted_seconds: late.counted.as_secs_f64(),
            stall_after_seconds: late.stall_after.as_secs_f64(),
            incident,
            guess,
            evidence: evidence.and_then(|evidence| evidence.threads.into_iter().next()),
            thread: late.thread,
        };
        self.listeners.near_miss(&near_miss);
        self.journal.near_miss(near_miss);
    }
}
