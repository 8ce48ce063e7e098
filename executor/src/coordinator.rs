//! The coordinator: splits each block over the shards, serves the state they read, and puts their
//! results in block order.
//!
//! One plain thread, `coord`, does all of that; the async runtime's `net-coord` threads only hold
//! the connections and forward what arrives. Every wait of `coord` has a deadline, and so has every
//! block: it ends verified, wrong, or with an error that names block, part, shard and reason.

mod answers;
mod beat;
mod block;
mod connection;
mod discarded;
mod error;
mod options;
mod out;
mod quarantine;
mod report;
mod round;
mod sacrifice;
mod serve;
mod shards;
mod step;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Receiver;
use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, WatchdogMonitor};
use shard_telemetry::service_manager::{News, ServiceManager};
use tokio::runtime::Runtime;

use crate::deadline;
use crate::faults::{self, Faults, Port, PortOptions, ProcessFault, Role};
use crate::guard::{self, Guard};
use crate::net::Credentials;
use crate::process::{self, Stopping};
use crate::telemetry::Telemetry;
use crate::telemetry::counts::Useless;

use quarantine::Quarantine;
use report::Report;
use shards::Shards;
use thread::CoordinatingThread;

pub use error::CoordinatorError;
pub use options::{AllVerified, CoordinatorOptions};
pub use quarantine::QuarantineError;
pub use step::Step;

/// Threads of the async runtime. Two suffice: one can decode results while the other forwards state
/// requests.
const NET_THREADS: usize = 2;

/// Runs a coordinator to its end. It must be called on the main thread.
pub fn run(options: CoordinatorOptions) -> Result<AllVerified, CoordinatorError> {
    let credentials = Credentials::open(options.credentials.clone())?;
    let heartbeat = match &options.heartbeat {
        Some(path) => Some(Heartbeat::create(path, &SegmentOptions::new("coordinator"))?),
        None => None,
    };
    let (to_main, process_faults) = crossbeam_channel::bounded(1);
    let faults = Faults::inert(Role::Coordinator, to_main);
    faults.obey_all(&options.arm)?;
    process::end_on_panic(heartbeat.clone(), faults.clone());
    let coordinator = Coordinator::start(options, &credentials, heartbeat.clone(), &faults);
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
    manager: Arc<ServiceManager>,
    discarded: Arc<AtomicU64>,
    _port: Option<Port>,
    done: Receiver<RunResult>,
}

impl Coordinator {
    fn start(
        options: CoordinatorOptions,
        credentials: &Credentials,
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
        let port = open_port(&runtime, options.faults.as_ref(), faults)?;
        let telemetry = options.telemetry.clone();
        let shards = Shards::open(
            runtime.handle(),
            &options.shards,
            incarnation(heartbeat.as_ref()),
            credentials,
            telemetry.counts(),
            faults,
        );
        let discarded = shards.discarded.total();
        let total = Arc::clone(&discarded);
        faults.tell_counters(move || format!("discarded={}", total.load(Ordering::Relaxed)));
        let quarantine = Quarantine::open(options.quarantine.as_deref())?;
        let stopping = Stopping::default();
        let manager = Arc::new(process::service_manager());
        let thread = CoordinatingThread {
            shards,
            quarantine,
            report: Report::start(options.json, options.requested_blocks())
                .map_err(failed("report's thread"))?,
            options,
            faults: faults.clone(),
            stopping: stopping.clone(),
            manager: Arc::clone(&manager),
        };
        let (thread, done) = spawn(thread, heartbeat.clone()).map_err(failed("coordinating thread"))?;
        Ok(Self {
            heartbeat,
            faults: faults.clone(),
            stopping,
            thread,
            runtime,
            signals,
            telemetry,
            manager,
            discarded,
            _port: port,
            done,
        })
    }

    /// Waits for the end of the work or the order to stop, checking on everything else meanwhile.
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
                    // The thread ended without reporting anything.
                    Err(_) if self.faults.thread_loss_ends_process() => self.lose_thread(watched),
                    // It ended because a test ordered it to. The process must live on without it,
                    // for a watchdog to detect.
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

    /// Copies what others count into the exported metrics.
    fn count(&self) {
        let discarded = self.discarded.load(Ordering::Relaxed);
        self.telemetry.counts().useless(Useless::Stale).set(discarded);
    }

    fn lose_thread(self, watched: bool) -> ! {
        let mut guard = Guard::default();
        guard.keep(self.thread);
        let until = Instant::now() + deadline::STOP;
        // The other end of the queue is gone, so that thread is about to end too.
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
        self.manager.tell(&[News::Stopping]);
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

/// Opens the port on which tests order faults, if there is to be one.
fn open_port(
    runtime: &Runtime,
    options: Option<&PortOptions>,
    faults: &Faults,
) -> Result<Option<Port>, CoordinatorError> {
    let Some(options) = options else { return Ok(None) };
    let port = faults::serve(runtime.handle(), options, faults.clone())?;
    tracing::info!(%port, "faults can be armed");
    Ok(Some(port))
}

/// How the work of the coordinating thread has ended.
type RunResult = Result<AllVerified, CoordinatorError>;

/// Starts the coordinating thread; the channel tells how its work has ended.
fn spawn(
    thread: CoordinatingThread,
    heartbeat: Option<Heartbeat>,
) -> io::Result<(JoinHandle<()>, Receiver<RunResult>)> {
    let (report_done, done) = crossbeam_channel::bounded(1);
    let body = move || thread.run(heartbeat.as_ref(), &report_done);
    Ok((std::thread::Builder::new().name("coord".to_owned()).spawn(body)?, done))
}

/// Number that identifies this life of the process to the shards.
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
