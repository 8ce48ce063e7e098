//! What a block's transactions are settled on: the state itself, or writes on top of a state that
//! other threads still read.

use std::sync::Arc;

use revm::primitives::{Address, U256};

use crate::block::Fork;
use crate::state::State;
use crate::vm::{Changes, Overlay, StateView};

/// A view that transactions' changes can be written to.
pub(super) trait Ledger: StateView {
    /// Writes the changes of a transaction.
    fn apply(&mut self, changes: &Changes);
    /// Pays the fee of a transaction.
    fn credit(&mut self, address: Address, wei: U256, fork: Fork);
    /// Moves the ledger out and leaves an empty one in its place.
    fn take(&mut self) -> Self;
}

impl Ledger for State {
    fn apply(&mut self, changes: &Changes) {
        Self::apply(self, changes);
    }
    fn credit(&mut self, address: Address, wei: U256, fork: Fork) {
        Self::credit(self, address, wei, fork);
    }
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// Fees go to the beneficiary, as everywhere in an overlay.
impl Ledger for Overlay<Arc<State>> {
    fn apply(&mut self, changes: &Changes) {
        self.write(changes);
    }
    fn credit(&mut self, _beneficiary: Address, wei: U256, _fork: Fork) {
        self.pay(wei);
    }
    fn take(&mut self) -> Self {
        Self::take(self)
    }
}
