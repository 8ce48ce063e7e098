//! One shard with everything that belongs to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Plan, Strain};
use crate::process::{Process, binary};
use crate::sidecar::Sidecar;
use crate::{api, faults, sweep};

/// One shard, its supervisor and its sidecar.
#[derive(Debug)]
pub struct Shard {
    /// The supervisor, which started the shard and usually the sidecar.
    pub supervisor: Process,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The sidecar's process, if the supervisor did not start it.
    pub apart: Option<Process>,
    /// Where the shard listens for the coordinator.
    pub listen: SocketAddr,
    /// The socket of its fault port.
    pub faults: PathBuf,
    /// Where the shard serves `/metrics`, if the plan asks for that.
    pub metrics: Option<SocketAddr>,
    /// The shard's pid after a healthy start.
    pub first_pid: i32,
}

impl Shard {
    #[track_caller]
    pub(super) fn start(number: usize, plan: &Plan, folder: &Path, mark: &str) -> Self {
        let name = number.to_string();
        let sidecar = Sidecar::configure(folder, &name, &format!("exec-s{number}"), &plan.settings);
        let (listen, faults) = (api::free_address(), folder.join(format!("{name}.faults")));
        let metrics = plan.metrics.then(api::free_address);
        let strain = plan.strained.filter(|(of, _)| *of == number).map(|(_, strain)| strain);
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("supervise");
        if plan.watched && strain.is_none() {
            command.arg("--config").arg(&sidecar.config);
        }
        command
            .args(&plan.supervise)
            .arg("--")
            .arg(binary("shard-executor"))
            .args(["shard", "--id", &name, "--listen", &listen.to_string()])
            .arg("--heartbeat")
            .arg(&sidecar.heartbeat)
            .arg("--faults")
            .arg(&faults)
            .args(&plan.shard_arguments)
            .args(metrics.iter().flat_map(|address| ["--metrics".to_owned(), address.to_string()]))
            .envs(plan.environment.iter().cloned())
            .env("SHARD_WATCHDOG_THREAD_EVENTS", &plan.settings.thread_events)
            .envs(plan.settings.watch_priority.as_ref().map(|p| ("SHARD_WATCHDOG_WATCH_PRIORITY", p)))
            .env(sweep::MARK, mark)
            // A core file goes to the same folder as everything else.
            .current_dir(folder);
        let title = format!("shard {number}");
        let supervisor = if plan.quiet_output {
            Process::start_into_file(&title, command, &folder.join(format!("{name}.out")))
        } else {
            Process::start(&title, command)
        };
        let apart = strain.map(|strain| strained(strain, &sidecar, plan, mark));
        Self { supervisor, sidecar, apart, listen, faults, metrics, first_pid: 0 }
    }

    /// The shard's counter of this name.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        faults::counter(&self.faults, name)
    }
}

/// Starts a sidecar under a strain.
#[track_caller]
fn strained(strain: Strain, sidecar: &Sidecar, plan: &Plan, mark: &str) -> Process {
    /// In a mount namespace of its own, mounts an evidence directory with room for two pages.
    const TINY: &str = r#"mount -t tmpfs -o size=8k,mode=700 tiny "$1" && exec "$2" run --config "$3""#;
    let watchdog = binary("shard-watchdog");
    let mut command = match strain {
        Strain::UnreadLogs => {
            let mut command = Command::new(&watchdog);
            command.args(["run", "--config"]).arg(&sidecar.config);
            command
        }
        Strain::TinyDisk => {
            std::fs::create_dir(&sidecar.evidence).expect("a folder to mount on");
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation", "private", "sh", "-ec", TINY, "tiny"])
                .arg(&sidecar.evidence)
                .arg(&watchdog)
                .arg(&sidecar.config);
            command
        }
    };
    command
        .env("SHARD_WATCHDOG_THREAD_EVENTS", &plan.settings.thread_events)
        .env("SHARD_WATCHDOG_SUPERVISED", "1")
        .env(sweep::MARK, mark);
    match strain {
        Strain::UnreadLogs => Process::start_unread("sidecar apart", command),
        Strain::TinyDisk => Process::start("sidecar apart", command),
    }
}
