//! The coordinator: splits each block over the shards, keeps the state they read, puts what they return in block order.
//!
//! One plain thread, `coord`, does all of that; the async runtime's `net-coord` threads only hold the connections and
//! pass on what arrives. Every wait of `coord` ends by a deadline, and so does every block: verified, wrong, or with an
//! error that names block, part, shard and reason.

mod block_run;
mod discarded;
mod link;
mod links;
mod out;
mod quarantine;
mod report;
mod sacrifice;
mod serve;
mod step;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use opentelemetry::KeyValue;
use shard_heartbeat::{
    CreateError, Heartbeat, ProcessState, RegisterError, SegmentOptions, ThreadBeat, WatchdogMonitor, Work,
    WorkGuard,
};
use tokio::runtime::Runtime;

use crate::block::{Block, BlockError};
use crate::deadline::{self, Deadlines};
use crate::faults::{self, Faults, LastWords, Order, OrderError, PortError, ProcessFault, Role};
use crate::guard::{self, Guard};
use crate::process::{self, Stopping};
use crate::telemetry::Telemetry;
use crate::telemetry::counts::{Late, Outcome, Useless};
use crate::telemetry::spans::{Open, number};
use crate::validate::{self, ValidateError};

use block_run::BlockRun;
use links::Links;
use quarantine::{Known, Quarantine};
use report::{BlockLine, Report};

pub use quarantine::QuarantineError;
pub use step::Step;

/// Threads of the async runtime: decoding results in parallel with passing on state requests is all there is to do.
const NET_THREADS: usize = 2;

/// How a coordinator is to run.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// Addresses of the shards.
    pub shards: Vec<String>,
    /// What to execute, in this order.
    pub blocks: Vec<Arc<Block>>,
    /// Its heartbeat segment; `None`: it has none.
    pub heartbeat: Option<PathBuf>,
    /// What every wait is bounded by.
    pub deadlines: Deadlines,
    /// How often a part may be dispatched again.
    pub retries: u32,
    /// After how many shards lost with a block, two of them with the same part, it is kept from shards; 0: never.
    pub poison_after: u32,
    /// Where blocks that are kept from shards are remembered; `None`: nowhere.
    pub quarantine: Option<PathBuf>,
    /// How often to run all blocks; 0: until told to stop.
    pub repeat: u64,
    /// One JSON object a line instead of lines for people.
    pub json: bool,
    /// Where tests order faults; `None`: nowhere.
    pub faults: Option<SocketAddr>,
    /// What is armed from the start; only together with `faults`.
    pub arm: Vec<Order>,
    /// How it tells what it does.
    pub telemetry: Telemetry,
}

/// Why a coordinator gave up. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// No heartbeat.
    #[error(
        "cannot create the heartbeat: {0}. Give --heartbeat a path in a folder that this user may write to, such as /run or /dev/shm, and that no running process uses"
    )]
    Heartbeat(#[from] CreateError),
    /// Told to stop before it was done.
    #[error("told to stop after {done} of {asked} blocks; the others were not executed")]
    Stopped {
        /// Blocks that were executed.
        done: u64,
        /// Blocks that were asked for.
        asked: u64,
    },
    /// No slot in the heartbeat.
    #[error("cannot register in the heartbeat: {0}")]
    Register(#[from] RegisterError),
    /// No fault port.
    #[error(transparent)]
    Faults(#[from] PortError),
    /// A fault that cannot be armed.
    #[error("--arm: {0}")]
    Arm(#[from] OrderError),
    /// A block that has nothing to stand on.
    #[error(transparent)]
    Block(BlockError),
    /// No thread or runtime.
    #[error(
        "cannot start the {what}: {source}. The limit on threads or descriptors is probably reached (ulimit -u, ulimit -n)"
    )]
    Start {
        /// What did not start.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody to work with.
    #[error(
        "no shard could be reached within {within:?}: {tried}. Start one with `shard-executor shard --listen ADDR …`, or correct --shards"
    )]
    NoShard {
        /// How long it tried.
        within: std::time::Duration,
        /// Each address and what became of it.
        tried: String,
    },
    /// A part that nobody executed.
    #[error(
        "block {block}, part {part}: given up after {attempts} attempts, last on {shard} at step {step}: {reason}. See why that shard fails, allow more with --retries, or more time with --block-deadline"
    )]
    Retries {
        /// The block.
        block: u64,
        /// Which part of it.
        part: usize,
        /// How often it was dispatched.
        attempts: u32,
        /// Where it failed last.
        shard: String,
        /// At which step it failed last.
        step: Step,
        /// How it failed last.
        reason: String,
    },
    /// A part that took every shard down that executed it. The block is tried once more, by a process of its own; it is an
    /// end only if that cannot be done.
    #[error("block {block}, part {part}: {lost} shards were lost with it, the last {shard}: {reason}")]
    Killed {
        /// The block.
        block: u64,
        /// Which part of it.
        part: usize,
        /// How many shards.
        lost: u32,
        /// The last of them.
        shard: String,
        /// How its loss was noticed.
        reason: String,
    },
    /// A block that ends whatever executes it.
    #[error(
        "block {block} ({hash}) ends whatever executes it: a process of its own ended with {how} after shards had been lost with it, and no shard executes it again. Look into the block and that end; {forget}"
    )]
    Poison {
        /// The block.
        block: u64,
        /// Its hash.
        hash: revm::primitives::B256,
        /// How the process that tried it last ended.
        how: String,
        /// How to try it again.
        forget: String,
    },
    /// The process that tries a block alone cannot be started.
    #[error(
        "block {block}: shards were lost with it, and no process can be started to try it alone: {source}. See whether the folder for temporary files is full and the limit on processes reached"
    )]
    Sacrifice {
        /// The block.
        block: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The file of blocks that are kept from shards.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// A block that took too long, retries included.
    #[error(
        "block {block}: not executed within {within:?}; part {part} is missing at step {step}: {reason}. See why the shards are slow or away, or allow more with --block-deadline"
    )]
    Deadline {
        /// The block.
        block: u64,
        /// The first part that is missing.
        part: usize,
        /// The deadline.
        within: std::time::Duration,
        /// The step that it waited for.
        step: Step,
        /// What it waited for, and from which shard.
        reason: String,
    },
    /// A block that cannot be executed, by shards or without.
    #[error("{0}. Check that the block's file is complete")]
    NotExecuted(ValidateError),
    /// The parts of a block are too large to send.
    #[error("block {block}: a part cannot be sent: {source}. Use more shards, so that parts are smaller")]
    TooLarge {
        /// The block.
        block: u64,
        /// Why.
        source: crate::vm::CodecError,
    },
    /// Nobody reads what is reported.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl CoordinatorError {
    /// Whether the input is at fault, as opposed to shards, network or machine.
    pub const fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Heartbeat(_)
                | Self::Register(_)
                | Self::Faults(_)
                | Self::Arm(_)
                | Self::Block(_)
                | Self::Quarantine(_)
        )
    }
}

/// Whether every block came out as its header says.
pub type AllVerified = bool;

/// Runs a coordinator to its end. It must be called on the main thread.
pub fn run(options: CoordinatorOptions) -> Result<AllVerified, CoordinatorError> {
    let heartbeat = match &options.heartbeat {
        Some(path) => Some(Heartbeat::create(path, &SegmentOptions::new("coordinator"))?),
        None => None,
    };
    let (to_main, process_faults) = crossbeam_channel::bounded(1);
    let faults = Faults::inert(Role::Coordinator, to_main);
    faults.obey_all(&options.arm)?;
    process::end_on_panic(heartbeat.clone(), faults.clone());
    let coordinator = Coordinator::start(options, heartbeat.clone(), &faults);
    let outcome = coordinator.and_then(|coordinator| coordinator.wait(&process_faults));
    if let (Err(_), Some(heartbeat)) = (&outcome, &heartbeat) {
        heartbeat.set_state(ProcessState::Failed);
    }
    outcome
}

struct Coordinator {
    heartbeat: Option<Heartbeat>,
    faults: Faults,
    stopping: Stopping,
    thread: JoinHandle<()>,
    runtime: Runtime,
    signals: Receiver<()>,
    telemetry: Telemetry,
    discarded: Arc<AtomicU64>,
    done: Receiver<Result<AllVerified, CoordinatorError>>,
}

impl Coordinator {
    fn start(
        options: CoordinatorOptions,
        heartbeat: Option<Heartbeat>,
        faults: &Faults,
    ) -> Result<Self, CoordinatorError> {
        let failed = |what| move |source| CoordinatorError::Start { what, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NET_THREADS)
            .thread_name("net-coord")
            .enable_all()
            .build()
            .map_err(failed("network threads"))?;
        let (signalled, signals) = crossbeam_channel::bounded(1);
        process::forward_signals(runtime.handle(), signalled).map_err(failed("signal handlers"))?;
        if let Some(address) = options.faults {
            let bound = faults::serve(runtime.handle(), address, faults.clone())?;
            tracing::info!(%bound, "faults can be armed");
        }
        let telemetry = options.telemetry.clone();
        let links = Links::open(
            runtime.handle(),
            &options.shards,
            incarnation(heartbeat.as_ref()),
            telemetry.counts(),
        );
        let discarded = links.discarded.total();
        let total = Arc::clone(&discarded);
        faults.tell_counters(move || format!("discarded={}", total.load(Ordering::Relaxed)));
        let quarantine = Quarantine::open(options.quarantine.as_deref())?;
        let stopping = Stopping::default();
        let (report_done, done) = crossbeam_channel::bounded(1);
        let thread = Coord {
            links,
            quarantine,
            report: Report::start(options.json).map_err(failed("report's thread"))?,
            options,
            faults: faults.clone(),
            stopping: stopping.clone(),
        };
        let thread = {
            let heartbeat = heartbeat.clone();
            let body = move || thread.run(heartbeat.as_ref(), &report_done);
            std::thread::Builder::new()
                .name("coord".to_owned())
                .spawn(body)
                .map_err(failed("coordinating thread"))?
        };
        Ok(Self {
            heartbeat,
            faults: faults.clone(),
            stopping,
            thread,
            runtime,
            signals,
            telemetry,
            discarded,
            done,
        })
    }

    /// Waits for the work's end or the order to stop, looking round all the time.
    fn wait(self, process_faults: &Receiver<ProcessFault>) -> Result<AllVerified, CoordinatorError> {
        let mut watchdog = self.heartbeat.as_ref().map(WatchdogMonitor::new);
        loop {
            let age = watchdog.as_mut().and_then(WatchdogMonitor::age);
            self.telemetry.counts().set_watchdog_age(age);
            self.count();
            let watched = guard::is_watched(age);
            crossbeam_channel::select! {
                recv(self.done) -> outcome => match outcome {
                    Ok(outcome) => {
                        self.end();
                        return outcome;
                    }
                    // It ended without a word.
                    Err(_) if self.faults.thread_loss_ends_process() => self.lose_thread(watched),
                    // It was ordered to, and the process must live on without it, for a watchdog to find.
                    Err(_) => std::thread::sleep(deadline::LOOK_ROUND),
                },
                recv(self.signals) -> signal => match signal {
                    Ok(()) => self.begin_to_stop(),
                    Err(_) => std::thread::sleep(deadline::LOOK_ROUND),
                },
                recv(process_faults) -> fault => match fault {
                    Ok(ProcessFault::LeaderExit) => {
                        faults::announce(faults::Kind::LeaderExit);
                        process::end_this_thread();
                    }
                    Ok(ProcessFault::ExitHang) => self.hang_in_exit(),
                    Err(_) => std::thread::sleep(deadline::LOOK_ROUND),
                },
                default(deadline::LOOK_ROUND) => {}
            }
        }
    }

    /// Takes what others count over into what is told.
    fn count(&self) {
        let discarded = self.discarded.load(Ordering::Relaxed);
        self.telemetry.counts().useless(Useless::Stale).set(discarded);
    }

    fn lose_thread(self, watched: bool) -> ! {
        let mut guard = Guard::default();
        guard.keep(self.thread);
        let until = Instant::now() + deadline::STOP;
        // Its end of the queue is gone, so it is about to end itself.
        let lost = loop {
            match guard.lost() {
                Some(lost) => break lost,
                None if Instant::now() >= until => process::end_now(guard::THREAD_LOST),
                None => std::thread::sleep(process::JOIN_LOOK),
            }
        };
        guard::end(&lost, self.heartbeat.as_ref(), watched, |_| {})
    }

    fn begin_to_stop(&self) {
        process::end_after(deadline::STOP_AT_LAST, process::STOP_HUNG);
        self.mark_stopping();
    }

    fn mark_stopping(&self) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.set_state(ProcessState::Stopping);
        }
        self.stopping.begin();
    }

    fn end(self) {
        process::end_after(deadline::STOP_AT_LAST, process::STOP_HUNG);
        self.mark_stopping();
        self.count();
        process::join_all(vec![self.thread]);
        self.runtime.shutdown_timeout(deadline::LOOK_ROUND);
    }

    #[expect(clippy::disallowed_methods, reason = "it is what was ordered: a process that never ends")]
    fn hang_in_exit(&self) {
        self.mark_stopping();
        faults::announce(faults::Kind::ExitHang);
        loop {
            std::thread::park();
        }
    }
}

/// What names this life of the process to the shards.
fn incarnation(heartbeat: Option<&Heartbeat>) -> u64 {
    heartbeat.map_or_else(
        || {
            let since =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        },
        Heartbeat::incarnation,
    )
}

/// The thread's place in the heartbeat, if there is one.
struct Beat(Option<ThreadBeat>);

impl Beat {
    fn working(&self, work: Work) -> Option<WorkGuard<'_>> {
        self.0.as_ref().map(|beat| beat.working(work))
    }

    fn progress(&self) {
        if let Some(beat) = &self.0 {
            beat.progress();
        }
    }

    fn leave(self) {
        if let Some(beat) = self.0 {
            beat.leave();
        }
    }
}

/// The coordinating thread.
struct Coord {
    options: CoordinatorOptions,
    links: Links,
    quarantine: Quarantine,
    report: Report,
    faults: Faults,
    stopping: Stopping,
}

/// How the thread comes to its end other than by a fault.
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

impl Coord {
    fn run(mut self, heartbeat: Option<&Heartbeat>, done: &Sender<Result<AllVerified, CoordinatorError>>) {
        let mut words = LastWords::default();
        let registered = heartbeat.map(|heartbeat| heartbeat.register("coord")).transpose();
        let beat = match registered {
            Ok(beat) => Beat(beat),
            Err(error) => {
                // The main thread waits for it and has room for one.
                let _ = done.try_send(Err(error.into()));
                return;
            }
        };
        if let Some(heartbeat) = heartbeat {
            heartbeat.set_state(ProcessState::Running);
        }
        let outcome = match self.all_blocks(&beat, &mut words) {
            Err(Stop::Vanish) => return,
            Err(Stop::Error(error)) => Err(error),
            Ok(all_verified) => Ok(all_verified),
        };
        // The totals are told however it ended.
        let told = self.report.end(self.links.discarded.so_far(), outcome.is_ok());
        beat.leave();
        let _ =
            done.try_send(outcome.and_then(|all_verified| told.map(|()| all_verified).map_err(Into::into)));
    }

    fn all_blocks(&mut self, beat: &Beat, words: &mut LastWords) -> Result<AllVerified, Stop> {
        self.links.wait_for_first(&mut self.report, &self.stopping)?;
        let blocks = std::mem::take(&mut self.options.blocks);
        let mut round = 0;
        while !self.stopping.begun() && (self.options.repeat == 0 || round < self.options.repeat) {
            let mut previous = None;
            for block in &blocks {
                if self.stopping.begun() {
                    break;
                }
                previous = self.block(block, previous, beat, words)?;
            }
            round += 1;
        }
        // Told to stop with blocks left that were asked for: nobody may take those for verified.
        let asked = u64::try_from(blocks.len()).unwrap_or(u64::MAX).saturating_mul(self.options.repeat);
        if self.options.repeat > 0 && self.report.blocks() < asked {
            return Err(CoordinatorError::Stopped { done: self.report.blocks(), asked }.into());
        }
        Ok(self.report.all_verified())
    }

    /// One block, from the state before it to its line. `None`: it was told to stop in the middle.
    fn block(
        &mut self,
        block: &Arc<Block>,
        previous: Option<crate::state::State>,
        beat: &Beat,
        words: &mut LastWords,
    ) -> Result<Option<crate::state::State>, Stop> {
        let telemetry = self.options.telemetry.clone();
        let span = telemetry.tracer().root();
        let deadlines = self.options.deadlines;
        let work = Work::new(block.number()).deadline(deadlines.block);
        let _working = beat.working(match &span {
            Some(span) => work.trace(span.context()),
            None => work,
        });
        let transactions = block.transactions.len() as u64;
        self.faults
            .point(block.number(), transactions.max(1), beat.0.as_ref(), words)
            .map_err(|_| Stop::Vanish)?;
        let started = Instant::now();
        let done = self.execute(block, previous, beat, span.as_ref());
        // Told to stop is no end of a block.
        let ended = match &done {
            Ok(None) => None,
            Ok(Some((_, line))) => Some((line.outcome(), line.reexecuted(), line.retries())),
            Err(_) => Some((Outcome::Failed, 0, 0)),
        };
        if let Some((outcome, reexecuted, retries)) = ended {
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
            let failed = match &done {
                Err(error) => Some(error.to_string()),
                Ok(_) if outcome == Outcome::Verified => None,
                Ok(_) => Some("the block is not what its header says".to_owned()),
            };
            telemetry.tracer().end(span, "block", attributes, failed);
        }
        let Some((state, line)) = done? else { return Ok(None) };
        self.report.block(&line)?;
        Ok(Some(state))
    }

    /// The block's rounds: over the shards, then in order.
    fn execute(
        &mut self,
        block: &Arc<Block>,
        previous: Option<crate::state::State>,
        beat: &Beat,
        span: Option<&Open>,
    ) -> Result<Option<(crate::state::State, BlockLine)>, CoordinatorError> {
        let tracer = self.options.telemetry.tracer().clone();
        let deadlines = self.options.deadlines;
        let started = Instant::now();
        let mut state = validate::open(block, previous).map_err(not_executed)?;
        match self.quarantine.knows(block).cloned() {
            Some(Known::Deadly(how)) => return Err(self.poison(block, how)),
            Some(Known::InOrder) => return self.in_order(block, state, started, beat),
            None => {}
        }
        let round = tracer.child(span);
        let run = BlockRun {
            block,
            state: &state,
            deadlines,
            retries: self.options.retries,
            poison_after: self.options.poison_after,
            faults: &self.faults,
            stopping: &self.stopping,
            beat,
            telemetry: &self.options.telemetry,
            round: round.as_ref(),
        };
        let speculated = run.execute(&mut self.links, &mut self.report);
        let failed = speculated.as_ref().err().map(ToString::to_string);
        tracer.end(round, "round", vec![KeyValue::new("round.number", 0)], failed);
        let speculated = match speculated {
            Err(killed @ CoordinatorError::Killed { .. }) => {
                return self.sacrifice(block, state, started, &killed, beat);
            }
            speculated => speculated?,
        };
        let Some(speculated) = speculated else { return Ok(None) };
        let round = tracer.child(span);
        let result = validate::run_in_order(block, &mut state, speculated.outcomes, &|| beat.progress());
        let failed = result.as_ref().err().map(ToString::to_string);
        tracer.end(round, "round", vec![KeyValue::new("round.number", 1)], failed);
        let result = result.map_err(not_executed)?;
        let line =
            BlockLine::new(&result, started.elapsed(), state.digest(), speculated.parts, speculated.retries);
        Ok(Some((state, line)))
    }
}

impl Coord {
    /// Shards were lost with the block, one after the other: tries it in a process of its own, and remembers what came of it.
    fn sacrifice(
        &mut self,
        block: &Arc<Block>,
        state: crate::state::State,
        started: Instant,
        killed: &CoordinatorError,
        beat: &Beat,
    ) -> Result<Option<(crate::state::State, BlockLine)>, CoordinatorError> {
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

    /// A block that no shard may execute: in order, on this thread.
    fn in_order(
        &self,
        block: &Arc<Block>,
        mut state: crate::state::State,
        started: Instant,
        beat: &Beat,
    ) -> Result<Option<(crate::state::State, BlockLine)>, CoordinatorError> {
        let result = validate::run_in_order(block, &mut state, Vec::new(), &|| beat.progress())
            .map_err(not_executed)?;
        let line = BlockLine::new(&result, started.elapsed(), state.digest(), 0, 0);
        Ok(Some((state, line)))
    }
}

fn not_executed(error: ValidateError) -> CoordinatorError {
    match error {
        ValidateError::Block(error) => CoordinatorError::Block(error),
        other => CoordinatorError::NotExecuted(other),
    }
}
