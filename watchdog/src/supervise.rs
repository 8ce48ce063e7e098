//! An embedded supervisor, for machines that have none: keeps a command and its sidecar running.
//!
//! # Duties
//! It restarts each of them whenever it ends, whatever its code, until it is asked to stop. Then it
//! forwards the signal and exits with the command's own code. Stop, kill and restart apply to the
//! whole process group that was created for a command, so what a shell leaves behind does not
//! outlive it. It forwards other signals. It reaps whatever is handed to it, as PID 1 of a
//! container or as a subreaper. To a service manager it is the service, ready once its command was
//! started.
//!
//! # Prohibitions
//! It must never wait for anything but its children and its own signals: a log that nobody reads, a
//! sidecar that does not start or a full disk must not delay a restart. It does not judge health:
//! that is the task of the sidecar, a separate process, so that neither can take the other down.

mod backoff;
mod children;
mod family;
mod log;
mod pass_on;
mod signals;
mod ward;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shard_telemetry::service_manager::{self, News, ServiceManager};

pub use backoff::{BackoffSettings, DEFAULT_SETTLED_AFTER};
pub(crate) use signals::Signals;
pub(crate) use ward::tie_to_parent;

use crate::beats;

use family::{Family, Named};
use log::Log;
use signals::Heard;
use ward::{GIVE_UP_AFTER_SIGKILL, Gone, Ward};

/// How long a child may take by default to end after it was asked to. As in `docker stop`, and
/// below the 30 s after which a kubelet kills the whole container, so that the reported code is
/// still the child's own.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

/// Set for the children, so that they can detect that they are restarted.
const SUPERVISED: &str = "SHARD_WATCHDOG_SUPERVISED";

/// What to keep running, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The command and its arguments; at least the command.
    pub command: Vec<OsString>,
    /// The config of the sidecar to run beside it.
    pub config: Option<PathBuf>,
    /// How soon a child that has ended is started again.
    pub backoff: BackoffSettings,
    /// How long a child may take to end after it was asked to.
    pub stop_grace: Duration,
}

/// Why nothing was kept running.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The command was empty.
    #[error("there is no command to run; give one after --, such as: shard-watchdog supervise -- CMD ARG…")]
    NoCommand,
    /// The command did not start the first time.
    #[error("cannot start {command}: {source}; check its path and that it may be executed")]
    Exec {
        /// The command.
        command: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The system refused something that supervision requires.
    #[error("cannot supervise: {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl SuperviseError {
    /// The exit code, by the convention of shells.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoCommand => 2,
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            // EX_OSERR of sysexits.h, distinct from the command's own code.
            Self::System { .. } => 71,
        }
    }
}

/// Keeps the command running until asked to stop; returns its exit code. Call it from the main
/// thread: children are tied to the thread that starts them, which must not end before the process
/// does.
pub fn run(settings: &Settings) -> Result<u8, SuperviseError> {
    let refused = |what| move |source| SuperviseError::System { what, source };
    let listened: Vec<_> =
        [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT].into_iter().chain(pass_on::passed_on()).collect();
    let signals = Signals::block(&listened).map_err(refused("signals cannot be blocked"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| refused("orphans cannot be adopted")(error.into()))?;
    children::check()
        .map_err(refused("ends of children cannot be seen (waitid); in a container, allow it"))?;
    let log = Log::start().map_err(refused("no thread for the log"))?;
    let manager = ServiceManager::of_environment().unwrap_or_else(|error| {
        log.say(format_args!("{error}"));
        ServiceManager::default()
    });
    let command = settings.command.first().ok_or(SuperviseError::NoCommand)?;
    let sidecar = match &settings.config {
        Some(config) => Some(sidecar(config).map_err(refused("the path of this program is unknown"))?),
        None => None,
    };
    let mut supervisor = Supervisor {
        cmd: Ward::new("CMD", cmd(&settings.command), settings.backoff),
        sidecar: sidecar.map(|sidecar| Ward::new("sidecar", sidecar, settings.backoff)),
        stop: None,
        grace: settings.stop_grace,
        named: HashSet::new(),
        names_outside: false,
        log,
        manager: Arc::new(manager),
        rounds: Arc::default(),
    };
    supervisor.cmd.start(&supervisor.log).map_err(|source| {
        let command = command.to_string_lossy().into_owned();
        SuperviseError::Exec { command, source }
    })?;
    let (manager, rounds) = (Arc::clone(&supervisor.manager), Arc::clone(&supervisor.rounds));
    beats::start(manager, rounds, || {}).map_err(refused("no thread for the service manager"))?;
    let code = supervisor.go_round(&signals);
    supervisor.log.finish();
    Ok(code)
}

fn cmd(words: &[OsString]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or_else(OsString::new, Clone::clone));
    command.args(words).env(SUPERVISED, "1");
    not_the_service(&mut command);
    // A background process group that reads from its terminal is stopped, silently and for good.
    if io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    tie_to_parent(&mut command);
    command
}

/// Hides the service manager from a child. To the manager the supervisor is the service: a child's
/// `READY=1` or `STOPPING=1` would count for the whole service, and the manager would end the
/// supervisor because its command ends to be restarted.
fn not_the_service(command: &mut Command) {
    for variable in service_manager::VARIABLES {
        command.env_remove(variable);
    }
}

fn sidecar(config: &std::path::Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg("--config").arg(config).env(SUPERVISED, "1").stdin(Stdio::null());
    not_the_service(&mut command);
    // Standard output belongs to the command: its parser must not meet output of the sidecar there.
    command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
    tie_to_parent(&mut command);
    Ok(command)
}

/// The progress of stopping.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// The signal that was sent to the child whose turn it is.
    signal: Signal,
    /// The child whose turn it is.
    whom: Turn,
    /// When its time is up.
    until: Instant,
    /// Whether it was already killed.
    killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Cmd,
    Sidecar,
}

struct Supervisor {
    cmd: Ward,
    sidecar: Option<Ward>,
    stop: Option<Stop>,
    grace: Duration,
    /// Pid and start time of processes outside both groups that the log has named.
    named: HashSet<(i32, u64)>,
    /// The command has ended, and what it left outside its group has not been checked yet.
    names_outside: bool,
    log: Log,
    manager: Arc<ServiceManager>,
    /// Rounds so far, as the sign of life for the service manager.
    rounds: Arc<AtomicU64>,
}

impl Supervisor {
    fn go_round(&mut self, signals: &Signals) -> u8 {
        // Nothing can wake this loop: where the service manager asks for signs of life it wakes by
        // itself.
        let longest = self.manager.patience().map(beats::pause);
        loop {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.start_due();
            self.name_those_outside();
            let by_itself = longest.map(|longest| Instant::now() + longest);
            let mut wait_until = self.next_due().into_iter().chain(by_itself).min();
            // Handle all pending signals before starting anything: a restart after SIGTERM would be
            // one too many.
            while let Some(heard) = signals.wait(wait_until) {
                match heard {
                    Heard::Stop(signal) => self.told_to_stop(signal),
                    Heard::Other(signal) => {
                        pass_on::pass_on(signal, &self.cmd, self.sidecar.as_ref(), &self.log);
                    }
                    Heard::ChildEnded => {}
                }
                wait_until = Some(Instant::now());
            }
            self.reap();
            if let Some(code) = self.go_on_stopping() {
                return code;
            }
        }
    }

    fn wards(&mut self) -> impl Iterator<Item = &mut Ward> {
        std::iter::once(&mut self.cmd).chain(self.sidecar.as_mut())
    }

    fn start_due(&mut self) {
        if self.stop.is_some() {
            return;
        }
        let now = Instant::now();
        let Self { cmd, sidecar, log, .. } = self;
        for ward in std::iter::once(cmd).chain(sidecar.as_mut()) {
            if ward.due().is_some_and(|due| due <= now)
                && let Err(error) = ward.start(log)
            {
                let wait = ward.postpone();
                let name = ward.name();
                log.say(format_args!(
                    "{name} did not start: {error}; trying again in {} ms",
                    wait.as_millis()
                ));
            }
        }
    }

    fn next_due(&mut self) -> Option<Instant> {
        let looks: Vec<_> = self.wards().filter_map(|ward| ward.look_again()).collect();
        let due = match self.stop {
            // A child that has ended and only waits for its group has its own deadlines.
            Some(stop) => self.whose(stop.whom).and_then(Ward::running).map(|_| stop.until),
            None => self.wards().filter_map(|ward| ward.due()).min(),
        };
        looks.into_iter().chain(due).min()
    }

    fn whose(&self, turn: Turn) -> Option<&Ward> {
        match turn {
            Turn::Cmd => Some(&self.cmd),
            Turn::Sidecar => self.sidecar.as_ref(),
        }
    }

    /// Handles every child that has ended: the two that are kept running, each after its group, and
    /// those whose parent died.
    fn reap(&mut self) {
        loop {
            self.settle();
            // A child that waits for its group hides the others: they wait with it, for a bounded
            // time.
            if self.wards().any(|ward| ward.look_again().is_some()) {
                return;
            }
            let Some(pid) = children::any_ended() else { return };
            if self.wards().all(|ward| ward.pid() != Some(pid)) {
                children::reap(pid);
            }
        }
    }

    fn settle(&mut self) {
        let stop = self.stop;
        let grace = self.grace;
        let wards: Vec<_> = self.wards().filter_map(|ward| ward.pid()).collect();
        let Self { cmd, sidecar, names_outside, log, .. } = self;
        for (turn, ward) in [(Turn::Cmd, Some(cmd)), (Turn::Sidecar, sidecar.as_mut())] {
            let Some(ward) = ward else { continue };
            let of_stop = stop.filter(|stop| stop.whom == turn).map(|stop| (stop.until, stop.signal));
            let Some(Gone { pid, how }) = ward.settle(of_stop, grace, &wards, log) else { continue };
            *names_outside |= turn == Turn::Cmd;
            let (name, number) = (ward.name(), pid.as_raw_nonzero());
            let restart = match stop {
                Some(_) => String::new(),
                None => format!("; restarting in {} ms", ward.postpone().as_millis()),
            };
            match how {
                Some((how, lived)) => {
                    let lived = lived.as_secs_f64();
                    log.say(format_args!("{name} pid {number} ended ({how}) after {lived:.1} s{restart}"));
                }
                None => log.say(format_args!("{name} pid {number} and its group are gone{restart}")),
            }
        }
    }

    /// Names, once, the processes that the command has put outside its group: they live on, and may
    /// hold what the next one needs. Runs after the restart, which does not wait for the search.
    fn name_those_outside(&mut self) {
        if !std::mem::take(&mut self.names_outside) {
            return;
        }
        let wards: Vec<_> = self.wards().filter_map(|ward| ward.pid()).collect();
        if children::are_only(&wards) {
            self.named.clear();
            return;
        }
        let Ok(family) = Family::read(Path::new("/proc")) else { return };
        let outside = family.children_outside(rustix::process::getpid(), &wards);
        let new: Vec<_> =
            outside.iter().filter(|one| !self.named.contains(&(one.pid, one.start))).cloned().collect();
        // Processes that have ended are dropped.
        self.named = outside.iter().map(|one| (one.pid, one.start)).collect();
        if !new.is_empty() {
            self.log.say(format_args!(
                "left running, because outside of the process group of CMD: {}; stop them by hand if they hold what CMD needs",
                Named(&new)
            ));
        }
    }

    fn told_to_stop(&mut self, signal: Signal) {
        let name = crate::signals::name(signal);
        if self.stop.is_some() {
            self.log.say(format_args!("{name} again: killing what is left"));
            self.wards().for_each(|ward| ward.signal_group(Signal::KILL));
            let until = Instant::now() + GIVE_UP_AFTER_SIGKILL;
            self.stop = self.stop.map(|stop| Stop { until, killed: true, ..stop });
            return;
        }
        let grace = self.grace.as_secs_f64();
        self.log.say(format_args!("{name}: passed on to CMD, which has {grace:.0} s to end"));
        self.manager.tell(&[News::Stopping]);
        self.cmd.signal_group(signal);
        let until = Instant::now() + self.grace;
        self.stop = Some(Stop { signal, whom: Turn::Cmd, until, killed: false });
    }

    /// Advances the stop by one step. Returns the exit code once there is nothing left to wait for.
    fn go_on_stopping(&mut self) -> Option<u8> {
        let stop = self.stop?;
        let now = Instant::now();
        let up = stop.until <= now;
        let waited_for = match stop.whom {
            Turn::Cmd => Some(&mut self.cmd),
            Turn::Sidecar => self.sidecar.as_mut(),
        };
        match waited_for.filter(|ward| ward.pid().is_some()) {
            Some(ward) if ward.running().is_none() || !up => return None,
            Some(ward) if !stop.killed => {
                self.log.say(format_args!("{} did not end in time: SIGKILL", ward.name()));
                ward.signal_group(Signal::KILL);
                self.stop = Some(Stop { until: now + GIVE_UP_AFTER_SIGKILL, killed: true, ..stop });
                return None;
            }
            Some(ward) => {
                self.log.say(format_args!("{} is not dead after SIGKILL; leaving it behind", ward.name()));
            }
            None => {}
        }
        if stop.whom == Turn::Cmd
            && let Some(sidecar) = self.sidecar.as_mut().filter(|ward| ward.pid().is_some())
        {
            // After the command, so that the sidecar still observes the command's end correctly.
            let signal = Signal::TERM;
            sidecar.signal_group(signal);
            let until = now + self.grace;
            self.stop = Some(Stop { signal, whom: Turn::Sidecar, until, killed: false });
            return None;
        }
        Some(self.cmd.exit_code())
    }
}
