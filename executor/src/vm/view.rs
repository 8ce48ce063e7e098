//! The state as execution reads it, wherever it is.

use std::sync::Arc;

use revm::bytecode::Bytecode;
use revm::primitives::{Address, B256, U256};

use super::account::AccountInfo;

/// What an executor reads. Each call may fail, because a view may be remote and run out of time.
pub trait StateView {
    /// The account, or `None` if it does not exist.
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError>;
    /// Code by its hash; create it with [`crate::state::analysed`].
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError>;
    /// A storage slot; zero if absent.
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError>;
    /// Hash of an earlier block; requested only within `BLOCKHASH`'s reach.
    fn block_hash(&self, number: u64) -> Result<B256, ViewError>;
}

impl<V: StateView + ?Sized> StateView for Arc<V> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        (**self).account(address)
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        (**self).code(code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        (**self).storage(address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        (**self).block_hash(number)
    }
}

impl<V: StateView + ?Sized> StateView for &V {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        (**self).account(address)
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        (**self).code(code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        (**self).storage(address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        (**self).block_hash(number)
    }
}

/// Why a view cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The block requests a hash that its file does not have.
    #[error("the hash of block {0} is asked for and is not in the block's `hashes`")]
    UnknownBlockHash(u64),
    /// No code with that hash is known.
    #[error("code with hash {0} is not known")]
    UnknownCode(B256),
    /// The value depends on all earlier transactions, or must be requested: only the thread that
    /// settles transactions can know it.
    #[error("it cannot be known ahead")]
    NotAhead,
    /// The view could not be read, for instance because a deadline passed. The part cannot go on.
    #[error("the state cannot be read: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ViewError {
    /// True if the same read may succeed in block order: a speculated transaction that meets this
    /// error is simply left without an outcome. False means that the view itself is unavailable.
    pub const fn concerns_one_transaction(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }
}

impl revm::database_interface::DBErrorMarker for ViewError {}
