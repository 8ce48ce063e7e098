//! How a coordinator is to run, and what becomes of its run.

use std::path::PathBuf;
use std::sync::Arc;

use crate::block::Block;
use crate::deadline::Deadlines;
use crate::faults::{Order, PortOptions};
use crate::net::CredentialOptions;
use crate::telemetry::Telemetry;

/// How a coordinator is to run.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// Addresses of the shards.
    pub shards: Vec<String>,
    /// What the coordinator presents to shards, and requires of them.
    pub credentials: CredentialOptions,
    /// The blocks to execute, in this order.
    pub blocks: Vec<Arc<Block>>,
    /// Path of the heartbeat segment; `None`: no heartbeat.
    pub heartbeat: Option<PathBuf>,
    /// The bounds of every wait.
    pub deadlines: Deadlines,
    /// How often a part may be dispatched again.
    pub retries: u32,
    /// The most rounds in which shards execute a block; what is stale after the last is executed in
    /// order.
    pub rounds: u32,
    /// After how many shards lost with a block, two of them with the same part, the block is
    /// withheld from shards; 0: never.
    pub poison_after: u32,
    /// File that remembers blocks withheld from shards; `None`: they are not stored.
    pub quarantine: Option<PathBuf>,
    /// How often to run all blocks; 0: until told to stop.
    pub repeat: u64,
    /// Prints one JSON object a line instead of lines for people.
    pub json: bool,
    /// The port on which tests order faults; `None`: no port.
    pub faults: Option<PortOptions>,
    /// Faults armed from the start; only together with `faults`.
    pub arm: Vec<Order>,
    /// How the process exports its telemetry.
    pub telemetry: Telemetry,
}

impl CoordinatorOptions {
    /// How many blocks there are to execute; `None` if they repeat without end.
    pub(super) fn requested_blocks(&self) -> Option<u64> {
        (self.repeat > 0).then(|| (self.blocks.len() as u64).saturating_mul(self.repeat))
    }
}

/// Whether every block came out as its header says.
pub type AllVerified = bool;
