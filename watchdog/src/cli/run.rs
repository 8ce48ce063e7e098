//! `run`: the sidecar itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shard_telemetry::service_manager::{News, ServiceManager};
use shard_watchdog::adopt::{Adopter, Redirect, Wanted};
use shard_watchdog::beats;
use shard_watchdog::board::Board;
use shard_watchdog::clock::WallAnchor;
use shard_watchdog::config::effective::Changes;
use shard_watchdog::config::{Config, KillBy, LEAVING, read};
use shard_watchdog::descriptors::{self, Limit, Shares};
use shard_watchdog::dump::client::Helper;
use shard_watchdog::event::Event;
use shard_watchdog::evidence::gatherer::{Delivery, Gatherer, TakesDumps};
use shard_watchdog::preflight::reporter::Reporter;
use shard_watchdog::probe::wakeup::Waker;
use shard_watchdog::probe::{Probe, ThreadEvents};
use shard_watchdog::surface::{self, SurfaceError, SurfaceHandle};
use shard_watchdog::telemetry::dropped::Signal;
use shard_watchdog::telemetry::logs;
use shard_watchdog::watch::control::{Command, Control};
use shard_watchdog::watch::{Ended, Parts, Watch};
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::TryRecvError};

use shard_watchdog::signals::{self, Heard};

/// Exit code for a config that cannot be used.
const BAD_CONFIG: u8 = 2;
/// Exit code for a start that failed for another reason: no threads, no descriptors. And for an end
/// that must not be taken for a kill.
const CANNOT_START: u8 = 1;
/// Copies that may wait for the slow side; at four snapshots a second this is minutes.
const QUEUE: usize = 1024;
/// What the contract gives telemetry at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// How long the main thread, on which nobody waits, tries to tell the service manager what that
/// waits for.
const TELL_MANAGER: Duration = Duration::from_secs(1);
/// The loop takes a new config at its next round, for which it is woken. If it is not in force by
/// then, whoever asked for it waits no longer; that the loop hangs is told by others.
const IN_FORCE: Duration = Duration::from_secs(1);
/// How long the exit that is a kill waits for its incident to be written: a disk takes
/// milliseconds.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// Watch one target until told to stop.
#[derive(Debug, clap::Args)]
#[command(after_help = "SIGTERM or SIGINT: flush telemetry for at most 2 s, leave the target alone, end.\n\
    SIGHUP: read the config again; a bad one changes nothing.\n\
    Under systemd (Type=notify): ready once it watches or waits for its target; the status is its verdict; with\n\
    WatchdogSec= it is restarted if its watch loop hangs.\n\n\
    Exit codes: 0 told to stop, 1 cannot start, 2 bad config. 86 with [kill] by = \"exit-code\": the target is condemned, and \
    the pod's rules must restart it; 1 instead if the incident cannot be written, because nothing would limit later kills then.")]
pub(crate) struct Args {
    /// Config file of the sidecar.
    #[arg(long, env = "SHARD_WATCHDOG_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Name of the shard, instead of the one in the file: one file may serve many shards.
    #[arg(long, env = "SHARD_WATCHDOG_SHARD", value_name = "NAME", value_parser = super::shard)]
    shard: Option<String>,
    /// How the end of a thread is detected: as an event (Linux 6.9+), or by polling every 20 ms.
    #[arg(long, env = "SHARD_WATCHDOG_THREAD_EVENTS", value_name = "HOW", default_value = "pidfd")]
    thread_events: HowThreadsEnd,
    /// Real-time priority (SCHED_FIFO, 1 to 99) of the watch thread, and locked memory. Needs
    /// CAP_SYS_NICE or a limit (LimitRTPRIO=, LimitMEMLOCK=); if they are missing, it warns and
    /// runs at normal priority.
    #[arg(long, env = "SHARD_WATCHDOG_WATCH_PRIORITY", value_name = "N", value_parser = clap::value_parser!(i32).range(1..=99))]
    watch_priority: Option<i32>,
    /// Format of the log lines on standard error.
    #[arg(long, env = "SHARD_WATCHDOG_LOG_FORMAT", value_name = "FORM", default_value = "json")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum HowThreadsEnd {
    Pidfd,
    Poll,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

/// Runs the sidecar.
pub(crate) fn run(args: &Args) -> ExitCode {
    let config = match load(args) {
        Ok(config) => Arc::new(config),
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    signals::end_on_panic();
    let (limit, inherited) = (descriptors::raise_limit(), descriptors::inherited());
    // Before any thread starts, so that all threads leave the signals to this one.
    let signals = match signals::block() {
        Ok(signals) => signals,
        Err(error) => return cannot_start("block signals", &error),
    };
    let shares = Shares::new(&config, limit.now, inherited);
    start(args, config, &signals, (limit, shares))
}

fn start(
    args: &Args,
    config: Arc<Config>,
    signals: &signals::Signals,
    (limit, shares): (Limit, Shares),
) -> ExitCode {
    let (by, evidence) = (config.kill.by, config.evidence.directory.clone());
    let wanted = match wanted(&config) {
        Ok(wanted) => wanted,
        Err(problem) => {
            eprintln!("{}: {problem}", args.config.display());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let probe = match Probe::new(thread_events(args.thread_events, by)) {
        Ok(probe) => probe.keeping_open(shares.for_threads()),
        Err(error) => return cannot_start("open what the watch loop sleeps on", &error),
    };
    let waker = probe.waker();
    let (control, inbox) = Control::new(Arc::clone(&waker));
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (surface, manager) = match start_surface(&config, receiver, args.log_format) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("shard-watchdog: {error}");
            return ExitCode::from(CANNOT_START);
        }
    };
    surface.ask(control.clone());
    tell_of_descriptors(&config, limit, shares);
    let alive = Arc::new(AtomicU64::new(0));
    let call = {
        let waker = Arc::clone(&waker);
        move || waker.wake()
    };
    if let Err(error) = beats::start(Arc::clone(&manager), Arc::clone(&alive), call) {
        return cannot_start("start a thread", &error);
    }
    let adopter = match Adopter::start(wanted, Arc::clone(&waker), Arc::clone(&alive), surface.target_user())
    {
        Ok(adopter) => adopter,
        Err(error) => return cannot_start("start a thread", &error),
    };
    let gatherer = match start_gatherer(waker, dumps(&config), &sender, surface.board()) {
        Ok(gatherer) => gatherer,
        Err(error) => return cannot_start("start a thread", &error),
    };
    if let Err(error) = start_symbolizer(&config, &sender, &surface) {
        return cannot_start("start a thread", &error);
    }
    let redirect = adopter.redirect();
    let (past, pause) = surface.past();
    let crash_loops = surface.crash_loops(config.judge.poison_after);
    let started = Arc::clone(&config);
    let parts =
        Parts { config, probe, adopter, gatherer, events: sender, inbox, past, pause, crash_loops, alive };
    let left = Arc::new(AtomicBool::new(false));
    let watch = match start_watch(parts, args.watch_priority, Arc::clone(&left)) {
        Ok(watch) => watch,
        Err(error) => return cannot_start("start a thread", &error),
    };
    let reporter = Reporter::new(surface.board());
    report(&reporter, &started);
    obey((args, &reporter), &started, signals, &control, &redirect, &surface, &manager);
    manager.tell(&[News::Stopping]);
    if left.load(Ordering::Acquire) {
        return leave(surface, &evidence);
    }
    end_in_order(&control, &watch, surface);
    ExitCode::SUCCESS
}

/// How ends of threads are noticed: as requested, unless this sidecar can only poll.
const fn thread_events(requested: HowThreadsEnd, by: KillBy) -> ThreadEvents {
    match requested {
        // A thread id of another pid namespace denotes no thread here, or another one.
        _ if matches!(by, KillBy::ExitCode) => ThreadEvents::Poll,
        HowThreadsEnd::Pidfd => ThreadEvents::Pidfd,
        HowThreadsEnd::Poll => ThreadEvents::Poll,
    }
}

/// Starts the slow side, and finds the service manager. One that cannot be used is none: that is
/// logged, once there is a log.
fn start_surface(
    config: &Arc<Config>,
    events: mpsc::Receiver<Event>,
    format: LogFormat,
) -> Result<(SurfaceHandle, Arc<ServiceManager>), SurfaceError> {
    let format = match format {
        LogFormat::Json => logs::Format::Json,
        LogFormat::Text => logs::Format::Text,
    };
    let (manager, unusable) = match ServiceManager::of_environment() {
        Ok(manager) => (Arc::new(manager), None),
        Err(error) => (Arc::default(), Some(error)),
    };
    let surface =
        surface::start(Arc::clone(config), events, WallAnchor::now(), format, Arc::clone(&manager))?;
    if let Some(error) = unusable {
        tracing::warn!(event = "service_manager", "{error}");
    }
    Ok((surface, manager))
}

/// Starts the thread that gathers evidence and hands it to the slow side. It does not keep the
/// queue open: if a read hangs, the end must not wait for it.
fn start_gatherer(
    waker: Arc<Waker>,
    dumps: Option<Box<dyn TakesDumps>>,
    events: &mpsc::Sender<Event>,
    board: Arc<Board>,
) -> std::io::Result<Gatherer> {
    let events = events.downgrade();
    Gatherer::start(waker, dumps, move |delivery| {
        let event = match delivery {
            Delivery::Gathered(gathered) => Event::Gathered(gathered),
            Delivery::Dumped { incident, at, dump } => Event::Dumped { incident, at, dump },
        };
        let sent = events.upgrade().map(|events| events.try_send(event));
        if sent.is_some_and(|sent| sent.is_err()) {
            board.dropped().add(Signal::Incidents, 1);
        }
    })
}

/// What takes minidumps, if they are wanted: this program in another process.
fn dumps(config: &Config) -> Option<Box<dyn TakesDumps>> {
    takes_dumps(config).then(|| Box::new(Helper::new(|| ourselves("evidence-helper"))) as Box<dyn TakesDumps>)
}

/// Whether minidumps are taken.
fn takes_dumps(config: &Config) -> bool {
    // A pid of another pid namespace denotes another process here.
    config.evidence.minidump && config.kill.by == KillBy::Signal
}

/// Starts what looks up the stacks of minidumps, if they are taken. Like the gatherer, it does not
/// keep the queue open.
fn start_symbolizer(
    config: &Config,
    events: &mpsc::Sender<Event>,
    surface: &SurfaceHandle,
) -> std::io::Result<()> {
    if !takes_dumps(config) {
        return Ok(());
    }
    let (events, board) = (events.downgrade(), surface.board());
    surface.symbolize(
        || ourselves("symbolizer"),
        move |symbolized| {
            let sent =
                events.upgrade().map(|events| events.try_send(Event::Symbolized(Box::new(symbolized))));
            if sent.is_some_and(|sent| sent.is_err()) {
                board.dropped().add(Signal::Incidents, 1);
            }
        },
    )
}

/// The command of this very program, even if its file was replaced by an upgrade.
fn ourselves(subcommand: &str) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg(subcommand);
    command
}

/// Starts the watch loop on a thread of its own. If the loop ends because the target must be
/// restarted, it sets `left` and then stops this process like a signal from outside would.
fn start_watch(
    parts: Parts,
    priority: Option<i32>,
    left: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, std::io::Error> {
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        if let Some(priority) = priority {
            signals::be_real_time(priority);
        }
        if Watch::new(parts).run() == Ended::ToBeRestarted {
            left.store(true, Ordering::Release);
            signals::stop_ourselves();
        }
    })
}

/// Ends with the exit code for which the target is restarted, which is a kill, if that is on
/// record.
fn leave(surface: SurfaceHandle, evidence: &Path) -> ExitCode {
    // The loop has ended, so the incident is complete. The exit does not wait for a collector: the
    // next run sends it.
    if surface.write_down(WRITTEN_WITHIN) {
        return ExitCode::from(LEAVING);
    }
    // This kill would be unrecorded, so nothing would limit the next ones.
    eprintln!(
        "shard-watchdog: the target stands condemned and is not restarted: that it was could not be written to {} within \
         {WRITTEN_WITHIN:?}, and the kill budget would not hold. Free that disk, or let this user write there",
        evidence.display()
    );
    ExitCode::from(CANNOT_START)
}

/// Stops the watch loop, which leaves the target alone, and then the slow side.
fn end_in_order(control: &Control, watch: &JoinHandle<()>, surface: SurfaceHandle) {
    control.tell(Command::Stop);
    // The loop reacts within one observation. A loop that does not gets no longer than telemetry
    // does.
    let began = Instant::now();
    while !watch.is_finished() && began.elapsed() < FLUSH {
        std::thread::sleep(Duration::from_millis(1));
    }
    surface.shutdown(FLUSH.saturating_sub(began.elapsed()));
}

/// Has what `check` would say logged. The watch is not given up if that cannot be.
fn report(reporter: &Reporter, config: &Arc<Config>) {
    if let Err(error) = reporter.begin(Arc::clone(config)) {
        tracing::warn!(%error, "cannot start the thread that checks the config against this machine");
    }
}

/// Says what limit of open files is in force, and if it is too low for what is to be watched.
fn tell_of_descriptors(config: &Config, Limit { before, now }: Limit, shares: Shares) {
    let (reserve, threads) = (shares.reserve(), shares.for_threads());
    if before != now {
        tracing::info!(
            event = "file_limit_raised",
            before,
            now,
            "the soft limit of open files was raised from {before} to {now}"
        );
    }
    tracing::debug!(
        limit = now,
        reserve,
        threads,
        "descriptors: the limit, what is kept back, and what threads may take"
    );
    if let Some(shortage) = shares.shortage(descriptors::threads_to_watch(config)) {
        tracing::warn!(event = "few_descriptors", limit = now, "{shortage}");
    }
}

/// Does what signals say, until one says stop.
fn obey(
    (args, reporter): (&Args, &Reporter),
    started: &Arc<Config>,
    signals: &signals::Signals,
    control: &Control,
    redirect: &Redirect,
    surface: &SurfaceHandle,
    manager: &ServiceManager,
) {
    let mut in_force = Arc::clone(started);
    loop {
        match signals.wait() {
            Heard::Stop => return,
            Heard::Reload => {
                manager.tell_within(TELL_MANAGER, &[News::Reloading]);
                let before = Arc::clone(&in_force);
                in_force = reload(args, (started, in_force), control, redirect, surface);
                if !Arc::ptr_eq(&before, &in_force) {
                    report(reporter, &in_force);
                }
                manager.tell_within(TELL_MANAGER, &[News::Ready]);
            }
        }
    }
}

/// Reads the config again. Returns the one that is in force afterwards.
fn reload(
    args: &Args,
    (started, before): (&Config, Arc<Config>),
    control: &Control,
    redirect: &Redirect,
    surface: &SurfaceHandle,
) -> Arc<Config> {
    let path = args.config.display();
    let config = load(args).and_then(|config| Ok((wanted(&config)?, config)));
    let config = config.and_then(|(wanted, config)| {
        if config.kill.by == before.kill.by {
            Ok((wanted, Arc::new(config)))
        } else {
            Err("kill.by cannot change while the sidecar runs".to_owned())
        }
    });
    let (wanted, config) = match config {
        Ok(read) => read,
        Err(problem) => {
            surface.tell_reload(false);
            tracing::error!(
                event = "reload_refused", config = %path, %problem,
                "reload: bad config; the sidecar keeps the old one"
            );
            return before;
        }
    };
    let (answer, in_force) = oneshot::channel();
    if !control.tell(Command::Reload(Arc::clone(&config), answer)) {
        surface.tell_reload(false);
        tracing::warn!(
            event = "reload_refused", config = %path, problem = "too many reloads at once",
            "reload: too many at once; this one was dropped, send SIGHUP again"
        );
        return before;
    }
    redirect.want(wanted);
    surface.reloaded(&config);
    wait_for(in_force);
    surface.tell_reload(true);
    let changes = Changes::of_reload(started, &before, &config);
    tracing::info!(
        event = "reloaded", config = %path, now = changes.now.len(), at_start = changes.at_start.len(),
        "reload: {}", changes.told()
    );
    config
}

/// Waits until the loop has taken the config, or has no more time for it.
fn wait_for(mut in_force: oneshot::Receiver<()>) {
    let began = Instant::now();
    while in_force.try_recv() == Err(TryRecvError::Empty) && began.elapsed() < IN_FORCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn load(args: &Args) -> Result<Config, String> {
    read::load_for(&args.config, args.shard.as_deref()).map_err(|problems| problems.to_string())
}

/// What the adopter looks for; a sentence if this version cannot watch such a target.
fn wanted(config: &Config) -> Result<Wanted, String> {
    Wanted::of(config).map_err(|why| format!("target: {why}"))
}

fn cannot_start(what: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("shard-watchdog: cannot {what}: {error}");
    ExitCode::from(CANNOT_START)
}
