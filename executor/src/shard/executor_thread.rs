//! The executor thread: takes parts, executes them on the coordinator's state, and returns their
//! results.
//!
//! It never blocks without a bound. Whatever happens to a part, the coordinator is notified, except
//! when there is no coordinator any more or the thread itself is lost; for those cases the other
//! end has deadlines.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use shard_heartbeat::crossbeam::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use shard_heartbeat::{Heartbeat, Lane, ThreadBeat};

use super::ghost;
use super::job::{Job, StateReply};
use super::outbox::Outgoing;
use super::part_error::PartError;
use super::remote::{AskError, Cache, Line, RemoteState};
use super::scout::scout;
use super::session::Counters;
use super::spawn::Ready;
use crate::deadline;
use crate::faults::{AnswerFault, Faults, LastWords, ThreadMustEnd};
use crate::net::wire;
use crate::parallel::{self, Batch, Pool, WorkerBeat};
use crate::process::Stopping;
use crate::sections::{EXECUTING, SENDING};
use crate::telemetry::Telemetry;
use crate::telemetry::counts::Late;
use crate::telemetry::spans::{Open, number};
use crate::vm::{self, PartRun, TxOutcome};
use crate::warm_up::{WarmedUp, warm_up};

/// A helper registered in the heartbeat, in a lane of its owner.
struct Helper {
    lane: Lane,
    faults: Faults,
    words: RefCell<LastWords>,
}

impl WorkerBeat for Helper {
    fn begin(&self) {
        self.faults.help_point(&mut self.words.borrow_mut());
    }
    fn progress(&self) {
        self.lane.progress();
    }
    fn leave(self: Box<Self>) {
        self.lane.leave();
    }
}

/// What the thread executes with, until its process ends.
pub(super) struct ExecutorThread {
    /// This thread and its helpers.
    pub(super) threads: usize,
    pub(super) commands: Receiver<Job>,
    pub(super) state: Receiver<StateReply>,
    pub(super) results: Sender<Outgoing>,
    /// Contains the blocks that the watchdog withholds from this shard.
    pub(super) heartbeat: Heartbeat,
    pub(super) faults: Faults,
    pub(super) stopping: Stopping,
    pub(super) counters: Arc<Counters>,
    pub(super) telemetry: Telemetry,
    /// Notified once, when this thread and its helpers have warmed up.
    pub(super) warm: crossbeam_channel::Sender<WarmedUp>,
}

impl ExecutorThread {
    /// The thread's main function.
    pub(super) fn run(self, beat: ThreadBeat, words: &mut LastWords, ready: &Ready) {
        let counters = Arc::clone(&self.counters);
        self.faults.tell_counters(move || counters.line());
        self.faults.start_point();
        let pool = match self.pool(&beat) {
            Ok(pool) => pool,
            Err(error) => {
                tracing::error!(%error, threads = self.threads, "the helpers cannot be started");
                return;
            }
        };
        // If nobody waits for this any more, the process is ending.
        let _ = ready.try_send(());
        // Idle to the watchdog meanwhile: it would take work for the first of this life.
        let _ = self.warm.try_send(warm_up(&pool, deadline::WARM_UP));
        let mut cache = Cache::default();
        while !self.stopping.begun() {
            self.faults.look_point();
            match self.commands.recv_timeout(deadline::LOOK_ROUND) {
                Ok(job) => {
                    if self.handle_job(&job, &pool, &beat, words, &mut cache).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.discard_answers(),
                // The network side has gone: the guard detects and names it. This thread merely has
                // no work.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(deadline::LOOK_ROUND),
            }
            // The thread is incomplete without its helpers. It ends, and its end notifies the
            // guard.
            if let Some(helper) = pool.lost().or_else(|| self.still_missing(&pool)) {
                tracing::error!(thread = helper, "a helper is lost");
                return;
            }
        }
        drop(pool);
        beat.leave();
    }

    fn pool(&self, beat: &ThreadBeat) -> std::io::Result<Pool> {
        let (lanes, faults) = (beat.lanes(), self.faults.clone());
        let name = std::thread::current().name().unwrap_or("exec").to_owned();
        Pool::start(&name, self.threads, move || {
            let words = RefCell::default();
            match lanes.join() {
                Ok(lane) => {
                    Some(Box::new(Helper { lane, faults: faults.clone(), words }) as Box<dyn WorkerBeat>)
                }
                Err(error) => {
                    tracing::error!(%error, "a helper has no lane in the heartbeat");
                    None
                }
            }
        })
    }

    /// A helper that does not return from work that is over. While this thread waits for it, it
    /// makes no progress, so a watchdog detects that; without a watchdog the thread finally ends.
    fn still_missing<'a>(&self, pool: &'a Pool) -> Option<&'a str> {
        let until = Instant::now() + deadline::HELPER;
        while !self.stopping.begun() {
            let missing = pool.missing()?;
            if Instant::now() >= until {
                return Some(missing);
            }
            std::thread::sleep(deadline::LOOK_ROUND);
        }
        None
    }

    /// Removes answers that came after nobody waited for them any more. Left in the queue they
    /// would look like a thread that does not read it.
    fn discard_answers(&self) {
        for _ in self.state.drain() {
            Counters::count(&self.counters.stale);
        }
    }

    /// Executes one part and sends its result or error.
    fn handle_job(
        &self,
        job: &Job,
        pool: &Pool,
        beat: &ThreadBeat,
        words: &mut LastWords,
        cache: &mut Cache,
    ) -> Result<(), ThreadMustEnd> {
        if !job.session.wants(&job.tag) {
            Counters::count(&self.counters.stale);
            return Ok(());
        }
        // Before the heartbeat reports the block as in flight here.
        if self.heartbeat.quarantine().contains(job.tag.block) {
            self.refuse(job, &PartError::Quarantined(job.tag.block));
            return Ok(());
        }
        // Answers that are already queued belong to an earlier part's requests.
        self.discard_answers();
        let span = self.telemetry.tracer().continued(job.trace);
        let left = job.until.saturating_duration_since(Instant::now());
        let work = shard_heartbeat::Work::new(job.tag.block)
            .attempt(job.tag.attempt.into())
            .deadline(left)
            .trace(job.trace);
        let _working = beat.working(work);
        let outcome = self.outcomes_of(job, pool, beat, words, cache);
        let outcome = match outcome {
            Ok(outcomes) => match self.faults.answer_point(job.tag.block) {
                Some(AnswerFault::Drop) => return Ok(()),
                Some(AnswerFault::Error) => Err(PartError::Ordered),
                Some(AnswerFault::Ghost) => {
                    for message in ghost::results(&job.tag, &outcomes) {
                        self.hand_over(job, message);
                    }
                    Ok(outcomes)
                }
                None => Ok(outcomes),
            },
            Err(error) => Err(error),
        };
        self.export(span, job, outcome.as_ref().err());
        beat.enter(SENDING);
        self.send_outcome(job, outcome)
    }

    /// The encoded outcomes of a part.
    fn outcomes_of(
        &self,
        job: &Job,
        pool: &Pool,
        beat: &ThreadBeat,
        words: &mut LastWords,
        cache: &mut Cache,
    ) -> Result<Vec<u8>, PartError> {
        cache.open(&job.tag);
        let line = Line {
            job,
            state: &self.state,
            results: &self.results,
            stopping: &self.stopping,
            counters: &self.counters,
            beat,
            faults: &self.faults,
            counts: self.telemetry.counts(),
        };
        let remote = RemoteState::new(line, cache);
        remote.prefetch(&job.work)?;
        beat.enter(EXECUTING);
        let outcomes = match pool.is_empty() {
            true => self.execute(job, &remote, beat, words),
            false => self.execute_on(pool, job, &remote, beat, words),
        };
        Ok(vm::encode(&outcomes?)?)
    }

    /// Sends the outcomes of a part, or why there are none, if anybody still wants to know.
    fn send_outcome(&self, job: &Job, outcome: Result<Vec<u8>, PartError>) -> Result<(), ThreadMustEnd> {
        let message = match outcome {
            Ok(outcomes) => wire::up::Message::Result(wire::PartResult { tag: Some(job.tag), outcomes }),
            Err(PartError::ThreadMustEnd) => return Err(ThreadMustEnd),
            Err(error) => {
                tracing::debug!(block = job.tag.block, attempt = job.tag.attempt, %error, "part not executed");
                let Some(reason) = error.reason() else {
                    self.count_unwanted(job);
                    return Ok(());
                };
                let detail = error.to_string();
                wire::up::Message::Error(wire::PartError {
                    tag: Some(job.tag),
                    reason: reason.into(),
                    detail,
                })
            }
        };
        self.hand_over(job, message);
        Ok(())
    }

    fn refuse(&self, job: &Job, error: &PartError) {
        let Some(reason) = error.reason() else { return };
        tracing::warn!(block = job.tag.block, attempt = job.tag.attempt, %error, "part refused");
        let message =
            wire::PartError { tag: Some(job.tag), reason: reason.into(), detail: error.to_string() };
        self.hand_over(job, wire::up::Message::Error(message));
    }

    /// Counts a part, and ends its span.
    fn export(&self, span: Option<Open>, job: &Job, failed: Option<&PartError>) {
        let counts = self.telemetry.counts();
        let transactions = job.work.transactions.len() as u64;
        match failed {
            None => counts.transactions.add(transactions),
            Some(PartError::Ask(AskError::Late { .. })) => counts.late(Late::State).add(1),
            Some(PartError::Late | PartError::Ask(AskError::PartLate)) => counts.late(Late::Part).add(1),
            Some(_) => {}
        }
        let attributes = [
            number("block.number", job.tag.block),
            number("part.number", job.tag.part.into()),
            number("part.attempt", job.tag.attempt.into()),
            number("part.transactions", transactions),
        ];
        let attributes = attributes.into_iter().flatten().collect();
        self.telemetry.tracer().end(span, "execute", attributes, failed.map(ToString::to_string));
    }

    fn execute(
        &self,
        job: &Job,
        remote: &RemoteState<'_>,
        beat: &ThreadBeat,
        words: &mut LastWords,
    ) -> Result<Vec<TxOutcome>, PartError> {
        // On guesses first; see `scout`. Fault points belong only to the run below, which every
        // part has exactly once.
        let guessed: RefCell<Vec<usize>> = RefCell::default();
        let mut seen = 0;
        let mut place = 0;
        let mut outcomes = Ok(Vec::new());
        let any = remote.guessing(|| {
            outcomes = self.run_through(
                job,
                remote,
                &mut |_| {
                    if remote.guesses() != seen {
                        seen = remote.guesses();
                        guessed.borrow_mut().push(place);
                    }
                    place += 1;
                    beat.progress();
                },
                &mut || self.faults.point(job.tag.block, 1, Some(beat), words),
            );
        });
        let outcomes = outcomes?;
        if !any {
            return Ok(outcomes);
        }
        scout(job, remote, beat, guessed.take())?;
        self.run_through(job, remote, &mut |_| beat.progress(), &mut || Ok(()))
    }

    /// Executes the part on several threads.
    fn execute_on(
        &self,
        pool: &Pool,
        job: &Job,
        remote: &RemoteState<'_>,
        beat: &ThreadBeat,
        words: &mut LastWords,
    ) -> Result<Vec<TxOutcome>, PartError> {
        let mut outcomes = Ok(Vec::new());
        let mut guessed = Vec::new();
        let any = remote.guessing(|| {
            outcomes = self.run_parallel(pool, job, remote, true, beat, &mut || {
                self.faults.point(job.tag.block, 1, Some(beat), words)
            });
            if let Ok(outcomes) = &outcomes {
                guessed = remote.note_guesses(outcomes);
            }
        });
        let outcomes = outcomes?;
        if !any {
            return Ok(outcomes);
        }
        scout(job, remote, beat, guessed)?;
        self.run_parallel(pool, job, remote, false, beat, &mut || Ok(()))
    }

    fn run_parallel(
        &self,
        pool: &Pool,
        job: &Job,
        remote: &RemoteState<'_>,
        guess: bool,
        beat: &ThreadBeat,
        fault: &mut dyn FnMut() -> Result<(), ThreadMustEnd>,
    ) -> Result<Vec<TxOutcome>, PartError> {
        let mut before = || -> Result<(), PartError> {
            fault().map_err(|ThreadMustEnd| PartError::ThreadMustEnd)?;
            self.may_go_on(job)
        };
        let mut progress = || beat.progress();
        let batch: Arc<dyn Batch> = Arc::clone(&job.work) as Arc<dyn Batch>;
        let snapshot = remote.snapshot(guess);
        let env = &job.work.env;
        let mut part = PartRun::new(env, &batch, remote, &mut before, &mut progress);
        parallel::run(pool, env, &batch, &snapshot, &mut part, job.until)?;
        self.telemetry.counts().helped.add(part.taken_over() as u64);
        Ok(part.into_outcomes())
    }

    /// Executes the part in order, with a check before each transaction.
    fn run_through(
        &self,
        job: &Job,
        remote: &RemoteState<'_>,
        progress: &mut dyn FnMut(u32),
        fault: &mut dyn FnMut() -> Result<(), ThreadMustEnd>,
    ) -> Result<Vec<TxOutcome>, PartError> {
        let stop: Cell<Option<PartError>> = Cell::new(None);
        // An iterator can stop handing out transactions: this is the point between two of them.
        let transactions = job.work.transactions.iter().map_while(|(index, transaction)| {
            let may =
                fault().map_err(|ThreadMustEnd| PartError::ThreadMustEnd).and_then(|()| self.may_go_on(job));
            match may {
                Ok(()) => Some((*index, transaction)),
                Err(error) => {
                    stop.set(Some(error));
                    None
                }
            }
        });
        let outcomes = vm::execute_part(&job.work.env, transactions, remote, progress);
        match stop.take() {
            None => Ok(outcomes?),
            Some(error) => Err(error),
        }
    }

    fn may_go_on(&self, job: &Job) -> Result<(), PartError> {
        if self.stopping.begun() {
            return Err(PartError::Stopping);
        }
        if !job.session.wants(&job.tag) {
            return Err(PartError::Unwanted);
        }
        if Instant::now() >= job.until {
            return Err(PartError::Late);
        }
        Ok(())
    }

    /// Counts a part that was given up midway: its coordinator has gone, or no longer wants it.
    fn count_unwanted(&self, job: &Job) {
        let gone = job.session.up().is_none();
        Counters::count(if gone { &self.counters.results_dropped } else { &self.counters.stale });
    }

    fn hand_over(&self, job: &Job, message: wire::up::Message) {
        let outgoing =
            Outgoing { session: Arc::clone(&job.session), message: wire::Up { message: Some(message) } };
        if let Err(error) = self.results.send_timeout(outgoing, deadline::HAND_OVER) {
            let dropped: &AtomicU64 = &self.counters.results_dropped;
            Counters::count(dropped);
            let reason = match error {
                SendTimeoutError::Timeout(_) => "the results queue is full",
                SendTimeoutError::Disconnected(_) => "the sending thread has gone",
            };
            tracing::warn!(block = job.tag.block, reason, "a result was dropped");
        }
    }
}
