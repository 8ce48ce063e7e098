//! What the transactions of a generated block do.

use std::fmt;
use std::str::FromStr;

use crate::block::MAX_GAS;

/// The most transactions in a block; far more than any chain has.
pub const MAX_TRANSACTIONS: u32 = 100_000;

/// What the transactions of a generated block do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Ether from one account to another: 21,000 gas; writes one account besides the sender.
    Transfers,
    /// Tokens from one account to another: about 52,000 gas for a new owner; writes two slots of
    /// the token's contract.
    Tokens,
    /// One token for another in a pool: about 120,000 gas, four calls; writes a dozen slots of
    /// three contracts.
    Swaps,
    /// A third of each.
    #[default]
    Mixed,
}

impl Kind {
    /// Every kind by the name that [`FromStr`] reads and [`fmt::Display`] writes.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("transfers", Self::Transfers),
        ("tokens", Self::Tokens),
        ("swaps", Self::Swaps),
        ("mixed", Self::Mixed),
    ];

    /// The most transactions of this kind in a block whose file can be read again: together they
    /// may not buy more than [`MAX_GAS`].
    pub const fn most_transactions(self) -> u32 {
        let gas = match self {
            Self::Transfers => Action::Transfer.gas(),
            Self::Tokens => Action::TokenTransfer.gas(),
            Self::Swaps => Action::Swap.gas(),
            Self::Mixed => {
                (Action::Transfer.gas() + Action::TokenTransfer.gas() + Action::Swap.gas()).div_ceil(3)
            }
        };
        // A hundredth is held back, because "a third of each" is only an expectation.
        let most = MAX_GAS / 100 * 99 / gas;
        if most < MAX_TRANSACTIONS as u64 { most as u32 } else { MAX_TRANSACTIONS }
    }

    /// What a transaction does, given a uniformly drawn number.
    pub(super) const fn action(self, drawn: u64) -> Action {
        match self {
            Self::Transfers => Action::Transfer,
            Self::Tokens => Action::TokenTransfer,
            Self::Swaps => Action::Swap,
            Self::Mixed => match drawn % 3 {
                0 => Action::Transfer,
                1 => Action::TokenTransfer,
                _ => Action::Swap,
            },
        }
    }

    pub(super) const fn has_tokens(self) -> bool {
        !matches!(self, Self::Transfers)
    }

    pub(super) const fn has_pools(self) -> bool {
        matches!(self, Self::Swaps | Self::Mixed)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, kind)| kind == self).map_or("mixed", |(name, _)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::NAMES.map(|(name, _)| name).join(", ");
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("`{text}` is not one of {}", names()))
    }
}

/// What one transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Transfer,
    TokenTransfer,
    Swap,
}

impl Action {
    /// The most that [`Self::gas`] returns.
    pub(super) const MOST_GAS: u64 = Self::Swap.gas();

    /// The gas limit that a transaction needs for it.
    pub(super) const fn gas(self) -> u64 {
        match self {
            // Whether the recipient exists or not.
            Self::Transfer => 21_000,
            // To an owner who had none it uses about 52,000.
            Self::TokenTransfer => 70_000,
            // It uses about 120,000, and up to 20,000 more for the slots that it is the first to
            // write.
            Self::Swap => 160_000,
        }
    }
}
