//! What must be ended: a shard that will never make progress again.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::faults;
use crate::soak::fault::signal;

/// Only a kill ends each of these: the executor's hook and guard are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    name: &'static str,
    /// The order for the fault port; `None`: a stop that nobody undoes.
    order: Option<&'static str>,
}

/// All of them: rows 1, 3, 4, 5, 13, 19, 21 and 26.
pub(super) const ALL: [Stall; 8] = [
    Stall { name: "panic", order: Some("arm panic") },
    Stall { name: "exit", order: Some("arm exit") },
    Stall { name: "pool", order: Some("arm worker-panic") },
    Stall { name: "livelock", order: Some("arm spin") },
    Stall { name: "deadlock", order: Some("arm deadlock") },
    Stall { name: "zombie_leader", order: Some("arm leader-exit") },
    Stall { name: "exit_hung", order: Some("arm exit-hang") },
    Stall { name: "stopped", order: None },
];

impl Stall {
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Causes the stall. Returns false if the shard was not running.
    pub(super) fn strike(&self, cluster: &Cluster, shard: usize) -> bool {
        let shard = &cluster.shards[shard];
        match self.order {
            Some(order) => {
                let ordered = || -> std::io::Result<bool> {
                    let stream = faults::connect(&shard.faults)?;
                    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                    let mut answers = BufReader::new(stream.try_clone()?).lines();
                    for order in ["hook off", order] {
                        writeln!(&stream, "{order}")?;
                        if !answers.next().transpose()?.is_some_and(|answer| answer.starts_with("ok")) {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                };
                ordered().unwrap_or(false)
            }
            None => signal(shard, "CMD", Signal::STOP),
        }
    }
}
