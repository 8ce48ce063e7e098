//! Whether the state after a block matches its header, if that can be determined.

use std::fmt;

use revm::primitives::B256;

use super::error::ValidateError;
use crate::block::{Block, BlockError, Fork};
use crate::state::State;

/// Mainnet's chain id; other chains before the Merge pay miners by rules of their own.
const MAINNET: u64 = 1;
/// Mainnet's block in which ether was moved without a transaction.
const DAO_FORK: u64 = 1_920_000;

/// What is known about the state after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateRoot {
    /// The root was computed and compared with the header's.
    Checked(B256),
    /// The root was not computed, so the block is verified except for its state.
    NotChecked(NotChecked),
}

/// Why a state root was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChecked {
    /// The file has no witness, so most of the trie is not known.
    NoWitness,
    /// The block pays the miners of uncles, whose addresses are not in the file.
    Uncles,
    /// The reward that a chain other than mainnet pays for a block before the Merge is not known.
    Reward,
    /// Mainnet's block 1,920,000 moves ether without a transaction.
    DaoFork,
    /// The block was found wrong before the root could be computed: it is invalid, or it touches
    /// what the witness does not hold.
    Wrong,
}

impl fmt::Display for NotChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWitness => "no witness",
            Self::Uncles => "the miners of its uncles are not known",
            Self::Reward => "what its chain pays for a block is not known",
            Self::DaoFork => "the DAO's ether is moved by no transaction",
            Self::Wrong => "the block is wrong",
        })
    }
}

/// Computes the root of `state` after `block`.
///
/// # Errors
/// If the witness lacks a node needed for it: the file is at fault, not the block.
pub(super) fn of(block: &Block, state: &State, progress: &dyn Fn()) -> Result<StateRoot, ValidateError> {
    let Some(witness) = &block.witness else { return Ok(StateRoot::NotChecked(NotChecked::NoWitness)) };
    if let Some(reason) = unknown_payments(block) {
        return Ok(StateRoot::NotChecked(reason));
    }
    witness.root_after(state, progress).map(StateRoot::Checked).map_err(|error| {
        let reason = format!("block {}: {}", block.number(), error.reason);
        BlockError::Wrong { path: block.path.clone(), reason, hint: error.hint.into() }.into()
    })
}

/// Why the block makes payments that the file does not specify, if it does.
fn unknown_payments(block: &Block) -> Option<NotChecked> {
    if block.chain.fork >= Fork::Merge {
        None
    } else if block.chain.id != MAINNET {
        Some(NotChecked::Reward)
    } else if block.uncles > 0 {
        Some(NotChecked::Uncles)
    } else {
        (block.number() == DAO_FORK).then_some(NotChecked::DaoFork)
    }
}
