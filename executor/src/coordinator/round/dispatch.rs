//! Sends parts out: each that is due goes to the shard that suits it best.

use std::time::{Duration, Instant};

use super::Round;
use super::part::{Part, PartState, pick};
use crate::coordinator::CoordinatorError;
use crate::coordinator::shards::{Shards, Suspicion};
use crate::faults::DispatchFault;
use crate::net::wire;
use crate::telemetry::spans::Open;

/// Pause before a part that could not be sent is offered again: long enough that the loop does not
/// spin, short enough that a survivor gets the part practically at once.
const UNSENT_PAUSE: Duration = Duration::from_millis(1);

/// Distance between the attempt numbers of a flood and real ones: more than a part can have retries
/// within a block.
const FLOOD_ATTEMPTS: usize = 1_000_000;

impl Round<'_> {
    /// Sends out every waiting part for which there is a shard.
    pub(super) fn dispatch_due(&mut self) -> Result<(), CoordinatorError> {
        let now = Instant::now();
        if let Some(shard) = self.withheld_by() {
            return Err(CoordinatorError::Kept { block: self.context.block.number(), shard });
        }
        for at in 0..self.parts.len() {
            let Some(link) = self
                .parts
                .get(at)
                .filter(|part| part.is_due(now))
                .and_then(|part| pick(part, &self.parts, self.shards))
            else {
                continue;
            };
            let ahead = self.parts.iter().filter(|part| part.runs_on(link)).count();
            self.dispatch_to(link, u32::try_from(ahead).unwrap_or(u32::MAX), at)?;
        }
        Ok(())
    }

    /// The name of a shard that died of the block more than once, according to its watchdog. Other
    /// shards need not die of it too.
    fn withheld_by(&self) -> Option<String> {
        let block = self.context.block.number();
        (self.context.poison_after > 0).then(|| self.shards.withholding(block)).flatten()
    }

    /// Sends the part at `at` to the shard of a link, which has `ahead` parts to execute before it.
    fn dispatch_to(&mut self, link: usize, ahead: u32, at: usize) -> Result<(), CoordinatorError> {
        let Self { context, parts, shards, report, .. } = self;
        let Some(part) = parts.get_mut(at) else { return Ok(()) };
        let Some((incarnation, shard, name)) = shards.get(link).and_then(|at| {
            at.connected.as_ref().map(|shard| (shard.incarnation, shard.shard.clone(), at.name()))
        }) else {
            return Ok(());
        };
        let block = context.block.number();
        // A shard executes its parts one after the other, so this part's time begins when those
        // before it are done.
        let deadlines = &context.deadlines;
        let time = deadlines.part.saturating_mul(ahead.saturating_add(1)).min(deadlines.block);
        let tag = tag_of(part, block, incarnation, shards);
        let span = context.telemetry.tracer().asks(context.span);
        let run = wire::RunPart {
            tag: Some(tag),
            round: context.round,
            part_deadline_ms: milliseconds(time),
            state_deadline_ms: milliseconds(deadlines.state_request),
            trace: span.as_ref().map(Open::to_wire).unwrap_or_default(),
            work: part.work.clone(),
        };
        let fault = context.faults.dispatch_point(block);
        let flood =
            if let Some(DispatchFault::Flood(count)) = fault { Some((count, run.clone())) } else { None };
        // Registered before it is sent: its first request may arrive before this thread runs again.
        shards.answers.begin_attempt(link, tag);
        if fault != Some(DispatchFault::Drop) && !shards.send(link, wire::down::Message::Run(run)) {
            shards.answers.end_attempt(&tag);
            // The shard has just died, and that news is on its way, or it does not read. Nothing
            // was tried, so no retry is spent.
            shards.suspect(link, Suspicion::Silent(Instant::now()));
            part.state = PartState::Waiting(Instant::now() + UNSENT_PAUSE);
            return Ok(());
        }
        if let Some((count, run)) = flood {
            send_flood(count, &run, link, shards);
        }
        if let Some(failure) = &part.last_failure {
            report.retry(block, part.number, part.dispatched, failure, &name)?;
            context.telemetry.counts().retries.add(1);
        }
        shards.takes_part(link);
        part.dispatched += 1;
        part.state = PartState::Running { link, tag, until: Instant::now() + time, span, shard };
        Ok(())
    }
}

/// The tag of the part's next attempt, on the shard of that incarnation.
fn tag_of(part: &Part, block: u64, incarnation: u64, shards: &Shards) -> wire::Tag {
    wire::Tag {
        coordinator: shards.incarnation,
        shard: incarnation,
        sequence: shards.sequence,
        block,
        part: u32::try_from(part.number).unwrap_or(u32::MAX),
        attempt: part.dispatched,
    }
}

/// Carries out [`DispatchFault::Flood`]. Messages that do not fit on the stream are not sent.
fn send_flood(count: u64, run: &wire::RunPart, link: usize, shards: &Shards) {
    let Some(tag) = run.tag else { return };
    for attempt in (tag.attempt..=u32::MAX).skip(FLOOD_ATTEMPTS).take(usize::try_from(count).unwrap_or(0)) {
        let tag = Some(wire::Tag { attempt, ..tag });
        shards.send(link, wire::down::Message::Run(wire::RunPart { tag, ..run.clone() }));
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
