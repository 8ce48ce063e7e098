//! The coordinating thread: takes block after block from the state before it to its report line.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use opentelemetry::KeyValue;
use shard_heartbeat::{Heartbeat, ProcessState, Work};
use shard_telemetry::service_manager::ServiceManager;

use super::beat::Beat;
use super::error::CoordinatorError;
use super::options::{AllVerified, CoordinatorOptions};
use super::quarantine::Quarantine;
use super::report::{BlockLine, Report};
use super::shards::Shards;
use crate::block::Block;
use crate::deadline;
use crate::faults::{Faults, LastWords};
use crate::parallel::Pool;
use crate::process::{self, Stopping};
use crate::sections::{EXECUTING, REPORTING};
use crate::state::State;
use crate::telemetry::counts::{Late, Outcome};
use crate::telemetry::spans::{Open, number};
use crate::warm_up::warm_up;

/// The coordinating thread.
pub(super) struct CoordinatingThread {
    pub(super) options: CoordinatorOptions,
    pub(super) shards: Shards,
    pub(super) quarantine: Quarantine,
    pub(super) report: Report,
    pub(super) faults: Faults,
    pub(super) stopping: Stopping,
    pub(super) manager: Arc<ServiceManager>,
}

/// What becomes of a block: the state after it and its line; `None`: told to stop midway.
pub(super) type Executed = Result<Option<(State, BlockLine)>, CoordinatorError>;

/// How the thread ends other than by a fault.
enum Stop {
    /// A test ordered it to vanish.
    Vanish,
    Error(CoordinatorError),
}

impl<E: Into<CoordinatorError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl CoordinatingThread {
    pub(super) fn run(
        mut self,
        heartbeat: Option<&Heartbeat>,
        done: &Sender<Result<AllVerified, CoordinatorError>>,
    ) {
        let mut words = LastWords::default();
        let registered = heartbeat.map(|heartbeat| heartbeat.register("coord")).transpose();
        let beat = match registered {
            Ok(beat) => Beat(beat),
            Err(error) => {
                // The main thread waits for it, and the channel has room for one.
                let _ = done.try_send(Err(error.into()));
                return;
            }
        };
        // It has no helpers. To the watchdog it is idle meanwhile, in a process that is starting.
        let warmed = warm_up(&Pool::default(), deadline::WARM_UP);
        tracing::info!(%warmed, "warmed up");
        if let Some(heartbeat) = heartbeat {
            heartbeat.set_state(ProcessState::Running);
        }
        process::tell_ready(&self.manager, "the coordinator runs");
        let outcome = match self.all_blocks(&beat, &mut words) {
            Err(Stop::Vanish) => return,
            Err(Stop::Error(error)) => Err(error),
            Ok(all_verified) => Ok(all_verified),
        };
        // The totals are reported however the run ended.
        let told = self.report.end(self.shards.discarded.so_far(), outcome.is_ok());
        beat.leave();
        let _ =
            done.try_send(outcome.and_then(|all_verified| told.map(|()| all_verified).map_err(Into::into)));
    }

    fn all_blocks(&mut self, beat: &Beat, words: &mut LastWords) -> Result<AllVerified, Stop> {
        self.shards.wait_for_first(&mut self.report, &self.stopping)?;
        let blocks = std::mem::take(&mut self.options.blocks);
        let mut round = 0;
        while !self.stopping.begun() && (self.options.repeat == 0 || round < self.options.repeat) {
            let mut previous = None;
            for block in &blocks {
                if self.stopping.begun() {
                    break;
                }
                previous = self.complete_block(block, previous, beat, words)?;
            }
            round += 1;
        }
        // Told to stop with requested blocks left to execute: they must not pass as verified.
        let asked = u64::try_from(blocks.len()).unwrap_or(u64::MAX).saturating_mul(self.options.repeat);
        if self.options.repeat > 0 && self.report.blocks() < asked {
            return Err(CoordinatorError::Stopped { done: self.report.blocks(), asked }.into());
        }
        Ok(self.report.all_verified())
    }

    /// Takes one block from the state before it to its line. `None`: told to stop midway.
    fn complete_block(
        &mut self,
        block: &Arc<Block>,
        previous: Option<State>,
        beat: &Beat,
        words: &mut LastWords,
    ) -> Result<Option<State>, Stop> {
        let span = self.options.telemetry.tracer().root();
        let work = Work::new(block.number()).deadline(self.options.deadlines.block);
        let _working = beat.working(match &span {
            Some(span) => work.trace(span.context()),
            None => work,
        });
        let transactions = block.transactions.len() as u64;
        self.faults
            .point(block.number(), transactions.max(1), beat.0.as_ref(), words)
            .map_err(|_| Stop::Vanish)?;
        let started = Instant::now();
        self.shards.begin_block();
        beat.enter(EXECUTING);
        let done = self.execute(block, previous, beat, span.as_ref());
        beat.enter(REPORTING);
        self.export(block, &done, started, span);
        let Some((state, line)) = done? else { return Ok(None) };
        self.report.block(&line)?;
        self.shards.tell_finished();
        Ok(Some(state))
    }

    /// Exports what a block that has ended adds to the metrics, and its span.
    fn export(&self, block: &Block, done: &Executed, started: Instant, span: Option<Open>) {
        let (outcome, reexecuted, retries) = match done {
            // An order to stop does not count as the end of a block.
            Ok(None) => return,
            Ok(Some((_, line))) => (line.outcome(), line.reexecuted(), line.retries()),
            Err(_) => (Outcome::Failed, 0, 0),
        };
        let telemetry = &self.options.telemetry;
        let transactions = block.transactions.len() as u64;
        let counts = telemetry.counts();
        counts.blocks(outcome).add(1);
        counts.reexecuted.add(reexecuted);
        if outcome == Outcome::Verified {
            counts.transactions.add(transactions);
        }
        if matches!(done, Err(CoordinatorError::Deadline { .. })) {
            counts.late(Late::Block).add(1);
        }
        telemetry.block_took(started.elapsed());
        let numbers = [
            number("block.number", block.number()),
            number("block.transactions", transactions),
            number("block.reexecuted", reexecuted),
            number("block.retries", retries),
        ];
        let mut attributes: Vec<_> = numbers.into_iter().flatten().collect();
        attributes.push(KeyValue::new("block.outcome", outcome.label()));
        let failed = match done {
            Err(error) => Some(error.to_string()),
            Ok(_) if outcome == Outcome::Verified => None,
            Ok(_) => Some("the block is not what its header says".to_owned()),
        };
        telemetry.tracer().end(span, "block", attributes, failed);
    }
}
