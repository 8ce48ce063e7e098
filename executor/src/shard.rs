//! One shard as a process: a network in front, one executor thread behind, a heartbeat over both.
//!
//! Threads: `exec-sN` executes, with its helpers `exec-sN-w1` and on if it has any; `send-sN`
//! forwards its messages to whichever coordinator is connected; `net-sN` belong to the async
//! runtime and only decode, sort and forward; the main thread only waits for signals. They
//! communicate through bounded queues with published depths, and none waits for another without a
//! bound.

mod accept;
mod error;
mod executor_thread;
mod ghost;
mod job;
mod outbox;
mod part_error;
mod places;
mod remote;
mod scout;
mod service;
mod session;
mod sockets;
mod spawn;
mod threads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use shard_heartbeat::crossbeam::{Sender, bounded};
use shard_heartbeat::{ChannelBeat, Heartbeat, ProcessState, SegmentOptions, WatchdogMonitor};
use shard_telemetry::service_manager::{News, ServiceManager};
use tokio::runtime::Runtime;

use crate::deadline;
use crate::faults::{self, Faults, Order, Port, PortOptions, ProcessFault, Role};
use crate::guard::{self, Guard};
use crate::net::{Admission, AdmissionOptions};
use crate::process::{self, Stopping};
use crate::telemetry::Telemetry;
use crate::telemetry::counts::Useless;

use executor_thread::ExecutorThread;
use spawn::spawn;

pub use error::ShardError;
pub use session::Counters;

/// Parts that may wait for the executor thread. A coordinator gives a shard its own part and, at
/// worst, those of every lost shard; if more are waiting the shard is not executing, and the
/// coordinator should be notified.
const COMMANDS: usize = 32;

/// Answers to state requests that may wait: one request is under way at a time, so any more are
/// late answers to earlier ones.
const STATE_REPLIES: usize = 8;

/// Messages that may wait for the network: many times one result and one state request.
const RESULTS: usize = 64;

/// Threads of the async runtime. Decoding large parts is the only work there; with two, one can
/// decode while the other answers keep-alives.
const NET_THREADS: usize = 2;

/// The options of a shard.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Number of the shard, which ends the names of its threads.
    pub id: u16,
    /// The address on which it listens for coordinators.
    pub listen: SocketAddr,
    /// Which coordinators may give it work.
    pub admission: AdmissionOptions,
    /// Path of its heartbeat segment.
    pub heartbeat: PathBuf,
    /// Whether a sidecar of another pid namespace may see this process.
    pub show_proc: bool,
    /// How many threads execute a part.
    pub threads: usize,
    /// The port on which tests order faults; `None`: no port.
    pub faults: Option<PortOptions>,
    /// Faults armed from the start; only together with `faults`.
    pub arm: Vec<Order>,
    /// How the process exports its telemetry.
    pub telemetry: Telemetry,
}

/// Runs a shard until it is told to stop. It must be called on the main thread.
pub fn run(options: &ShardOptions) -> Result<(), ShardError> {
    let admission = Admission::open(options.admission.clone(), options.listen)?;
    let heartbeat = Heartbeat::create(&options.heartbeat, &SegmentOptions::new(options.id.to_string()))?;
    let (to_main, process_faults) = crossbeam_channel::bounded(1);
    if options.show_proc {
        heartbeat
            .show_proc()
            .map_err(|source| ShardError::Sight { path: options.heartbeat.clone(), source })?;
    }
    let faults = Faults::inert(Role::Shard, to_main);
    faults.obey_all(&options.arm)?;
    process::end_on_panic(Some(heartbeat.clone()), faults.clone());
    let manager = process::service_manager();
    let started = Shard::start(options, admission, &heartbeat, &faults, manager);
    match started {
        Ok(mut shard) => {
            process::tell_ready(&shard.manager, &format!("shard {} runs", options.id));
            shard.wait(&process_faults);
            shard.stop();
            Ok(())
        }
        Err(error) => {
            heartbeat.set_state(ProcessState::Failed);
            Err(error)
        }
    }
}

struct Shard {
    heartbeat: Heartbeat,
    stopping: Stopping,
    sessions: session::Sessions,
    counters: Arc<Counters>,
    faults: Faults,
    guard: Guard,
    health: service::Health,
    sockets: sockets::Sockets,
    net_in: ChannelBeat,
    runtime: Runtime,
    signals: Receiver<()>,
    telemetry: Telemetry,
    manager: ServiceManager,
    _port: Option<Port>,
    close: tokio::sync::watch::Sender<bool>,
}

impl Shard {
    fn start(
        options: &ShardOptions,
        admission: Admission,
        heartbeat: &Heartbeat,
        faults: &Faults,
        manager: ServiceManager,
    ) -> Result<Self, ShardError> {
        let failed = |what| move |source| ShardError::Start { what, source };
        let bind = |source| ShardError::Bind { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = start_runtime(options.id, heartbeat).map_err(failed("network threads"))?;
        let (signalled, signals) = crossbeam_channel::bounded(1);
        process::forward_signals(runtime.handle(), signalled).map_err(failed("signal handlers"))?;
        let port = open_port(&runtime, options, faults)?;

        let stopping = Stopping::default();
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        faults.tell_counters(move || counted.to_string());
        let sessions = session::Sessions::new(heartbeat.incarnation(), Arc::clone(&counters));
        let net_in = heartbeat.channel("net-in", None)?;
        let Workers { mut guard, commands, state } =
            start_workers(options, heartbeat, faults, &stopping, &counters)?;

        let service = service::Service {
            id: options.id,
            sessions: sessions.clone(),
            commands,
            state,
            faults: faults.clone(),
            admission: admission.clone(),
            heartbeat: heartbeat.clone(),
            blocks: heartbeat.channel("blocks", None)?,
        };
        let (close, closed) = tokio::sync::watch::channel(false);
        let sockets = sockets::Sockets::default();
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(bind)?
        };
        let counts = Arc::clone(options.telemetry.counts());
        let door = accept::Door { listener, admission, sockets: sockets.clone(), counts };
        let (health, network) = service::serve(&runtime, door, service, closed);
        guard.keep_task("network side", network);
        heartbeat.set_state(ProcessState::Running);
        say(&format!(
            "shard {}: listening on {address}, incarnation {}",
            options.id,
            heartbeat.incarnation()
        ));
        Ok(Self {
            heartbeat: heartbeat.clone(),
            stopping,
            sessions,
            counters,
            faults: faults.clone(),
            guard,
            health,
            sockets,
            net_in,
            runtime,
            signals,
            telemetry: options.telemetry.clone(),
            manager,
            _port: port,
            close,
        })
    }

    /// Waits for the order to stop, checking on everything else meanwhile: this thread must always
    /// be able to act.
    fn wait(&mut self, process_faults: &Receiver<ProcessFault>) {
        let mut watchdog = WatchdogMonitor::new(&self.heartbeat);
        loop {
            self.sockets.publish(&self.net_in);
            let age = watchdog.age();
            self.count(age);
            let watched = guard::is_watched(age);
            if self.faults.thread_loss_ends_process()
                && let Some(lost) = self.guard.lost()
            {
                guard::end(&lost, Some(&self.heartbeat), watched, |reason| {
                    self.health.not_serving(&self.runtime);
                    self.sessions.refuse(reason);
                });
            }
            crossbeam_channel::select! {
                recv(self.signals) -> signal => match signal {
                    Ok(()) => return,
                    // The runtime has gone, and signal handling with it: no order can arrive any
                    // more, but SIGKILL works.
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
    fn count(&self, watchdog_age: Option<Duration>) {
        let (counts, counters) = (self.telemetry.counts(), &self.counters);
        let total =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        counts.useless(Useless::Stale).set(total(&counters.stale));
        counts.useless(Useless::Malformed).set(total(&counters.malformed));
        counts.useless(Useless::Dropped).set(total(&counters.results_dropped));
        counts.set_watchdog_age(watchdog_age);
    }

    /// Stops in an orderly way, in bounded time whatever the threads do.
    fn stop(self) {
        process::end_after(deadline::STOP_AT_LAST, process::STOP_HUNG);
        self.begin_to_stop();
        self.count(self.telemetry.counts().watchdog_age());
        let late = process::join_all(self.guard.into_threads());
        if !late.is_empty() {
            tracing::warn!(threads = late.join(", "), "threads did not end in time; ending without them");
        }
        self.runtime.shutdown_timeout(deadline::LOOK_ROUND);
        tracing::info!(counters = %self.counters, "the shard has stopped");
    }

    fn begin_to_stop(&self) {
        self.heartbeat.set_state(ProcessState::Stopping);
        self.manager.tell(&[News::Stopping]);
        self.stopping.begin();
        self.health.not_serving(&self.runtime);
        // Nobody may be listening for it any more.
        let _ = self.close.send(true);
        self.sessions.close_current("the shard stops");
    }

    #[expect(clippy::disallowed_methods, reason = "it is what was ordered: a process that never ends")]
    fn hang_in_exit(&self) {
        self.begin_to_stop();
        faults::announce(faults::Kind::ExitHang);
        loop {
            std::thread::park();
        }
    }
}

/// The network threads, each registered in the heartbeat.
fn start_runtime(shard: u16, heartbeat: &Heartbeat) -> io::Result<Runtime> {
    let name = format!("net-s{shard}");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(NET_THREADS).thread_name(&name).enable_all();
    threads::watch(&mut builder, heartbeat, &name);
    builder.build()
}

/// Opens the port on which tests order faults, if there is to be one.
fn open_port(runtime: &Runtime, options: &ShardOptions, faults: &Faults) -> Result<Option<Port>, ShardError> {
    let Some(port) = &options.faults else { return Ok(None) };
    let port = faults::serve(runtime.handle(), port, faults.clone())?;
    say(&format!("shard {}: faults on {port}", options.id));
    Ok(Some(port))
}

/// The threads behind the network side, and the queues that lead to them.
struct Workers {
    guard: Guard,
    commands: Sender<job::Job>,
    state: Sender<job::StateReply>,
}

/// Starts the executor thread and the sending thread; returns once the former is warm, or has had
/// enough time for it.
fn start_workers(
    options: &ShardOptions,
    heartbeat: &Heartbeat,
    faults: &Faults,
    stopping: &Stopping,
    counters: &Arc<Counters>,
) -> Result<Workers, ShardError> {
    let (commands, commands_out) = bounded(heartbeat, "commands", COMMANDS)?;
    let (state, state_out) = bounded(heartbeat, "state", STATE_REPLIES)?;
    let (results, results_out) = bounded(heartbeat, "results", RESULTS)?;
    let (warm, is_warm) = crossbeam_channel::bounded(1);
    let executor = ExecutorThread {
        threads: options.threads,
        commands: commands_out,
        state: state_out,
        results,
        heartbeat: heartbeat.clone(),
        faults: faults.clone(),
        stopping: stopping.clone(),
        counters: Arc::clone(counters),
        telemetry: options.telemetry.clone(),
        warm,
    };
    let outbox = outbox::Outbox {
        results: results_out,
        faults: faults.clone(),
        stopping: stopping.clone(),
        counters: Arc::clone(counters),
    };
    let mut guard = Guard::default();
    guard.keep(spawn(heartbeat, "exec", options.id, move |beat, words, ready| {
        executor.run(beat, words, ready);
    })?);
    guard.keep(spawn(heartbeat, "send", options.id, move |beat, words, ready| {
        outbox.run(beat, words, ready);
    })?);

    // Before anybody can send a part: what a first block would have to initialise is ready.
    match is_warm.recv_timeout(deadline::WARM) {
        Ok(warmed) => say(&format!("shard {}: warmed up: {warmed}", options.id)),
        Err(RecvTimeoutError::Timeout) => {
            tracing::warn!(within = ?deadline::WARM, "not warm in time: the first blocks may be slow");
        }
        Err(RecvTimeoutError::Disconnected) => return Err(ShardError::Lost("exec")),
    }
    Ok(Workers { guard, commands, state })
}

/// Prints a line for whoever started the process; that nobody reads it is no reason to end.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
