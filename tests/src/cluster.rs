//! A whole cluster: supervised shards with their sidecars, and a coordinator that runs blocks over them again and
//! again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, blocks, faults, sweep, wait};

/// What a scenario asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many shards.
    pub shards: usize,
    /// Their sidecars.
    pub settings: Settings,
    /// `--block-deadline` of the coordinator.
    pub block_deadline: String,
    /// Whether a coordinator runs blocks.
    pub coordinator: bool,
    /// Blocks to run; `None` takes what [`blocks::any`] finds.
    pub blocks: Option<PathBuf>,
    /// Further arguments of `supervise`, before `--`.
    pub supervise: Vec<String>,
    /// Whether output goes through files instead of pipes, so that no reader disturbs what is timed.
    pub quiet_output: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shards: 2,
            settings: Settings::default(),
            block_deadline: "20s".to_owned(),
            coordinator: true,
            blocks: None,
            supervise: Vec::new(),
            quiet_output: false,
        }
    }
}

/// One shard, its supervisor and its sidecar.
#[derive(Debug)]
pub struct Shard {
    /// The supervisor, which started the other two.
    pub supervisor: Process,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the shard listens for the coordinator.
    pub listen: SocketAddr,
    /// Its fault port.
    pub faults: SocketAddr,
}

/// A verified block, as the coordinator told it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its number.
    pub block: u64,
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub at: u64,
}

/// Everything that was started. Dropping it ends all of it.
#[derive(Debug)]
pub struct Cluster {
    coordinator: Option<Process>,
    /// By number.
    pub shards: Vec<Shard>,
    mark: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts what `plan` asks for, and waits until every sidecar watches its shard and a first block is verified.
    #[track_caller]
    pub fn start(plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut cluster = Self { coordinator: None, shards: Vec::new(), mark, folder };
        for number in 0..plan.shards {
            let shard = cluster.shard(number, plan);
            cluster.shards.push(shard);
        }
        for shard in &cluster.shards {
            wait::until("a sidecar that watches", || {
                let status = shard.sidecar.status()?;
                (status["pid"].is_i64() && status["verdict"] != "unguarded").then_some(())
            });
        }
        if plan.coordinator {
            let blocks = plan.blocks.clone().unwrap_or_else(|| blocks::any(cluster.folder.path()));
            cluster.run_blocks(&blocks, &plan.block_deadline);
            cluster.verified_after(0);
        }
        cluster
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn shard(&self, number: usize, plan: &Plan) -> Shard {
        let name = number.to_string();
        let sidecar =
            Sidecar::configure(self.folder.path(), &name, &format!("exec-s{number}"), &plan.settings);
        let (listen, faults) = (api::free_address(), api::free_address());
        let mut command = Command::new(binary("shard-watchdog"));
        command
            .args(["supervise", "--config"])
            .arg(&sidecar.config)
            .args(&plan.supervise)
            .arg("--")
            .arg(binary("shard-executor"))
            .args(["shard", "--id", &name, "--listen", &listen.to_string()])
            .arg("--heartbeat")
            .arg(&sidecar.heartbeat)
            .args(["--faults", &faults.to_string()])
            .env("SHARD_WATCHDOG_THREAD_EVENTS", &plan.settings.thread_events)
            .envs(plan.settings.watch_priority.as_ref().map(|p| ("SHARD_WATCHDOG_WATCH_PRIORITY", p)))
            .env(sweep::MARK, &self.mark);
        let title = format!("shard {number}");
        let supervisor = if plan.quiet_output {
            Process::start_into_file(&title, command, &self.folder.path().join(format!("{name}.out")))
        } else {
            Process::start(&title, command)
        };
        Shard { supervisor, sidecar, listen, faults }
    }

    /// Starts a coordinator that runs `blocks` until it is told to stop.
    #[track_caller]
    pub fn run_blocks(&mut self, blocks: &Path, deadline: &str) {
        let addresses: Vec<_> = self.shards.iter().map(|shard| shard.listen.to_string()).collect();
        let mut command = Command::new(binary("shard-executor"));
        command
            .args(["coordinator", "--shards", &addresses.join(","), "--blocks"])
            .arg(blocks)
            .args(["--block-deadline", deadline, "--repeat", "0", "--json"])
            .env(sweep::MARK, &self.mark);
        self.coordinator = Some(Process::start("coordinator", command));
    }

    /// The coordinator.
    #[track_caller]
    pub fn coordinator(&mut self) -> &mut Process {
        self.coordinator.as_mut().expect("this cluster has a coordinator")
    }

    /// Waits for the first block that was verified after `at`; a wrong block on the way fails the test.
    #[track_caller]
    pub fn verified_after(&mut self, at: u64) -> Verified {
        let coordinator = self.coordinator.as_ref().expect("this cluster has a coordinator");
        coordinator.line("a verified block", 0, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            if line["event"] != "block" {
                return None;
            }
            assert_eq!(line["verified"], true, "a block was wrong: {line}");
            let when = line["at_monotonic_ns"].as_u64()?;
            (when > at).then(|| Verified { block: line["block"].as_u64().unwrap_or_default(), at: when })
        })
    }

    /// How many blocks were verified so far; a wrong one fails the test.
    #[track_caller]
    pub fn verified(&self) -> usize {
        let coordinator = self.coordinator.as_ref().expect("this cluster has a coordinator");
        let lines = coordinator.lines();
        let blocks = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        blocks
            .filter(|line| line["event"] == "block")
            .inspect(|line| assert_eq!(line["verified"], true, "{line}"))
            .count()
    }

    /// Arms a fault in shard `number` and waits until it fires. Returns when it did.
    #[track_caller]
    pub fn inject(&self, number: usize, orders: &[&str]) -> u64 {
        let shard = &self.shards[number];
        let from = shard.supervisor.line_count();
        faults::order(shard.faults, orders);
        shard.supervisor.line("the fault", from, faults::fired_at)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for shard in &self.shards {
                let status = shard.sidecar.status().unwrap_or_default();
                eprintln!("--- {}: {} because {}", status["shard"], status["verdict"], status["reason"]);
                for incident in shard.sidecar.incidents().iter().rev().take(3) {
                    eprintln!("    {}: {}, {}", incident["id"], incident["status"], incident["why"]);
                }
            }
        }
        self.coordinator = None;
        for shard in &self.shards {
            shard.supervisor.signal(rustix::process::Signal::TERM);
        }
        self.shards.clear();
        sweep::sweep(&self.mark);
    }
}
