//! One round of a block over the shards: sends the parts out, answers state requests, takes the
//! outcomes, and dispatches again what is lost.
//!
//! A part is lost when its shard's connection breaks, when its deadline passes, or when the shard
//! reports an error or sends something wrong. It then goes to a connected shard that is not
//! suspect, at once if there is one, else to the first that comes back. The block's deadline bounds
//! it all.

mod dispatch;
mod part;
mod receive;

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::CoordinatorError;
use super::answers::{Answers, SharedView};
use super::beat::Beat;
use super::report::Report;
use super::shards::{Shards, Suspicion};
use super::step::{Failure, Step};
use crate::block::Block;
use crate::deadline::Deadlines;
use crate::faults::Faults;
use crate::net::WorkRef;
use crate::partition::partition;
use crate::process::Stopping;
use crate::telemetry::Telemetry;
use crate::telemetry::counts::Late;
use crate::telemetry::spans::{Open, number};
use crate::vm::{self, ExecutionEnv, TxOutcome};

use part::{Part, PartState};

/// What a round is given and does not change.
pub(super) struct RoundContext<'a> {
    pub(super) block: &'a Block,
    /// Number of the round; 0 is the first, speculative one.
    pub(super) round: u32,
    /// The state that shards read: that before the first transaction and, in later rounds, what is
    /// settled.
    pub(super) state: SharedView,
    /// The block's deadline.
    pub(super) until: Instant,
    pub(super) deadlines: Deadlines,
    pub(super) retries: u32,
    /// After how many shards lost with the same part the block is given up; 0: only its retries
    /// count.
    pub(super) poison_after: u32,
    pub(super) faults: &'a Faults,
    pub(super) stopping: &'a Stopping,
    pub(super) beat: &'a Beat,
    pub(super) telemetry: &'a Telemetry,
    /// The parent span of its parts.
    pub(super) span: Option<&'a Open>,
}

/// A round under way: its parts, and all that they change.
pub(super) struct Round<'a> {
    context: RoundContext<'a>,
    parts: Vec<Part>,
    /// One entry per transaction of the block.
    outcomes: &'a mut [Option<TxOutcome>],
    shards: &'a mut Shards,
    report: &'a mut Report,
}

/// A finished round.
pub(super) struct FinishedRound {
    /// Whether every part came back. A round after the first may be given up: the missing
    /// transactions are then executed in order.
    pub(super) complete: bool,
    /// How many parts were sent out.
    pub(super) parts: usize,
    /// How many dispatches were not the first of their part.
    pub(super) retries: u32,
}

impl<'a> Round<'a> {
    /// Begins a round whose parts are taken from `places` or else from a partition of the whole
    /// block, and whose results will be stored in `outcomes`.
    pub(super) fn begin(
        context: RoundContext<'a>,
        places: Option<Vec<Vec<usize>>>,
        outcomes: &'a mut [Option<TxOutcome>],
        shards: &'a mut Shards,
        report: &'a mut Report,
    ) -> Result<Self, CoordinatorError> {
        shards.begin_round(context.deadlines.block);
        // Shards that are away or stuck get no part: another shard would have to execute it on top
        // of its own.
        let places = places.unwrap_or_else(|| partition(context.block, shards.trusted().max(1)));
        let parts = context.parts(places)?;
        Ok(Self { context, parts, outcomes, shards, report })
    }

    /// Runs the round to its end. `None` if the coordinator was told to stop meanwhile.
    pub(super) fn run(mut self) -> Result<Option<FinishedRound>, CoordinatorError> {
        let answering = self.shards.answers.begin(Arc::clone(&self.context.state));
        let outcome = self.run_until_done();
        drop(answering);
        for part in &self.parts {
            self.context.end_span(part, Some("abandoned with its block"));
        }
        let retries = self.parts.iter().map(|part| part.dispatched.saturating_sub(1)).sum();
        // Shards that still work on an abandoned attempt should stop.
        if retries > 0 || outcome.is_err() {
            self.shards.cancel_round();
        }
        let complete = match outcome {
            Ok(true) => true,
            Ok(false) => return Ok(None),
            // A later round can only save time, so it may fail. But a part that may have taken a
            // shard down is not executed here.
            Err(CoordinatorError::Retries { .. } | CoordinatorError::Deadline { .. })
                if self.context.round > 0 && self.parts.iter().all(|part| part.shards_lost == 0) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Some(FinishedRound { complete, parts: self.parts.len(), retries }))
    }

    /// Runs the round until every part is done. False: told to stop.
    fn run_until_done(&mut self) -> Result<bool, CoordinatorError> {
        let until = self.context.until;
        loop {
            let Some(missing) = self.parts.iter().find(|part| !matches!(part.state, PartState::Done)) else {
                return Ok(true);
            };
            let now = Instant::now();
            if now >= until {
                return Err(self.block_late(missing));
            }
            if self.context.stopping.begun() {
                return Ok(false);
            }
            self.dispatch_due()?;
            let next = self.parts.iter().filter_map(|part| part.next_look(now)).min();
            let event = self.shards.next_event(next.unwrap_or(until).min(until), self.report)?;
            // Each turn of this loop is progress: the loop ends by a deadline of its own, and the
            // block with it.
            self.context.beat.progress();
            if let Some(event) = event {
                self.handle_event(event)?;
            }
            self.give_up_late_parts()?;
        }
    }

    fn block_late(&self, missing: &Part) -> CoordinatorError {
        let (step, reason) = match (&missing.state, &missing.last_failure) {
            (PartState::Running { link, .. }, _) => {
                (Step::Result, format!("{} has not returned it", self.shards.name(*link)))
            }
            (_, Some(Failure { shard, step, reason })) => {
                let reason = format!("{shard} lost it ({step}: {reason}) and no other shard is there");
                (Step::Connect, reason)
            }
            (_, None) => (Step::Connect, format!("no shard is there: {}", self.shards.list_away())),
        };
        CoordinatorError::Deadline {
            block: self.context.block.number(),
            part: missing.number,
            within: self.context.deadlines.block,
            step,
            reason,
        }
    }

    fn give_up_late_parts(&mut self) -> Result<(), CoordinatorError> {
        let now = Instant::now();
        for part in &mut self.parts {
            let PartState::Running { link, until, .. } = part.state else { continue };
            if now < until {
                continue;
            }
            self.shards.suspect(link, Suspicion::Silent(now));
            self.context.telemetry.counts().late(Late::Part).add(1);
            let reason = "no result within its deadline".to_owned();
            let failure = Failure { shard: self.shards.name(link), step: Step::Result, reason };
            self.context.end_failed_attempt(part, failure, Duration::ZERO, &self.shards.answers)?;
        }
        Ok(())
    }
}

impl RoundContext<'_> {
    fn parts(&self, places: Vec<Vec<usize>>) -> Result<Vec<Part>, CoordinatorError> {
        let env = ExecutionEnv::of(self.block);
        let mut parts = Vec::new();
        for (number, places) in places.into_iter().enumerate() {
            if places.is_empty() {
                continue;
            }
            let work = vm::encode(&WorkRef::new(&env, self.block, &places))
                .map_err(|source| CoordinatorError::TooLarge { block: self.block.number(), source })?;
            parts.push(Part::new(number, places, work));
        }
        Ok(parts)
    }

    /// Ends the span of the part's current attempt, if one is under way.
    fn end_span(&self, part: &Part, failed: Option<&str>) {
        let PartState::Running { tag, span, shard, .. } = &part.state else { return };
        let numbers = [
            number("part.number", tag.part.into()),
            number("part.attempt", tag.attempt.into()),
            number("part.transactions", part.places.len() as u64),
        ];
        let mut attributes: Vec<_> = numbers.into_iter().flatten().collect();
        attributes.push(KeyValue::new("part.shard", shard.clone()));
        self.telemetry.tracer().end(*span, "part", attributes, failed.map(str::to_owned));
    }

    /// Ends a failed attempt. The part waits for another one, from `pause` on, unless it has had
    /// all of them.
    fn end_failed_attempt(
        &self,
        part: &mut Part,
        failure: Failure,
        pause: Duration,
        answers: &Answers,
    ) -> Result<(), CoordinatorError> {
        if let PartState::Running { tag, .. } = &part.state {
            answers.end_attempt(tag);
        }
        self.end_span(part, Some(&format!("{}: {}", failure.step, failure.reason)));
        if part.dispatched > self.retries {
            let Failure { shard, step, reason } = failure;
            return Err(CoordinatorError::Retries {
                block: self.block.number(),
                part: part.number,
                attempts: part.dispatched,
                shard,
                step,
                reason,
            });
        }
        part.last_failure = Some(failure);
        part.state = PartState::Waiting(Instant::now() + pause);
        Ok(())
    }
}
