//! Why a transaction could not be executed at all.

use super::view::ViewError;

/// Why a transaction could not be executed at all. (An invalid transaction is an outcome, not an
/// error.)
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The header cannot be executed under the fork (no prevrandao or no excess blob gas).
    #[error("the header does not fit the fork: {0}")]
    Header(String),
    /// revm failed for a reason of its own.
    #[error("the EVM gave up: {0}")]
    Evm(String),
}
