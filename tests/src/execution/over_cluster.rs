//! The same blocks over real processes: shards and a coordinator on loopback, without supervisors
//! or sidecars.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Times;
use crate::process::{Process, binary};
use crate::{api, faults};

/// Shards that wait for a coordinator. They end when this is dropped.
#[derive(Debug)]
pub struct Shards {
    processes: Vec<Process>,
    addresses: Vec<SocketAddr>,
}

impl Shards {
    /// Starts `count` shards, with a heartbeat each in `folder`. `slow_state`: extra latency of
    /// each state request, such as `100us`.
    ///
    /// # Panics
    /// If one does not start.
    #[track_caller]
    pub fn start(count: usize, folder: &Path, slow_state: Option<&str>) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let (mut processes, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (listen, port) = (api::free_address(), folder.join(format!("{number}.faults")));
            let mut command = Command::new(binary("shard-executor"));
            command.args([
                "shard",
                "--id",
                &number.to_string(),
                "--listen",
                &listen.to_string(),
                "--heartbeat",
            ]);
            command.arg(folder.join(format!("{number}.heartbeat")));
            if slow_state.is_some() {
                command.arg("--faults").arg(&port);
            }
            let process = Process::start(&format!("shard {number}"), command);
            process.line("listening", 0, |line| line.contains("listening on").then_some(()));
            if let Some(by) = slow_state {
                faults::order(&port, &[&format!("arm slow-state {by}")]);
            }
            processes.push(process);
            addresses.push(listen);
        }
        Self { processes, addresses }
    }

    /// Runs the blocks in `folder` over them `rounds` times. Returns the times of each block, by
    /// its number, as the coordinator reports them.
    ///
    /// # Panics
    /// If a block is wrong or not executed.
    #[track_caller]
    pub fn run(&self, folder: &Path, rounds: u32) -> Vec<(u64, Times)> {
        assert!(!self.processes.is_empty(), "there are shards");
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut command = Command::new(binary("shard-executor"));
        command.args(["coordinator", "--json", "--shards", &addresses.join(","), "--blocks"]).arg(folder);
        command.args(["--repeat", &rounds.to_string(), "--block-deadline", "60s"]);
        let mut coordinator = Process::start("coordinator", command);
        let status = coordinator.wait("all blocks");
        assert!(status.success(), "the coordinator ended with {status}");
        let mut all: Vec<(u64, Times)> = Vec::new();
        for line in coordinator.lines() {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["event"] != "block" {
                continue;
            }
            let number = event["block"].as_u64().expect("a number");
            let times = match all.iter_mut().find(|(of, _)| *of == number) {
                Some((_, times)) => times,
                None => {
                    all.push((number, Times::default()));
                    &mut all.last_mut().expect("just put there").1
                }
            };
            times.milliseconds.push(event["elapsed_ms"].as_f64().expect("a time"));
            times.again += usize::try_from(event["reexecuted"].as_u64().unwrap_or(0)).expect("a count");
        }
        all
    }
}
