//! Why the next block of a generated chain could not be made.

use crate::state::NoAnswer;
use crate::validate::{Mismatch, ValidateError};
use crate::witness::WitnessError;

/// Why the next block could not be made. Each of these is a defect of the generator.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The block could not be executed to its end.
    #[error(transparent)]
    Execution(#[from] ValidateError),
    /// The EVM refuses a transaction.
    #[error("generated block {number}: {mismatch}")]
    Invalid {
        /// The block.
        number: u64,
        /// What is wrong with it.
        mismatch: Box<Mismatch>,
    },
    /// The state's trie lacks something.
    #[error(transparent)]
    Trie(#[from] WitnessError),
    /// The state lacks something that a block reads.
    #[error("the state is not known: {0}")]
    Unknown(#[source] NoAnswer),
}
