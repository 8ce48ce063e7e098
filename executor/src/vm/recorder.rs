//! The database that revm sees. It forwards every request to a view and records the answer.

use std::cell::RefCell;
use std::rc::Rc;

use revm::bytecode::Bytecode;
use revm::database_interface::Database;
use revm::primitives::{Address, B256, U256};
use revm::state::AccountInfo as RevmAccount;

use super::{ReadSet, StateView, ViewError};

/// revm's journal requests each account and slot at most once in a transaction and never on its own
/// behalf: the beneficiary, precompiles and the access list's addresses are warmed without being
/// loaded. So what passes here is exactly what the transaction depends on, and plain vectors are
/// enough to hold it.
pub(super) struct Recorder<'v> {
    view: Rc<RefCell<dyn StateView + 'v>>,
    pub(super) reads: ReadSet,
    /// False for the sequential run, which has nothing to validate.
    pub(super) record: bool,
}

impl<'v> Recorder<'v> {
    pub(super) fn new(view: Rc<RefCell<dyn StateView + 'v>>) -> Self {
        Self { view, reads: ReadSet::default(), record: true }
    }
}

impl Database for Recorder<'_> {
    type Error = ViewError;

    fn basic(&mut self, address: Address) -> Result<Option<RevmAccount>, ViewError> {
        let account = self.view.borrow().account(address)?;
        if self.record {
            self.reads.accounts.push((address, account));
        }
        Ok(account.map(|a| RevmAccount {
            balance: a.balance,
            nonce: a.nonce,
            code_hash: a.code_hash,
            ..empty()
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ViewError> {
        // Not recorded: the account that was read includes the hash, which identifies the code.
        self.view.borrow().code(code_hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, ViewError> {
        let value = self.view.borrow().storage(address, slot)?;
        if self.record {
            self.reads.storage.push((address, slot, value));
        }
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ViewError> {
        let hash = self.view.borrow().block_hash(number)?;
        if self.record {
            self.reads.block_hashes.push((number, hash));
        }
        Ok(hash)
    }
}

/// revm's default account has its (empty) code loaded, which would hide code that is known only by
/// its hash.
fn empty() -> RevmAccount {
    RevmAccount { code: None, ..RevmAccount::default() }
}
