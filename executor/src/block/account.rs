//! Accounts as they stood before a block.

use std::collections::BTreeMap;

use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};

/// Accounts as they stood before a block.
pub type PreState = BTreeMap<Address, PreAccount>;

/// One account of a [`PreState`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreAccount {
    /// Balance, in wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// Code; empty if the account has none or its code is not known.
    pub code: Bytes,
    /// Hash of code that is not known because it does not run. Only with a witness, which proves
    /// it.
    pub code_hash: Option<B256>,
    /// Slots that are not zero.
    pub storage: BTreeMap<U256, U256>,
}

impl PreAccount {
    /// Hash of the account's code, whether the code is known or not.
    pub(crate) fn hash_of_code(&self) -> B256 {
        match self.code_hash {
            _ if !self.code.is_empty() => keccak256(&self.code),
            Some(hash) => hash,
            None => KECCAK_EMPTY,
        }
    }
}
