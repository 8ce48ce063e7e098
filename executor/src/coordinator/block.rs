//! One block: its rounds over the shards and the rest in order; if deadly, without any shard.

use std::sync::Arc;
use std::time::Instant;

use super::answers::SharedView;
use super::beat::Beat;
use super::error::CoordinatorError;
use super::quarantine::Known;
use super::report::{BlockLine, Shared};
use super::round::{FinishedRound, Round, RoundContext};
use super::sacrifice;
use super::thread::{CoordinatingThread, Executed};
use crate::block::Block;
use crate::state::State;
use crate::telemetry::spans::{Open, number};
use crate::validate::{self, Again};
use crate::vm::TxOutcome;

impl CoordinatingThread {
    /// Runs the block's rounds: over the shards, then in order.
    pub(super) fn execute(
        &mut self,
        block: &Arc<Block>,
        previous: Option<State>,
        beat: &Beat,
        span: Option<&Open>,
    ) -> Executed {
        let tracer = self.options.telemetry.tracer().clone();
        let deadlines = self.options.deadlines;
        let started = Instant::now();
        let state = validate::open(block, previous)?;
        match self.quarantine.knows(block).cloned() {
            Some(Known::Deadly(how)) => return Err(self.poison(block, how)),
            Some(Known::InOrder) => return self.in_order(block, state, started, beat),
            None => {}
        }
        let shared = Arc::new(state);
        let task = BlockTask { block, until: started + deadlines.block, beat, span };
        let speculated = self.over_shards(&task, &shared);
        // Copied only if a network thread still answers from it.
        let mut state = Arc::unwrap_or_clone(shared);
        let speculated = match speculated {
            Err(killed @ (CoordinatorError::Killed { .. } | CoordinatorError::Kept { .. })) => {
                return self.sacrifice(block, state, started, &killed, beat);
            }
            speculated => speculated?,
        };
        let Some(Speculated { outcomes, rounds, parts, retries }) = speculated else { return Ok(None) };
        let round = tracer.child(span);
        let result = validate::run_in_order(block, &mut state, outcomes, &|| beat.progress());
        let failed = result.as_ref().err().map(ToString::to_string);
        tracer.end(round, "round", number("round.number", rounds.into()).into_iter().collect(), failed);
        let result = result?;
        let shared = Shared { parts, rounds, retries };
        let line = BlockLine::new(&result, started.elapsed(), state.digest(), shared);
        Ok(Some((state, line)))
    }

    /// Runs the block's rounds over the shards: the speculative one, and others for what turned out
    /// stale. `None`: told to stop midway.
    fn over_shards(
        &mut self,
        task: &BlockTask<'_>,
        before: &Arc<State>,
    ) -> Result<Option<Speculated>, CoordinatorError> {
        let mut so_far = Speculated::new(task.block);
        let mut state: SharedView = Arc::clone(before) as SharedView;
        let mut places: Option<Vec<Vec<usize>>> = None;
        loop {
            if let Some(places) = &places {
                let sent = so_far.clear(places);
                self.options.telemetry.counts().again.add(sent);
            }
            let round = self.one_round(task, &state, places.take(), &mut so_far)?;
            let Some(finished) = round else { return Ok(None) };
            so_far.add(&finished);
            if so_far.rounds >= self.options.rounds || !finished.complete {
                return Ok(Some(so_far));
            }
            task.beat.progress();
            let again =
                validate::again(task.block, Arc::clone(before), &so_far.outcomes, self.shards.trusted());
            let Some(Again { state: settled, parts }) = again else { return Ok(Some(so_far)) };
            state = Arc::new(settled);
            places = Some(parts);
        }
    }

    /// Runs one round on `state`, in a span of its own. `places`: its parts, if they are already
    /// known.
    fn one_round(
        &mut self,
        task: &BlockTask<'_>,
        state: &SharedView,
        places: Option<Vec<Vec<usize>>>,
        so_far: &mut Speculated,
    ) -> Result<Option<FinishedRound>, CoordinatorError> {
        let telemetry = &self.options.telemetry;
        let span = telemetry.tracer().child(task.span);
        let context = RoundContext {
            block: task.block,
            round: so_far.rounds,
            state: Arc::clone(state),
            until: task.until,
            deadlines: self.options.deadlines,
            retries: self.options.retries,
            poison_after: self.options.poison_after,
            faults: &self.faults,
            stopping: &self.stopping,
            beat: task.beat,
            telemetry,
            span: span.as_ref(),
        };
        let outcomes = &mut so_far.outcomes;
        let finished =
            Round::begin(context, places, outcomes, &mut self.shards, &mut self.report).and_then(Round::run);
        let failed = finished.as_ref().err().map(ToString::to_string);
        let attributes = number("round.number", so_far.rounds.into()).into_iter().collect();
        telemetry.tracer().end(span, "round", attributes, failed);
        finished
    }
}

/// A block that is to be run over the shards.
struct BlockTask<'a> {
    block: &'a Block,
    /// The block's deadline.
    until: Instant,
    beat: &'a Beat,
    /// The parent span of its rounds.
    span: Option<&'a Open>,
}

/// The shards' results for a block.
struct Speculated {
    /// One entry per transaction; the coordinator executes those that are `None`.
    outcomes: Vec<Option<TxOutcome>>,
    /// In how many rounds.
    rounds: u32,
    /// How many parts were sent out, in all rounds.
    parts: usize,
    /// How many dispatches were not the first of their part.
    retries: u32,
}

impl Speculated {
    fn new(block: &Block) -> Self {
        Self { outcomes: vec![None; block.transactions.len()], rounds: 0, parts: 0, retries: 0 }
    }

    fn add(&mut self, round: &FinishedRound) {
        self.rounds += 1;
        self.parts += round.parts;
        self.retries += round.retries;
    }

    /// Drops the outcomes of the transactions at `places`; returns how many transactions those are.
    fn clear(&mut self, places: &[Vec<usize>]) -> u64 {
        for at in places.iter().flatten() {
            if let Some(place) = self.outcomes.get_mut(*at) {
                *place = None;
            }
        }
        places.iter().map(Vec::len).sum::<usize>() as u64
    }
}

impl CoordinatingThread {
    /// Called after shards were lost with the block, one after the other, or one more than once:
    /// tries the block in a process of its own, and records the outcome.
    fn sacrifice(
        &mut self,
        block: &Arc<Block>,
        state: State,
        started: Instant,
        killed: &CoordinatorError,
        beat: &Beat,
    ) -> Executed {
        self.report.quarantined(block.number(), &block.hash.to_string(), &killed.to_string())?;
        self.options.telemetry.counts().quarantined.add(1);
        let arm = self.faults.sacrifice_point(block.number());
        let stopping = self.stopping.clone();
        let mut still = || {
            beat.progress();
            !stopping.begun()
        };
        let ended = sacrifice::run(block, &state, self.options.deadlines.block, arm, &mut still)
            .map_err(|source| CoordinatorError::Sacrifice { block: block.number(), source })?;
        match ended {
            sacrifice::Ended::Unwanted => Ok(None),
            sacrifice::Ended::Survived => {
                self.quarantine.add(block, Known::InOrder)?;
                self.in_order(block, state, started, beat)
            }
            sacrifice::Ended::Died(how) => {
                self.quarantine.add(block, Known::Deadly(how.clone()))?;
                Err(self.poison(block, how))
            }
        }
    }

    fn poison(&self, block: &Block, how: String) -> CoordinatorError {
        let forget = match &self.options.quarantine {
            Some(path) => format!("to try it again, remove its line from {}", path.display()),
            None => "a restart of the coordinator would try it again: give --quarantine a file".to_owned(),
        };
        CoordinatorError::Poison { block: block.number(), hash: block.hash, how, forget }
    }

    /// Executes a block that no shard may execute: in order, on this thread.
    fn in_order(&self, block: &Arc<Block>, mut state: State, started: Instant, beat: &Beat) -> Executed {
        let result = validate::run_in_order(block, &mut state, Vec::new(), &|| beat.progress())?;
        let line = BlockLine::new(&result, started.elapsed(), state.digest(), Shared::default());
        Ok(Some((state, line)))
    }
}
