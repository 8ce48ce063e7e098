//! The coordinator, alone or supervised and watched, and the events it prints.

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
    /// The coordinator, or its supervisor if it is watched.
    pub process: Process,
    /// The sidecar that watches it, if any.
    pub sidecar: Option<Sidecar>,
    /// The socket of its fault port.
    pub faults: PathBuf,
    /// Where it serves `/metrics`, if the plan asks for that.
    pub metrics: Option<SocketAddr>,
}

/// A verified block, as the coordinator reported it.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Block number.
    pub block: u64,
    /// When it was verified, `CLOCK_MONOTONIC` nanoseconds.
    pub at: u64,
    /// How many dispatches were not the first of their part.
    pub retries: u64,
}

impl Verified {
    /// `None` if `event` is not about a block. A wrong block fails the test.
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
    /// Starts a coordinator that runs `blocks` over `shards` until it is told to stop.
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

    /// All events so far, in order. Lines from other sources are left out.
    pub fn events(&self) -> Vec<Value> {
        self.process.lines().iter().filter_map(|line| event(line)).collect()
    }

    /// Waits for an event of this name, reported after `at`.
    #[track_caller]
    pub fn event_after(&self, name: &str, at: u64) -> Value {
        self.process.line(&format!("the event {name}"), 0, |line| {
            event(line).filter(|event| event["event"] == name && told_at(event) > at)
        })
    }

    /// Waits for the first block verified after `at`. A wrong block before it fails the test.
    #[track_caller]
    pub fn verified_after(&self, at: u64) -> Verified {
        self.process.line("a verified block", 0, |line| {
            Verified::read(&event(line)?).filter(|verified| verified.at > at)
        })
    }

    /// Waits for the first time after `at` that this block is verified.
    #[track_caller]
    pub fn verified_block_after(&self, block: u64, at: u64) -> Verified {
        self.process.line(&format!("block {block} verified"), 0, |line| {
            Verified::read(&event(line)?).filter(|verified| verified.at > at && verified.block == block)
        })
    }

    /// All verified blocks so far, in the order reported.
    #[track_caller]
    pub fn verified(&self) -> Vec<Verified> {
        self.events().iter().filter_map(Verified::read).collect()
    }
}

/// When an event was reported, `CLOCK_MONOTONIC` nanoseconds; zero if it carries no time.
pub fn told_at(event: &Value) -> u64 {
    event["at_monotonic_ns"].as_u64().unwrap_or_default()
}

fn event(line: &str) -> Option<Value> {
    // The sidecar's logs are JSON too, but have no such time.
    serde_json::from_str::<Value>(line).ok().filter(|event| event["at_monotonic_ns"].is_u64())
}
