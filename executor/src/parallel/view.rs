//! The state as seen by a transaction that is executed ahead.

use std::cell::Cell;
use std::sync::Arc;

use revm::bytecode::Bytecode;
use revm::primitives::{Address, B256, U256};

use super::memory::Memory;
use crate::vm::{AccountInfo, StateView, ViewError};

/// The state before the batch, with the writes of the transactions before `place` on top, as far as
/// they have been executed.
pub(super) struct Ahead<V> {
    pub(super) place: usize,
    pub(super) memory: Arc<Memory>,
    pub(super) base: Arc<V>,
    pub(super) beneficiary: Address,
    /// Whether it has read anything that an earlier transaction wrote.
    pub(super) versions: Cell<bool>,
}

impl<V> Ahead<V> {
    /// Records whether the value came from a version.
    fn noted<T>(&self, version: Option<T>) -> Option<T> {
        if version.is_some() {
            self.versions.set(true);
        }
        version
    }
}

impl<V: StateView> StateView for Ahead<V> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        // The beneficiary has the fees of all earlier transactions, so it cannot be known ahead.
        if address == self.beneficiary {
            return Err(ViewError::NotAhead);
        }
        match self.noted(self.memory.account(&address, self.place)) {
            Some(account) => Ok(account),
            None => self.base.account(address),
        }
    }

    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        match self.memory.code(&code_hash) {
            Some(code) => Ok(code),
            None => self.base.code(code_hash),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        match self.noted(self.memory.slot(&address, &slot, self.place)) {
            Some(value) => Ok(value),
            None => self.base.storage(address, slot),
        }
    }

    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        self.base.block_hash(number)
    }
}
