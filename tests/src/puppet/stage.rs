//! A supervised puppet with its sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::{Answer, FAULTS, THREAD, fault_socket, order};
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, sweep};

/// The two of them, in a folder of their own.
#[derive(Debug)]
pub struct Stage {
    supervisor: Process,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the puppet receives orders.
    pub port: SocketAddr,
    mark: String,
    /// Keeps their files.
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Starts both, and waits until the sidecar watches.
    #[track_caller]
    pub fn start(settings: &Settings) -> Self {
        Self::start_by(Command::new(binary("shard-watchdog")), &[], settings)
    }

    /// Like [`Self::start`], for a puppet with a fault socket, to arm its fault point `block`.
    #[track_caller]
    pub fn start_with_faults(settings: &Settings) -> Self {
        let mut command = Command::new(binary("shard-watchdog"));
        command.env(FAULTS, "1");
        Self::start_by(command, &[], settings)
    }

    /// The puppet's fault socket, if it was started with one.
    pub fn faults(&self) -> PathBuf {
        fault_socket(&self.sidecar.heartbeat)
    }

    /// Like [`Self::start`], for a puppet started through this command, such as `unshare --net`.
    #[track_caller]
    pub fn start_inside(words: &[&str], settings: &Settings) -> Self {
        Self::start_by(Command::new(binary("shard-watchdog")), words, settings)
    }

    /// Like [`Self::start`], with 8 MiB of disk for the evidence, which only they see, at its usual
    /// path. Needs root, and `unshare`.
    #[track_caller]
    pub fn start_on_a_small_disk(settings: &Settings) -> Self {
        let mount = "mount --make-rprivate / && mkdir -p \"${4%.toml}.evidence\" && \
                     mount -t tmpfs -o size=8m,mode=700 tmpfs \"${4%.toml}.evidence\" && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount, "mount"]).arg(binary("shard-watchdog"));
        Self::start_by(command, &[], settings)
    }

    /// Like [`Self::start`], for a sidecar and a puppet without the capability to trace others.
    /// Needs root, and `setpriv`.
    #[track_caller]
    pub fn start_without_trace(settings: &Settings) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_ptrace", "--"]).arg(binary("shard-watchdog"));
        Self::start_by(command, &[], settings)
    }

    /// Like [`Self::start`], where no cgroup is visible, as in a container without a cgroup mount.
    /// Needs root, and `unshare`.
    #[track_caller]
    pub fn start_without_cgroups(settings: &Settings) -> Self {
        let hide = "mount --make-rprivate / && umount -l /sys/fs/cgroup && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, "hide"]).arg(binary("shard-watchdog"));
        Self::start_by(command, &[], settings)
    }

    #[track_caller]
    fn start_by(mut command: Command, inside: &[&str], settings: &Settings) -> Self {
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, settings);
        let port = api::free_address();
        let mark = format!("puppet-{}-{}", std::process::id(), port.port());
        command.args(["supervise", "--config"]).arg(&sidecar.config).arg("--").args(inside);
        command.arg(binary("puppet")).arg("target").arg(&sidecar.heartbeat).arg(port.to_string());
        command.env("SHARD_WATCHDOG_THREAD_EVENTS", &settings.thread_events).env(sweep::MARK, &mark);
        let supervisor = Process::start("supervisor of the puppet", command);
        sidecar.wait_for("healthy");
        Self { supervisor, sidecar, port, mark, _folder: folder }
    }

    /// The pid of the sidecar.
    #[track_caller]
    pub fn watchdog(&self) -> i32 {
        self.supervisor.line("the sidecar's pid", 0, |line| {
            line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
        })
    }

    /// Sends the puppet an order.
    #[track_caller]
    pub fn order(&self, line: &str) -> Answer {
        order(self.port, line)
    }

    /// Sends it an order that may end it before it can answer.
    pub fn order_unanswered(&self, line: &str) {
        super::order_unanswered(self.port, line);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The supervisor first, since it restarts things; then whatever is left.
        self.supervisor.signal(rustix::process::Signal::TERM);
        let began = std::time::Instant::now();
        while self.supervisor.is_running() && began.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        sweep::sweep(&self.mark);
    }
}
