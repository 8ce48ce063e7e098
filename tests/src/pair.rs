//! A sidecar and a target that share nothing but the segment, each started in whatever surroundings
//! a scenario chooses.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Process, binary};
use crate::puppet::{THREAD, order, order_unanswered};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);

/// A target and its sidecar. Dropping it ends both.
#[derive(Debug)]
pub struct Pair {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the target receives orders.
    pub port: SocketAddr,
    /// The processes in the order in which they were started.
    pub running: Vec<Process>,
    /// The folder of their files.
    pub folder: tempfile::TempDir,
}

impl Pair {
    /// Writes the config without starting anything.
    #[track_caller]
    pub fn configure() -> Self {
        Self::configure_with(&Settings::default())
    }

    /// The same with these settings.
    #[track_caller]
    pub fn configure_with(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, settings);
        Self { sidecar, port: api::free_address(), running: Vec::new(), folder }
    }

    /// The puppet's arguments.
    pub fn target(&self) -> [String; 3] {
        ["target".to_owned(), self.sidecar.heartbeat.display().to_string(), self.port.to_string()]
    }

    /// Starts the target. The command must end with the puppet's name; its arguments are appended.
    #[track_caller]
    pub fn start_target(&mut self, mut command: Command) {
        command.args(self.target());
        self.running.push(Process::start("target", command));
        order(self.port, "rename exec-s0");
    }

    /// Starts the sidecar. The command must end with its name; its arguments are appended.
    #[track_caller]
    pub fn start_sidecar(&mut self, mut command: Command) {
        command.arg("run").arg("--config").arg(&self.sidecar.config);
        self.running.push(Process::start("sidecar", command));
    }

    /// Asserts that the target is left alone while it is well, then loses its thread and is killed
    /// for it. Returns the incident.
    #[track_caller]
    pub fn watched(&self) -> Value {
        self.sidecar.wait_for("healthy");
        wait::holds_for(A_WHILE, "nobody is killed", || self.sidecar.incidents().is_empty());
        order_unanswered(self.port, "lose");
        let incident = self.sidecar.incident_with("exited");
        assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
        assert_eq!(incident["thread"]["name"], THREAD, "{incident:#}");
        incident
    }

    /// Waits until the sidecar reports, for a reason that contains `says`, that it watches nobody.
    #[track_caller]
    pub fn refused(&self, says: &str) -> Value {
        wait::until(&format!("a refusal that says {says:?}, not {:?}", self.sidecar.status()), || {
            self.sidecar.status().filter(|status| {
                status["verdict"] == "unguarded"
                    && status["reason"].as_str().unwrap_or_default().contains(says)
            })
        })
    }
}

/// A command that runs a program in new namespaces of these kinds.
pub fn unshare(kinds: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(kinds).arg("--").arg(program);
    command
}

/// The puppet in a mount namespace in which the file `id` replaces the machine's boot id.
pub fn under_boot_id(id: &Path) -> Command {
    const BOOT: &str = r#"mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", BOOT, "boot"]).arg(id);
    command.arg(binary("puppet"));
    command
}

/// A sidecar for which `garbage` covers the kernel's files about one thread, so that nothing shows
/// whether that thread lives or works.
pub fn blind_for(pid: i32, tid: i32, garbage: &Path) -> Command {
    const COVER: &str =
        r#"for file in stat status; do mount --bind "$1" "$2/$file"; done; shift 2; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", COVER, "cover"]).arg(garbage);
    command.arg(format!("/proc/{pid}/task/{tid}")).arg(binary("shard-watchdog"));
    command
}

/// A copy of the puppet under a name that the kernel truncates inside a character.
#[track_caller]
pub fn odd_executable(folder: &Path) -> PathBuf {
    let program = folder.join("исполнитель-блоков");
    std::fs::copy(binary("puppet"), &program).expect("a copy in a folder of the test's own");
    program
}
