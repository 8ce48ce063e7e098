//! Handles what comes from the shards: messages about parts, and the news that a shard is lost.

use std::time::Duration;

use super::Round;
use super::part::{PartState, accept};
use crate::coordinator::connection::Event;
use crate::coordinator::shards::Suspicion;
use crate::coordinator::step::{Failure, Step};
use crate::coordinator::{CoordinatorError, discarded, serve};
use crate::net::wire;

/// Pause before a refused part is offered again: the shard that refused it is full or about to end,
/// and an immediate second offer would only spend a retry.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);

impl Round<'_> {
    pub(super) fn handle_event(&mut self, event: Event) -> Result<(), CoordinatorError> {
        match event {
            Event::Lost { link, reason, .. } => self.shard_lost(link, &reason),
            Event::Message { link, message, .. } => self.receive(link, message),
            Event::Joined { .. } | Event::Unreachable { .. } => Ok(()),
        }
    }

    /// Takes its parts away from a shard whose connection is lost, or gives the block up if it is
    /// to blame.
    fn shard_lost(&mut self, link: usize, reason: &str) -> Result<(), CoordinatorError> {
        let failure = Failure {
            shard: self.shards.name(link),
            step: Step::Result,
            reason: format!("connection lost: {reason}"),
        };
        // A shard executes its parts one after the other: only the part at the front can have ended
        // it, not those queued behind.
        let first = self.parts.iter_mut().filter(|part| part.runs_on(link)).min_by_key(|part| part.until());
        let killer = first.map(|part| {
            part.shards_lost += 1;
            (part.number, part.shards_lost)
        });
        let lost = self.parts.iter().map(|part| part.shards_lost).sum();
        // Shards lost at the same time with different parts have a common cause elsewhere. If one
        // part takes a second shard down, the block is to blame.
        if let Some((part, again)) = killer
            && self.context.poison_after > 0
            && lost >= self.context.poison_after
            && again > 1
        {
            return Err(CoordinatorError::Killed {
                block: self.context.block.number(),
                part,
                lost,
                shard: failure.shard,
                reason: failure.reason,
            });
        }
        for part in self.parts.iter_mut().filter(|part| part.runs_on(link)) {
            let answers = &self.shards.answers;
            self.context.end_failed_attempt(part, failure.clone(), Duration::ZERO, answers)?;
        }
        Ok(())
    }

    /// Handles a message. One that is about no running attempt is discarded; a wrong one, or an
    /// error, ends its attempt.
    fn receive(&mut self, link: usize, message: wire::up::Message) -> Result<(), CoordinatorError> {
        use wire::up::Message;
        let tag = discarded::tag(&message).copied();
        // The shard sends, so it is not stuck.
        self.shards.trust(link);
        let Some(at) = self.parts.iter().position(|part| part.runs_as(link, tag.as_ref())) else {
            return self.shards.discard(link, &message, self.report);
        };
        let failed = match message {
            Message::State(request) => self.answer(link, &request),
            Message::Result(result) => self.accept_result(at, &result),
            Message::Error(error) => Some(self.read_error(link, &error)?),
            Message::Hello(_) => None,
        };
        let Some((step, reason)) = failed else { return Ok(()) };
        self.shards.suspect(link, Suspicion::Wrong);
        let failure = Failure { shard: self.shards.name(link), step, reason };
        let Some(part) = self.parts.get_mut(at) else { return Ok(()) };
        self.context.end_failed_attempt(part, failure, REFUSED_PAUSE, &self.shards.answers)
    }

    /// Answers a state request; returns what is wrong with it, if anything is.
    fn answer(&self, link: usize, request: &wire::StateRequest) -> Option<(Step, String)> {
        if self.context.faults.mutes_state(self.context.block.number()) {
            return None;
        }
        match serve::answer(request, &*self.context.state) {
            // A shard that does not read its answers runs into its deadline.
            Ok(reply) => {
                self.context.telemetry.counts().state_requests.add(1);
                self.shards.send(link, wire::down::Message::State(reply));
                None
            }
            Err(error) => Some((Step::State, format!("a wrong state request: {error}"))),
        }
    }

    /// Stores the result of the part at `at`, which is then done; returns what is wrong with it, if
    /// anything is.
    fn accept_result(&mut self, at: usize, result: &wire::PartResult) -> Option<(Step, String)> {
        let part = self.parts.get_mut(at)?;
        if let Err(reason) = accept(&result.outcomes, &part.places, self.outcomes) {
            return Some((Step::Result, format!("a wrong result: {reason}")));
        }
        self.context.end_span(part, None);
        if let Some(tag) = &result.tag {
            self.shards.answers.end_attempt(tag);
        }
        part.state = PartState::Done;
        None
    }

    /// The step and the reason of an error that a shard reports.
    ///
    /// # Errors
    /// If its watchdog withholds the block from it: then no shard is to execute the block.
    fn read_error(&self, link: usize, error: &wire::PartError) -> Result<(Step, String), CoordinatorError> {
        let reason = error.reason();
        if self.context.poison_after > 0 && reason == wire::part_error::Reason::Quarantined {
            let shard = self.shards.name(link);
            return Err(CoordinatorError::Kept { block: self.context.block.number(), shard });
        }
        Ok((Step::of(reason), format!("{}: {}", reason.as_str_name(), error.detail)))
    }
}
