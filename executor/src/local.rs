//! Executes a block from start to end in one process, without a network: in order on the calling
//! thread, or in parts on separate threads.
//!
//! No wait is unbounded. If a part is late or its thread is gone, its transactions are executed in
//! block order like any others without an outcome: slower, but not wrong.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::warn;

use crate::block::Block;
use crate::parallel::{self, Batch, Picked, Pool};
use crate::partition::partition;
use crate::report::BlockReport;
use crate::state::State;
use crate::validate::{self, BlockResult, ValidateError};
use crate::vm::{ExecutionEnv, Overlay, PartRun, TxOutcome, VmError};
use crate::warm_up::{WarmedUp, warm_up};

/// How long a part may take. A mainnet block's 30 million gas takes well under a second, so this
/// only has to be longer than anything that ends by itself.
const PART_DEADLINE: Duration = Duration::from_secs(30);

/// The default number of rounds in which shards execute a block: the speculative one, and one more
/// for what turns out stale. A third finds hardly anything that the second did not.
pub const ROUNDS: u32 = 2;

/// How long idle threads get to notice that they are no longer needed.
const FAREWELL: Duration = Duration::from_millis(500);

/// Executes blocks one after the other.
#[derive(Debug)]
pub struct Local {
    workers: Vec<Worker>,
    /// Helpers of the calling thread, if the block is not split into parts.
    pool: Pool,
    rounds: u32,
}

impl Local {
    /// With one shard there is no speculation and no extra thread: the sequential reference. With
    /// more, one thread each.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn new(shards: usize) -> io::Result<Self> {
        Self::with_threads(shards, 1)
    }

    /// Starts this many shards with this many threads each. One shard executes the whole block on
    /// its threads, in block order; several execute parts, which are then validated in block order.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn with_threads(shards: usize, threads: usize) -> io::Result<Self> {
        if shards > 1 {
            let workers = (0..shards).map(|index| Worker::start(index, threads)).collect::<Result<_, _>>()?;
            return Ok(Self { workers, pool: Pool::default(), rounds: ROUNDS });
        }
        Ok(Self { workers: Vec::new(), pool: Pool::start(&name(0), threads, || None)?, rounds: ROUNDS })
    }

    /// Limits the rounds in which several shards execute a block. What is stale after the last
    /// round is executed in order. The default is [`ROUNDS`].
    #[must_use]
    pub fn with_rounds(self, rounds: u32) -> Self {
        Self { rounds, ..self }
    }

    /// Does the one-time work of a first block in advance, on every thread that will execute. No
    /// step begins after `within`.
    pub fn warm_up(&self, within: Duration) -> WarmedUp {
        let until = Instant::now() + within;
        let replies: Vec<_> = self.workers.iter().map(|worker| worker.warm_up(within)).collect();
        let mut done = warm_up(&self.pool, within);
        for reply in replies.into_iter().flatten() {
            // If a worker is late or gone, the first block will detect it, with a deadline.
            if let Ok(warmed) = reply.recv_deadline(until.max(Instant::now() + FAREWELL)) {
                done.threads += warmed.threads;
                done.took = done.took.max(warmed.took);
            }
        }
        done
    }

    /// Executes `block` on its own `pre` or on `previous`. Returns the state after the block even
    /// if there is a mismatch; `progress` is called after every transaction settled in block order.
    ///
    /// # Errors
    /// If the block cannot be executed to its end.
    pub fn run(
        &self,
        block: &Arc<Block>,
        previous: Option<State>,
        progress: &dyn Fn(),
    ) -> Result<(BlockReport, State), ValidateError> {
        let started = Instant::now();
        let state = validate::open(block, previous)?;
        let (result, state) = self.execute(block, state, progress)?;
        let took = started.elapsed();
        Ok((BlockReport::new(&result, took, state.digest()), state))
    }

    /// Like [`Self::run`], but starts from the state that [`validate::open`] made and returns the
    /// full result.
    ///
    /// # Errors
    /// If the block cannot be executed to its end.
    pub fn execute(
        &self,
        block: &Arc<Block>,
        state: State,
        progress: &dyn Fn(),
    ) -> Result<(BlockResult, State), ValidateError> {
        if !self.pool.is_empty() {
            return validate::run_parallel(
                &self.pool,
                block,
                state,
                progress,
                Instant::now() + PART_DEADLINE,
            );
        }
        let (mut state, speculated) = self.speculate(block, state);
        let result = validate::run_in_order(block, &mut state, speculated, progress)?;
        Ok((result, state))
    }

    /// Runs the rounds of a block on the workers.
    fn speculate(&self, block: &Arc<Block>, state: State) -> (State, Vec<Option<TxOutcome>>) {
        if self.workers.is_empty() {
            return (state, Vec::new());
        }
        let before = Arc::new(state);
        let mut outcomes: Vec<Option<TxOutcome>> = vec![None; block.transactions.len()];
        let mut parts = partition(block, self.workers.len());
        let mut state = Overlay::new(&ExecutionEnv::of(block), Arc::clone(&before));
        for round in 1..=self.rounds {
            self.round(block, state, parts, &mut outcomes);
            if round == self.rounds {
                break;
            }
            let Some(again) = validate::again(block, Arc::clone(&before), &outcomes, self.workers.len())
            else {
                break;
            };
            validate::Again { state, parts } = again;
        }
        // This clones only if a late worker still reads the state.
        (Arc::unwrap_or_clone(before), outcomes)
    }

    /// Gives each worker a part and collects the outcomes that arrive in time.
    fn round(
        &self,
        block: &Arc<Block>,
        state: Overlay<Arc<State>>,
        parts: Vec<Vec<usize>>,
        outcomes: &mut [Option<TxOutcome>],
    ) {
        let state = Arc::new(state);
        for index in parts.iter().flatten() {
            if let Some(place) = outcomes.get_mut(*index) {
                *place = None;
            }
        }
        let replies: Vec<_> = parts
            .into_iter()
            .zip(&self.workers)
            .filter(|(part, _)| !part.is_empty())
            .map(|(part, worker)| (worker, worker.give(block, &state, part)))
            .collect();
        let deadline = Instant::now() + PART_DEADLINE;
        for (worker, reply) in replies {
            let Some(done) = reply.and_then(|reply| reply.recv_deadline(deadline).ok()) else {
                warn!(
                    thread = worker.name,
                    block = block.number(),
                    "part lost or late, executed in order instead"
                );
                continue;
            };
            for outcome in done {
                if let Some(place) = outcomes.get_mut(outcome.index as usize) {
                    *place = Some(outcome);
                }
            }
        }
    }
}

/// An order to a worker. Dropping it unanswered, for instance in a panic, is an answer too: the
/// reply channel closes.
enum Order {
    Execute(Job),
    WarmUp { within: Duration, reply: Sender<WarmedUp> },
}

/// A part to execute.
struct Job {
    block: Arc<Block>,
    /// The state before the block, with the transactions settled so far applied.
    state: Arc<Overlay<Arc<State>>>,
    part: Vec<usize>,
    reply: Sender<Vec<TxOutcome>>,
}

#[derive(Debug)]
struct Worker {
    name: String,
    /// `None` only while the worker is being dropped.
    jobs: Option<Sender<Order>>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(index: usize, threads: usize) -> io::Result<Self> {
        let name = name(index);
        let pool = Pool::start(&name, threads, || None)?;
        // One job at a time: a worker that is late with one gets no second job.
        let (jobs, queue) = bounded(1);
        let thread = thread::Builder::new().name(name.clone()).spawn(move || work(&queue, &pool))?;
        Ok(Self { name, jobs: Some(jobs), thread })
    }

    /// `None` if the worker is gone or still busy with an earlier block.
    fn give(
        &self,
        block: &Arc<Block>,
        state: &Arc<Overlay<Arc<State>>>,
        part: Vec<usize>,
    ) -> Option<Receiver<Vec<TxOutcome>>> {
        let (reply, done) = bounded(1);
        let job = Job { block: Arc::clone(block), state: Arc::clone(state), part, reply };
        self.jobs.as_ref()?.try_send(Order::Execute(job)).ok()?;
        Some(done)
    }

    /// `None` if the worker is gone or busy.
    fn warm_up(&self, within: Duration) -> Option<Receiver<WarmedUp>> {
        let (reply, done) = bounded(1);
        self.jobs.as_ref()?.try_send(Order::WarmUp { within, reply }).ok()?;
        Some(done)
    }
}

/// The kernel stores at most 15 bytes of a thread's name.
fn name(index: usize) -> String {
    format!("exec-s{index}")
}

fn work(queue: &Receiver<Order>, pool: &Pool) {
    for order in queue {
        let Job { block, state, part, reply } = match order {
            Order::Execute(job) => job,
            Order::WarmUp { within, reply } => {
                // The channel has room for its one answer; perhaps nobody waits for it any more.
                let _ = reply.try_send(warm_up(pool, within));
                continue;
            }
        };
        let env = ExecutionEnv::of(&block);
        let batch: Arc<dyn Batch> = Arc::new(Picked { block: Arc::clone(&block), positions: part });
        let until = Instant::now() + PART_DEADLINE;
        let (mut go_on, mut progress) = (|| Ok::<(), VmError>(()), || {});
        let mut settling = PartRun::new(&env, &batch, Arc::clone(&state), &mut go_on, &mut progress);
        match parallel::run(pool, &env, &batch, &state, &mut settling, until) {
            Ok(_) => {
                let outcomes = settling.into_outcomes();
                // Releases the state before the answer wakes a thread that wants to change it.
                drop(state);
                // The channel has room for its one answer; perhaps nobody waits for it any more.
                let _ = reply.try_send(outcomes);
            }
            Err(error) => warn!(block = block.number(), %error, "part given up, executed in order instead"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let deadline = Instant::now() + FAREWELL;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if !self.thread.is_finished() {
            warn!(thread = self.name, "thread does not end; leaving it behind");
        }
    }
}
