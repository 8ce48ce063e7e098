//! Where a block's transactions are settled: the state itself, or writes on top of one that others
//! still read.

use std::sync::Arc;

use revm::primitives::{Address, U256};

use crate::block::Fork;
use crate::state::State;
use crate::vm::{Changes, Overlay, StateView};

/// A view that takes what transactions change.
pub(super) trait Ledger: StateView {
    /// Writes what a transaction changed.
    fn apply(&mut self, changes: &Changes);
    /// Pays a fee.
    fn credit(&mut self, address: Address, wei: U256, fork: Fork);
    /// Gives it up and leaves an empty one.
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

/// Fees are the beneficiary's, as everywhere in an overlay.
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
