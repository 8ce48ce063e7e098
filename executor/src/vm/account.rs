//! An account as execution sees it.

use revm::primitives::{B256, KECCAK_EMPTY, U256};
use serde::{Deserialize, Serialize};

/// Balance, nonce and code hash of an account that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// Keccak-256 of the code; for an account without code, that of empty input.
    pub code_hash: B256,
}

impl AccountInfo {
    /// True if it has no balance, no nonce and no code. From Spurious Dragon on such an account
    /// ceases to exist when touched.
    pub fn is_empty(&self) -> bool {
        self.balance.is_zero() && self.nonce == 0 && self.code_hash == KECCAK_EMPTY
    }
}

impl Default for AccountInfo {
    fn default() -> Self {
        Self { balance: U256::ZERO, nonce: 0, code_hash: KECCAK_EMPTY }
    }
}
