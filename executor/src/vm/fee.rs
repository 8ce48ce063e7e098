//! revm's mainnet rules with one difference: the beneficiary's fee is computed and returned, not
//! credited.
//!
//! Crediting it would make every transaction read and write the same account, and so conflict with
//! every other transaction of the block. Addition commutes, so the code that applies the changes
//! adds the fees in block order.

use std::cell::Cell;
use std::marker::PhantomData;

use revm::context_interface::result::HaltReason;
use revm::context_interface::{Block as _, Cfg as _, ContextTr, JournalTr, Transaction as _};
use revm::handler::{EvmTr, EvmTrError, FrameResult, FrameTr, Handler};
use revm::interpreter::interpreter_action::FrameInit;
use revm::primitives::U256;
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;

/// A handler that leaves the fee of the transaction it ran in `fee`.
pub(super) struct FeeApart<EVM, ERROR> {
    pub(super) fee: Cell<U256>,
    types: PhantomData<(EVM, ERROR)>,
}

impl<EVM, ERROR> FeeApart<EVM, ERROR> {
    pub(super) const fn new() -> Self {
        Self { fee: Cell::new(U256::ZERO), types: PhantomData }
    }
}

impl<EVM, ERROR> Handler for FeeApart<EVM, ERROR>
where
    EVM: EvmTr<
            Context: ContextTr<Journal: JournalTr<State = EvmState>>,
            Frame: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
        >,
    ERROR: EvmTrError<EVM>,
{
    type Evm = EVM;
    type Error = ERROR;
    type HaltReason = HaltReason;

    fn reward_beneficiary(&self, evm: &mut EVM, exec_result: &mut FrameResult) -> Result<(), ERROR> {
        let context = evm.ctx();
        let base_fee = u128::from(context.block().basefee());
        let price = context.tx().effective_gas_price(base_fee);
        // From London on the base fee is burned.
        let kept = if context.cfg().spec().into().is_enabled_in(SpecId::LONDON) {
            price.saturating_sub(base_fee)
        } else {
            price
        };
        let gas = exec_result.gas();
        let used = gas.used().saturating_sub(gas.reservoir());
        self.fee.set(U256::from(kept).saturating_mul(U256::from(used)));
        Ok(())
    }
}
