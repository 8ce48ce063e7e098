//! A supervised puppet with its sidecar.

use std::net::SocketAddr;
use std::process::Command;

use super::{Answer, THREAD, order};
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, sweep};

/// Both, in a folder of their own.
#[derive(Debug)]
pub struct Stage {
    supervisor: Process,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the puppet takes orders.
    pub port: SocketAddr,
    mark: String,
    /// Held for its files.
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Starts them, and waits until the sidecar watches.
    #[track_caller]
    pub fn start(settings: &Settings) -> Self {
        Self::start_by(Command::new(binary("shard-watchdog")), settings)
    }

    /// The same for a sidecar, and a puppet, that may trace nobody who does not want it. Needs root, and `setpriv`.
    #[track_caller]
    pub fn start_without_trace(settings: &Settings) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_ptrace", "--"]).arg(binary("shard-watchdog"));
        Self::start_by(command, settings)
    }

    /// The same where no cgroup can be seen, as in a container without a mount of them. Needs root,
    /// and `unshare`.
    #[track_caller]
    pub fn start_without_cgroups(settings: &Settings) -> Self {
        let hide = "mount --make-rprivate / && umount -l /sys/fs/cgroup && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, "hide"]).arg(binary("shard-watchdog"));
        Self::start_by(command, settings)
    }

    #[track_caller]
    fn start_by(mut command: Command, settings: &Settings) -> Self {
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, settings);
        let port = api::free_address();
        let mark = format!("puppet-{}-{}", std::process::id(), port.port());
        command.args(["supervise", "--config"]).arg(&sidecar.config).arg("--");
        command.arg(binary("puppet")).arg("target").arg(&sidecar.heartbeat).arg(port.to_string());
        command.env("SHARD_WATCHDOG_THREAD_EVENTS", &settings.thread_events).env(sweep::MARK, &mark);
        let supervisor = Process::start("supervisor of the puppet", command);
        sidecar.wait_for("healthy");
        Self { supervisor, sidecar, port, mark, _folder: folder }
    }

    /// Gives the puppet an order.
    #[track_caller]
    pub fn order(&self, line: &str) -> Answer {
        order(self.port, line)
    }

    /// Gives it an order after which it may be gone before it can answer.
    pub fn order_unanswered(&self, line: &str) {
        super::order_unanswered(self.port, line);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // First whoever restarts, then who is left.
        self.supervisor.signal(rustix::process::Signal::TERM);
        let began = std::time::Instant::now();
        while self.supervisor.is_running() && began.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        sweep::sweep(&self.mark);
    }
}
