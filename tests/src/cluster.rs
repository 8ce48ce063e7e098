//! A whole cluster: supervised shards with their sidecars, and a coordinator that runs blocks over
//! them repeatedly.

mod at_work;
mod coordinator;
mod rule;
mod shard;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::proxy::Proxy;
use crate::sidecar::{Settings, Sidecar};
use crate::{blocks, faults, sweep, wait};

pub use coordinator::{Coordinator, Verified};
pub use shard::Shard;

/// What a scenario needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many shards.
    pub shards: usize,
    /// Settings of the shards' sidecars.
    pub settings: Settings,
    /// Whether shards have sidecars at all.
    pub watched: bool,
    /// A shard whose sidecar is not started by its supervisor but runs separately, under a strain.
    pub strained: Option<(usize, Strain)>,
    /// Further arguments of each shard.
    pub shard_arguments: Vec<String>,
    /// Shards that the coordinator reaches through a proxy.
    pub proxied: Vec<usize>,
    /// `--block-deadline` of the coordinator.
    pub block_deadline: String,
    /// Whether a coordinator runs blocks.
    pub coordinator: bool,
    /// The sidecar of the coordinator, which then runs under a supervisor too.
    pub coordinator_sidecar: Option<Settings>,
    /// Blocks to run.
    pub blocks: Blocks,
    /// Further arguments of `supervise`, before `--`.
    pub supervise: Vec<String>,
    /// Whether shards and coordinator serve `/metrics`.
    pub metrics: bool,
    /// Further environment variables of every process that is started.
    pub environment: Vec<(String, String)>,
    /// Whether output goes to files instead of pipes, so that no reader disturbs timings.
    pub quiet_output: bool,
}

/// Which blocks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// What [`blocks::any`] finds.
    Any,
    /// A generated chain.
    Generated {
        /// Number of blocks in the chain.
        blocks: u32,
        /// Transactions in each block.
        transactions: u32,
    },
}

/// What makes life hard for a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// Its standard error is full and nothing reads it.
    UnreadLogs,
    /// Its evidence directory is a tiny filesystem, visible to it alone. Needs root.
    TinyDisk,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shards: 2,
            settings: Settings::default(),
            watched: true,
            strained: None,
            shard_arguments: Vec::new(),
            proxied: Vec::new(),
            block_deadline: "20s".to_owned(),
            coordinator: true,
            coordinator_sidecar: None,
            blocks: Blocks::Any,
            supervise: Vec::new(),
            metrics: false,
            environment: Vec::new(),
            quiet_output: false,
        }
    }
}

impl Plan {
    /// For faults that the coordinator must detect by itself: its deadlines expire long before a
    /// sidecar reaches a verdict. The blocks are small, so that even a busy machine meets the
    /// deadlines easily.
    pub fn coordinator_first() -> Self {
        Self {
            settings: Settings { stall_after: "20s".to_owned(), ..Settings::default() },
            block_deadline: "8s".to_owned(),
            blocks: Blocks::Generated { blocks: 10, transactions: 40 },
            ..Self::default()
        }
    }
}

/// Everything that was started. Dropping it ends all of it.
#[derive(Debug)]
pub struct Cluster {
    coordinator: Option<Coordinator>,
    /// The shards, indexed by number.
    pub shards: Vec<Shard>,
    proxies: Vec<(usize, Proxy)>,
    plan: Plan,
    mark: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts what `plan` describes, and waits until every sidecar watches its shard and a first
    /// block is verified.
    #[track_caller]
    pub fn start(plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let plan = plan.clone();
        let mut cluster =
            Self { coordinator: None, shards: Vec::new(), proxies: Vec::new(), plan, mark, folder };
        for number in 0..cluster.plan.shards {
            let shard = Shard::start(number, &cluster.plan, cluster.folder.path(), &cluster.mark);
            if cluster.plan.proxied.contains(&number) {
                cluster.proxies.push((number, Proxy::start(shard.listen)));
            }
            cluster.shards.push(shard);
        }
        if cluster.plan.watched {
            for shard in &mut cluster.shards {
                wait::until("a sidecar that watches", || {
                    let status = shard.sidecar.status()?;
                    (status["pid"].is_i64() && status["verdict"] != "unguarded").then_some(())
                });
                shard.first_pid = shard.sidecar.pid();
            }
        }
        if cluster.plan.coordinator {
            let blocks = cluster.blocks();
            let deadline = cluster.plan.block_deadline.clone();
            cluster.run_blocks(&blocks, &deadline);
            cluster.verified_after(0);
        }
        cluster
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The blocks that the plan asks for.
    #[track_caller]
    pub fn blocks(&self) -> PathBuf {
        match self.plan.blocks {
            Blocks::Any => blocks::any(self.folder()),
            Blocks::Generated { blocks, transactions } => {
                blocks::generated(self.folder(), blocks, transactions)
            }
        }
    }

    /// Starts a coordinator that runs `blocks` until it is told to stop.
    #[track_caller]
    pub fn run_blocks(&mut self, blocks: &Path, deadline: &str) {
        let address = |(number, shard): (usize, &Shard)| {
            let proxy = self.proxies.iter().find(|(of, _)| *of == number);
            proxy.map_or(shard.listen, |(_, proxy)| proxy.address).to_string()
        };
        let shards: Vec<_> = self.shards.iter().enumerate().map(address).collect();
        let settings = self.plan.coordinator_sidecar.as_ref();
        let coordinator = Coordinator::start(
            &shards,
            blocks,
            deadline,
            settings,
            &self.plan,
            self.folder.path(),
            &self.mark,
        );
        self.coordinator = Some(coordinator);
    }

    /// The coordinator.
    #[track_caller]
    pub fn coordinator(&self) -> &Coordinator {
        self.coordinator.as_ref().expect("this cluster has a coordinator")
    }

    /// The coordinator, mutable so that it can be waited for or ended.
    #[track_caller]
    pub fn coordinator_mut(&mut self) -> &mut Coordinator {
        self.coordinator.as_mut().expect("this cluster has a coordinator")
    }

    /// The proxy between the coordinator and shard `number`.
    #[track_caller]
    pub fn proxy(&self, number: usize) -> &Proxy {
        let found = self.proxies.iter().find(|(of, _)| *of == number);
        &found.expect("this shard has a proxy").1
    }

    /// Waits for the first block verified after `at`. A wrong block before it fails the test.
    #[track_caller]
    pub fn verified_after(&self, at: u64) -> Verified {
        self.coordinator().verified_after(at)
    }

    /// How many blocks have been verified so far. A wrong one fails the test.
    #[track_caller]
    pub fn verified(&self) -> usize {
        self.coordinator().verified().len()
    }

    /// Arms a fault in shard `number`, waits until it fires, and returns when it fired.
    #[track_caller]
    pub fn inject(&self, number: usize, orders: &[&str]) -> u64 {
        let shard = &self.shards[number];
        let from = shard.supervisor.line_count();
        faults::order(&shard.faults, orders);
        shard.supervisor.line("the fault", from, faults::fired_at)
    }

    /// Like [`Self::inject`], for the coordinator.
    #[track_caller]
    pub fn inject_coordinator(&self, orders: &[&str]) -> u64 {
        let coordinator = self.coordinator();
        let from = coordinator.process.line_count();
        faults::order(&coordinator.faults, orders);
        coordinator.process.line("the fault", from, faults::fired_at)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let of_coordinator =
                self.coordinator.as_ref().and_then(|coordinator| coordinator.sidecar.as_ref());
            let of_shards = self.shards.iter().map(|shard| &shard.sidecar);
            of_shards.filter(|_| self.plan.watched).chain(of_coordinator).for_each(tell);
        }
        self.coordinator = None;
        for shard in &self.shards {
            shard.supervisor.signal(rustix::process::Signal::TERM);
        }
        self.shards.clear();
        sweep::sweep(&self.mark);
    }
}

/// Prints what a person wants to know about a sidecar after a failed scenario.
fn tell(sidecar: &Sidecar) {
    let status = sidecar.status().unwrap_or_default();
    eprintln!("--- {}: {} because {}", status["shard"], status["verdict"], status["reason"]);
    for incident in sidecar.incidents().iter().rev().take(3) {
        eprintln!("    {}: {}, {}", incident["id"], incident["status"], incident["why"]);
    }
}
