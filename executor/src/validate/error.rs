//! Why a block could not be executed to its end.

use revm::primitives::B256;

use crate::block::BlockError;
use crate::vm::VmError;

/// Why a block could not be executed to its end.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// It has no state to run on.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A transaction could not be executed.
    #[error("block {number}, transaction {index} ({hash}): {source}")]
    Transaction {
        /// The block's number.
        number: u64,
        /// The transaction's position in the block.
        index: usize,
        /// The transaction's hash.
        hash: B256,
        /// Why.
        source: VmError,
    },
    /// A system call could not be made.
    #[error("block {number}, system calls: {source}")]
    System {
        /// The block's number.
        number: u64,
        /// Why.
        source: VmError,
    },
}
