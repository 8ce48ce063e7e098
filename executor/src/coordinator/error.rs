//! Why a coordinator gives up.

use std::io;
use std::time::Duration;

use revm::primitives::B256;
use shard_heartbeat::{CreateError, RegisterError};

use super::quarantine::QuarantineError;
use super::step::Step;
use crate::block::BlockError;
use crate::faults::{OrderError, PortError};
use crate::net::CredentialError;
use crate::validate::ValidateError;
use crate::vm::CodecError;

/// Why a coordinator gave up. Each message ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The heartbeat segment cannot be created.
    #[error(
        "cannot create the heartbeat: {0}. Give --heartbeat a path in a folder that this user may write to, such as /run or /dev/shm, and that no running process uses"
    )]
    Heartbeat(#[from] CreateError),
    /// Told to stop before it was done.
    #[error("told to stop after {done} of {asked} blocks; the others were not executed")]
    Stopped {
        /// Blocks that were executed.
        done: u64,
        /// Blocks that were asked for.
        asked: u64,
    },
    /// The heartbeat has no free slot.
    #[error("cannot register in the heartbeat: {0}")]
    Register(#[from] RegisterError),
    /// Certificates or a token cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The fault port cannot be opened.
    #[error(transparent)]
    Faults(#[from] PortError),
    /// A fault cannot be armed.
    #[error("--arm: {0}")]
    Arm(#[from] OrderError),
    /// A block cannot be used, for instance because its state is missing.
    #[error(transparent)]
    Block(BlockError),
    /// A thread or the runtime cannot be started.
    #[error(
        "cannot start the {what}: {source}. The limit on threads or descriptors is probably reached (ulimit -u, ulimit -n)"
    )]
    Start {
        /// What did not start.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No shard can be reached.
    #[error(
        "no shard could be reached within {within:?}: {tried}. Start one with `shard-executor shard --listen ADDR …`, or correct --shards"
    )]
    NoShard {
        /// How long it tried.
        within: Duration,
        /// Each address and why it failed.
        tried: String,
    },
    /// No shard executed a part.
    #[error(
        "block {block}, part {part}: given up after {attempts} attempts, last on {shard} at step {step}: {reason}. See why that shard fails, allow more with --retries, or more time with --block-deadline"
    )]
    Retries {
        /// The block.
        block: u64,
        /// Which part of it.
        part: usize,
        /// How often it was dispatched.
        attempts: u32,
        /// The shard on which it failed last.
        shard: String,
        /// At which step it failed last.
        step: Step,
        /// How it failed last.
        reason: String,
    },
    /// A part took down every shard that executed it. The block is tried once more in a process of
    /// its own; this is the final error only if that cannot be done.
    #[error("block {block}, part {part}: {lost} shards were lost with it, the last {shard}: {reason}")]
    Killed {
        /// The block.
        block: u64,
        /// Which part of it.
        part: usize,
        /// How many shards were lost.
        lost: u32,
        /// The last of them.
        shard: String,
        /// How its loss was detected.
        reason: String,
    },
    /// A shard's watchdog withholds the block from it. Handled like [`CoordinatorError::Killed`].
    #[error(
        "block {block}: {shard} refuses it: it was in flight at more than one death of that shard, as its watchdog reports"
    )]
    Kept {
        /// The block.
        block: u64,
        /// Which shard.
        shard: String,
    },
    /// A block kills whatever process executes it.
    #[error(
        "block {block} ({hash}) ends whatever executes it: a process of its own ended with {how} after shards had been lost with it, and no shard executes it again. Look into the block and that end; {forget}"
    )]
    Poison {
        /// The block.
        block: u64,
        /// Its hash.
        hash: B256,
        /// How the process that tried it last ended.
        how: String,
        /// How to try it again.
        forget: String,
    },
    /// The process that tries a block alone cannot be started.
    #[error(
        "block {block}: shards were lost with it, and no process can be started to try it alone: {source}. See whether the folder for temporary files is full and the limit on processes reached"
    )]
    Sacrifice {
        /// The block.
        block: u64,
        /// Why.
        source: io::Error,
    },
    /// The file of blocks withheld from shards cannot be used.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// A block took too long, retries included.
    #[error(
        "block {block}: not executed within {within:?}; part {part} is missing at step {step}: {reason}. See why the shards are slow or away, or allow more with --block-deadline"
    )]
    Deadline {
        /// The block.
        block: u64,
        /// The first part that is missing.
        part: usize,
        /// The deadline.
        within: Duration,
        /// The step that the part was waiting for.
        step: Step,
        /// What it waited for, and from which shard.
        reason: String,
    },
    /// A block cannot be executed, with shards or without.
    #[error("{0}. Check that the block's file is complete")]
    NotExecuted(ValidateError),
    /// The parts of a block are too large to send.
    #[error("block {block}: a part cannot be sent: {source}. Use more shards, so that parts are smaller")]
    TooLarge {
        /// The block.
        block: u64,
        /// Why.
        source: CodecError,
    },
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl CoordinatorError {
    /// Whether the input is at fault, as opposed to shards, network or machine.
    pub const fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Heartbeat(_)
                | Self::Register(_)
                | Self::Credentials(_)
                | Self::Faults(_)
                | Self::Arm(_)
                | Self::Block(_)
                | Self::Quarantine(_)
        )
    }
}

impl From<ValidateError> for CoordinatorError {
    fn from(error: ValidateError) -> Self {
        match error {
            ValidateError::Block(error) => Self::Block(error),
            other => Self::NotExecuted(other),
        }
    }
}
