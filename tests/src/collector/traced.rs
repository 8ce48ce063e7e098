//! A target of the harness's own that reports which trace its work belongs to, with a supervisor
//! and a separately started sidecar.
//!
//! There are no blocks and no coordinator: what a sidecar sends does not depend on them, and the
//! machine stays quiet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, TraceContext, Work};

use crate::api;
use crate::clock::monotonic_ns;
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::wait;

/// Name of the thread that works.
const THREAD: &str = "exec-traced";
/// A file of this name in the target's folder orders it to lose the thread. The target removes the
/// file first.
const LOSE: &str = "lose";
/// While this file exists, a starting target waits.
const HOLD: &str = "hold";
/// While this file exists, a starting target has a segment, reports that it is booting, and has no
/// thread yet.
const BOOT: &str = "boot";
/// A file of this name orders the target to stop in the middle of a piece of work. The target
/// removes the file first.
const STAND: &str = "stand";
/// The deadline that a piece of work sets itself before it stops making progress.
pub const DEADLINE: Duration = Duration::from_millis(300);

/// The trace that work with this key belongs to.
pub fn trace_of(key: u64) -> TraceContext {
    let mut trace_id = [0x5a; 16];
    trace_id[8..].copy_from_slice(&key.to_be_bytes());
    TraceContext { trace_id, span_id: (key | 1 << 63).to_be_bytes(), flags: 1 }
}

/// What the program `traced-target` does: works on one block after another and, on order, loses its
/// thread in the middle of one.
#[derive(Debug)]
pub struct TracedTarget {
    folder: PathBuf,
    heartbeat: PathBuf,
}

impl TracedTarget {
    /// Name of the target's working thread.
    pub const THREAD: &str = THREAD;

    /// A target that takes its orders from `folder`.
    pub const fn new(folder: PathBuf, heartbeat: PathBuf) -> Self {
        Self { folder, heartbeat }
    }

    /// Works until somebody ends it.
    pub fn run(&self) {
        /// Short compared with every threshold, yet few wake-ups.
        const BLOCK: Duration = Duration::from_millis(5);
        while self.folder.join(HOLD).exists() {
            std::thread::sleep(BLOCK);
        }
        // A segment is named after its shard.
        let shard = self.heartbeat.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let heartbeat = Heartbeat::create(&self.heartbeat, &SegmentOptions::new(shard)).expect("a segment");
        while self.folder.join(BOOT).exists() {
            std::thread::sleep(BLOCK);
        }
        heartbeat.set_state(ProcessState::Running);
        std::thread::scope(|scope| {
            let work = || {
                let thread = heartbeat.register(THREAD).expect("a slot");
                for block in 1.. {
                    let _working = thread.working(Work::new(block).attempt(2).trace(trace_of(block)));
                    std::thread::sleep(BLOCK);
                    if std::fs::remove_file(self.folder.join(STAND)).is_ok() {
                        let _stands = thread.working(Work::new(block).deadline(DEADLINE));
                        println!("fault stand fired at_monotonic_ns={}", monotonic_ns());
                        loop {
                            std::thread::park();
                        }
                    }
                    if std::fs::remove_file(self.folder.join(LOSE)).is_ok() {
                        println!("fault lose fired at_monotonic_ns={}", monotonic_ns());
                        std::panic::resume_unwind(Box::new("told to"));
                    }
                }
            };
            let worker = std::thread::Builder::new().name(THREAD.to_owned());
            // The process lives on without the thread: that is the fault.
            let _ = worker.spawn_scoped(scope, work).expect("a thread").join();
            loop {
                std::thread::park();
            }
        });
    }
}

/// A supervised target with a sidecar.
#[derive(Debug)]
pub struct Traced {
    supervisor: Process,
    /// Runs separately, so that a scenario can end it and start another.
    watchdog: Option<Process>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    /// The sidecar's config and its HTTP interface.
    pub sidecar: Sidecar,
}

impl Traced {
    /// Starts both in `folder`, the sidecar with these settings and environment variables, and
    /// waits until it watches.
    #[track_caller]
    pub fn start(folder: &Path, name: &str, settings: &Settings, variables: &[(String, String)]) -> Self {
        let mut traced = Self::begin(folder, name, settings, variables, false);
        traced.start_sidecar();
        traced
    }

    /// Starts both, with a target that stays in boot until [`Self::boots_no_longer`].
    #[track_caller]
    pub fn start_in_boot(folder: &Path, name: &str, settings: &Settings) -> Self {
        let mut traced = Self::begin(folder, name, settings, &[], true);
        traced.start_sidecar_early();
        traced
    }

    #[track_caller]
    fn begin(
        folder: &Path,
        name: &str,
        settings: &Settings,
        variables: &[(String, String)],
        boots: bool,
    ) -> Self {
        let own = folder.join(name);
        std::fs::create_dir(&own).expect("a folder of its own");
        if boots {
            std::fs::write(own.join(BOOT), "").expect("an order");
        }
        let sidecar = Sidecar::configure(folder, name, THREAD, settings);
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(["supervise", "--"]).arg(binary("traced-target")).arg(&own).arg(&sidecar.heartbeat);
        let supervisor = Process::start(&format!("supervisor {name}"), command);
        Self { supervisor, watchdog: None, variables: variables.to_vec(), folder: own, sidecar }
    }

    /// Starts the sidecar, or starts it again, and waits until it watches.
    #[track_caller]
    pub fn start_sidecar(&mut self) {
        self.start_sidecar_early();
        let sidecar = &self.sidecar;
        wait::until("a sidecar that watches", || (sidecar.verdict() == "healthy").then_some(()));
    }

    /// Starts the sidecar without waiting.
    #[track_caller]
    pub fn start_sidecar_early(&mut self) {
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(["run", "--config"]).arg(&self.sidecar.config).envs(self.variables.iter().cloned());
        self.watchdog = Some(Process::start("sidecar", command));
    }

    /// Sets the environment variables of the next sidecar, replacing the previous ones.
    pub fn set_variables(&mut self, variables: &[(String, String)]) {
        self.variables = variables.to_vec();
    }

    /// The sidecar's process.
    #[track_caller]
    pub fn watchdog(&mut self) -> &mut Process {
        self.watchdog.as_mut().expect("a sidecar runs")
    }

    /// Ends the sidecar with `signal` and waits for it to exit. No thread may panic on the way.
    #[track_caller]
    pub fn end_sidecar(&mut self, signal: Signal) -> ExitStatus {
        let mut watchdog = self.watchdog.take().expect("a sidecar runs");
        watchdog.signal(signal);
        let status = watchdog.wait("the end of the sidecar");
        let lines = watchdog.lines();
        assert!(!lines.iter().any(|line| line.contains("panicked")), "a thread panicked: {lines:#?}");
        status
    }

    /// Makes the target lose its thread, and returns when it did.
    #[track_caller]
    pub fn lose_thread(&self) -> u64 {
        let from = self.supervisor.line_count();
        std::fs::write(self.folder.join(LOSE), "").expect("an order");
        self.supervisor.line("the fault", from, crate::faults::fired_at)
    }

    /// Makes the target's thread stop in a piece of work with the deadline [`DEADLINE`], and
    /// returns when it stopped.
    #[track_caller]
    pub fn stand_still(&self) -> u64 {
        let from = self.supervisor.line_count();
        std::fs::write(self.folder.join(STAND), "").expect("an order");
        self.supervisor.line("the fault", from, crate::faults::fired_at)
    }

    /// Lets a booting target finish its boot.
    #[track_caller]
    pub fn boots_no_longer(&self) {
        std::fs::remove_file(self.folder.join(BOOT)).expect("it boots");
    }

    /// Holds every starting target until [`Self::release`].
    #[track_caller]
    pub fn hold(&self) {
        std::fs::write(self.folder.join(HOLD), "").expect("an order");
    }

    /// Lets a held target start.
    #[track_caller]
    pub fn release(&self) {
        std::fs::remove_file(self.folder.join(HOLD)).expect("it was held");
    }

    /// The value in the sidecar's `/metrics` of this name with these labels; `None` if the sidecar
    /// does not answer or has no such series.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        metric(self.sidecar.http, name, labels)
    }

    /// Resident memory of the sidecar, KiB.
    #[track_caller]
    pub fn resident_kib(&mut self) -> u64 {
        let path = format!("/proc/{}/status", self.watchdog().pid());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn metric(http: SocketAddr, name: &str, labels: &[&str]) -> Option<f64> {
    let page = api::get(http, "/metrics")?.body;
    let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let mut lines = page.lines().filter(of_name);
    lines.find(|line| labels.iter().all(|label| line.contains(label)))?.rsplit(' ').next()?.parse().ok()
}
