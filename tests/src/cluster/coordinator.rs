//! The coordinator, alone or under a supervisor and watched, and what it says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Plan;
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::{api, sweep};

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// It, or its supervisor if it is watched.
    pub process: Process,
    /// Who watches it.
    pub sidecar: Option<Sidecar>,
    /// The socket of its fault port.
    pub faults: PathBuf,
    /// Where it serves `/metrics`, if the plan says so.
    pub metrics: Option<SocketAddr>,
}

/// A verified block, as the coordinator told it.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Its number.
    pub block: u64,
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub at: u64,
    /// How many dispatches were not the first of their part.
    pub retries: u64,
}

impl Verified {
    /// `None`: `event` is not about a block. A wrong block fails the test.
    fn read(event: &Value) -> Option<Self> {
        if event["event"] != "block" {
            return None;
        }
        assert_eq!(event["verified"], true, "a block was wrong: {event}");
        Some(Self {
            block: event["block"].as_u64().unwrap_or_default(),
            at: event["at_monotonic_ns"].as_u64()?,
            retries: event["retries"].as_u64().unwrap_or_default(),
        })
    }
}

impl Coordinator {
    /// Starts one that runs `blocks` over `shards` until it is told to stop.
    #[track_caller]
    pub(super) fn start(
        shards: &[String],
        blocks: &Path,
        deadline: &str,
        watched: Option<&Settings>,
        plan: &Plan,
        folder: &Path,
        mark: &str,
    ) -> Self {
        let sidecar = watched.map(|settings| Sidecar::configure(folder, "coordinator", "coord", settings));
        let faults = folder.join("coordinator.faults");
        let metrics = plan.metrics.then(api::free_address);
        let mut command = match &sidecar {
            None => Command::new(binary("shard-executor")),
            Some(sidecar) => {
                let mut command = Command::new(binary("shard-watchdog"));
                command.args(["supervise", "--config"]).arg(&sidecar.config);
                command.arg("--").arg(binary("shard-executor"));
                command
            }
        };
        command
            .args(["coordinator", "--shards", &shards.join(","), "--blocks"])
            .arg(blocks)
            .args(["--block-deadline", deadline, "--repeat", "0", "--json"])
            .arg("--faults")
            .arg(&faults)
            .args(metrics.iter().flat_map(|address| ["--metrics".to_owned(), address.to_string()]))
            .envs(plan.environment.iter().cloned())
            .env(sweep::MARK, mark);
        if let Some(sidecar) = &sidecar {
            command.arg("--heartbeat").arg(&sidecar.heartbeat);
        }
        Self { process: Process::start("coordinator", command), sidecar, faults, metrics }
    }

    /// Everything that it told so far, in order. Lines of others in between are left out.
    pub fn events(&self) -> Vec<Value> {
        self.process.lines().iter().filter_map(|line| event(line)).collect()
    }

    /// Waits for an event of that name, told after `at`.
    #[track_caller]
    pub fn event_after(&self, name: &str, at: u64) -> Value {
        self.process.line(&format!("the event {name}"), 0, |line| {
            event(line).filter(|event| event["event"] == name && told_at(event) > at)
        })
    }

    /// Waits for the first block that was verified after `at`; a wrong block on the way fails the
    /// test.
    #[track_caller]
    pub fn verified_after(&self, at: u64) -> Verified {
        self.process.line("a verified block", 0, |line| {
            Verified::read(&event(line)?).filter(|verified| verified.at > at)
        })
    }

    /// Waits until that block is verified, for the first time after `at`.
    #[track_caller]
    pub fn verified_block_after(&self, block: u64, at: u64) -> Verified {
        self.process.line(&format!("block {block} verified"), 0, |line| {
            Verified::read(&event(line)?).filter(|verified| verified.at > at && verified.block == block)
        })
    }

    /// All blocks so far, in the order in which they were told.
    #[track_caller]
    pub fn verified(&self) -> Vec<Verified> {
        self.events().iter().filter_map(Verified::read).collect()
    }
}

/// When an event was told.
pub fn told_at(event: &Value) -> u64 {
    event["at_monotonic_ns"].as_u64().unwrap_or_default()
}

fn event(line: &str) -> Option<Value> {
    // Logs of the sidecar are JSON too, and have no such time.
    serde_json::from_str::<Value>(line).ok().filter(|event| event["at_monotonic_ns"].is_u64())
}
