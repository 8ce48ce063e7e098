//! Why there is no file for a block.

use std::path::PathBuf;

use super::client::RpcError;
use super::missing::Missing;
use crate::block::BlockError;
use crate::validate::{Mismatch, ValidateError};

/// Why there is no file for a block.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The node does not answer as it should.
    #[error("{0}")]
    Node(#[from] RpcError),
    /// The parts do not fit together, or are not what they should be.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A saved answer cannot be used.
    #[error("{}: {reason}", path.display())]
    Saved {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do next.
        reason: String,
    },
    /// The witness does not prove what the block reads.
    #[error("block {number}: {reason}")]
    Witness {
        /// The block.
        number: u64,
        /// What is wrong, and what to do next.
        reason: String,
    },
    /// The state before the block is not fully known.
    #[error("block {number}: {missing}")]
    Missing {
        /// The block.
        number: u64,
        /// What is missing.
        missing: Box<Missing>,
    },
    /// The block does not come out as its header says.
    #[error("block {number} does not verify, so no file is written: {mismatch}{guess}")]
    Wrong {
        /// The block.
        number: u64,
        /// How it differs.
        mismatch: Box<Mismatch>,
        /// A possible reason, beginning with a punctuation mark.
        guess: String,
    },
    /// The block cannot be executed.
    #[error("{0}")]
    Execution(ValidateError),
}
