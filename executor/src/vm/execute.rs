//! Runs transactions through revm and converts the contents of its journal into plain data.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use revm::ExecuteEvm;
use revm::context::{Context, ContextSetters, TxEnv};
use revm::context_interface::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context_interface::transaction::{AccessList, AccessListItem, SignedAuthorization};
use revm::context_interface::{ContextTr, either::Either};
use revm::handler::{
    Handler, MainBuilder, MainContext, MainnetContext, MainnetEvm, MainnetHandler, SystemCallTx,
};
use revm::primitives::{Address, Bytes, TxKind};
use revm::state::EvmState;

use super::fee::FeeApart;
use super::recorder::Recorder;
use super::{
    AccountChange, AccountInfo, BlockGas, Changes, Effect, ExecutionEnv, ReadSet, Receipt, StateView,
    TxOutcome, ViewError, VmError,
};
use crate::block::{Authorization, Fork, Transaction};

/// The gas limit of a system call before Amsterdam (EIP-4788 and later EIPs).
const SYSTEM_CALL_GAS: u64 = 30_000_000;

type Vm<'v> = MainnetEvm<MainnetContext<Recorder<'v>>>;
type RevmError = EVMError<ViewError, InvalidTransaction>;

/// An EVM set up for one block on one view, to be used for many transactions. It never writes to
/// the view: for the next transaction to see this one's changes, the caller applies them to the
/// view.
///
/// The EVM has the same type for every view. Otherwise a thread that executes on two views, as the
/// owner of a block with helpers does, would have every instruction of the EVM twice in its
/// processor's caches and branch predictor, which made it a tenth slower.
pub struct Executor<'v, V: StateView> {
    evm: Vm<'v>,
    view: Rc<RefCell<V>>,
    fork: Fork,
    beneficiary: Address,
}

impl<'v, V: StateView + 'v> Executor<'v, V> {
    /// An executor for the block of `env` on `view`.
    pub fn new(env: &ExecutionEnv, view: V) -> Self {
        let view = Rc::new(RefCell::new(view));
        let evm = Context::mainnet()
            .with_db(Recorder::new(Rc::clone(&view) as Rc<RefCell<dyn StateView + 'v>>))
            .with_cfg(env.cfg_env())
            .with_block(env.block_env())
            .build_mainnet();
        Self { evm, view, fork: env.fork(), beneficiary: env.header.beneficiary }
    }

    /// Like [`Self::new`] without read sets, for runs in block order, where nothing is validated.
    pub fn without_reads(env: &ExecutionEnv, view: V) -> Self {
        let mut executor = Self::new(env, view);
        executor.recorder().record = false;
        executor
    }

    /// The view. Nothing can be executed while it is borrowed.
    pub fn view(&mut self) -> RefMut<'_, V> {
        self.view.borrow_mut()
    }

    /// Executes one transaction. One that is invalid on this view is an outcome
    /// ([`Effect::Invalid`]), not an error.
    pub fn execute(&mut self, index: u32, transaction: &Transaction) -> Result<TxOutcome, VmError> {
        self.evm.ctx.tx = tx_env(transaction);
        let mut handler = FeeApart::<Vm<'v>, RevmError>::new();
        let result = handler.run(&mut self.evm);
        let state = self.evm.finalize();
        let reads = self.take_reads();
        let effect = match result {
            Ok(result) => {
                // The fee is paid before destroyed accounts are removed, and is destroyed with
                // them; since Amsterdam a balance stays (EIP-8246).
                let burnt = self.fork < Fork::Amsterdam
                    && state.get(&self.beneficiary).is_some_and(|account| account.is_selfdestructed());
                let fee = (!burnt).then(|| handler.fee.get());
                let changes = changes(state, self.fork);
                Effect::Executed { receipt: receipt(transaction.tx_type, self.fork, result), changes, fee }
            }
            Err(EVMError::Transaction(reason)) => Effect::Invalid { reason: reason.to_string() },
            Err(error) => return Err(failure(error)),
        };
        Ok(TxOutcome { index, reads, effect })
    }

    /// Calls `contract` as the protocol does at the start and end of a block: without a sender's
    /// balance, a fee or a nonce. Returns its changes and its output; `None`: it failed, which
    /// leaves no trace.
    pub fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<Option<(Changes, Bytes)>, VmError> {
        let mut call = TxEnv::new_system_tx(contract, input);
        // revm adds gas for new state under every fork; before Amsterdam a contract could burn it.
        if self.fork < Fork::Amsterdam {
            call.gas_limit = SYSTEM_CALL_GAS;
        }
        self.evm.ctx.set_tx(call);
        let result = MainnetHandler::<_, RevmError, _>::default().run_system_call(&mut self.evm);
        let state = self.evm.finalize();
        self.take_reads();
        match result {
            Ok(result) if result.is_success() => {
                Ok(Some((changes(state, self.fork), result.into_output().unwrap_or_default())))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    fn take_reads(&mut self) -> ReadSet {
        // The next transaction is often like this one, so reserve as much memory for its reads; if
        // nothing is recorded, this reserves none.
        let reads = &mut self.recorder().reads;
        let next = ReadSet {
            accounts: Vec::with_capacity(reads.accounts.len()),
            storage: Vec::with_capacity(reads.storage.len()),
            block_hashes: Vec::new(),
        };
        std::mem::replace(reads, next)
    }

    fn recorder(&mut self) -> &mut Recorder<'v> {
        self.evm.ctx.db_mut()
    }
}

fn failure(error: RevmError) -> VmError {
    match error {
        EVMError::Database(error) => VmError::View(error),
        EVMError::Header(reason) => VmError::Header(reason.to_string()),
        other => VmError::Evm(other.to_string()),
    }
}

fn receipt(tx_type: u8, fork: Fork, result: ExecutionResult) -> Receipt {
    let gas = result.gas();
    let gas_used = gas.tx_gas_used();
    let block_gas = if fork >= Fork::Amsterdam {
        BlockGas { execution: gas.block_regular_gas_used(), state: gas.block_state_gas_used() }
    } else {
        BlockGas { execution: gas_used, state: 0 }
    };
    Receipt { tx_type, success: result.is_success(), gas_used, block_gas, logs: result.into_logs() }
}

/// The contents of the journal after a transaction, reduced to what has changed.
fn changes(state: EvmState, fork: Fork) -> Changes {
    let mut changes = Changes { accounts: Vec::with_capacity(state.len()), codes: Vec::new() };
    for (address, account) in state {
        if !account.is_touched() {
            continue;
        }
        let existed = !account.is_loaded_as_not_existing();
        let gone = account.is_selfdestructed() || (fork.clears_empty_accounts() && account.is_empty());
        if gone {
            if existed || account.is_selfdestructed() {
                changes
                    .accounts
                    .push((address, AccountChange { info: None, wiped: true, storage: Vec::new() }));
            }
            continue;
        }
        let mut storage = Vec::with_capacity(account.changed_storage_slots().count());
        storage.extend(account.changed_storage_slots().map(|(slot, value)| (*slot, value.present_value)));
        let created = account.is_created();
        // Before Spurious Dragon touching an account that does not exist creates it, even empty:
        // revm marks it as created.
        if !created && !account.is_changed() && storage.is_empty() {
            continue;
        }
        storage.sort_unstable();
        let info = AccountInfo {
            balance: account.info.balance,
            nonce: account.info.nonce,
            code_hash: account.info.code_hash,
        };
        if info.code_hash != account.original_info().code_hash
            && let Some(code) = &account.info.code
            && !code.is_empty()
        {
            changes.codes.push((info.code_hash, code.original_bytes()));
        }
        changes.accounts.push((address, AccountChange { info: Some(info), wiped: created, storage }));
    }
    changes.accounts.sort_unstable_by_key(|(address, _)| *address);
    changes.codes.sort_unstable_by_key(|(hash, _)| *hash);
    changes.codes.dedup_by_key(|(hash, _)| *hash);
    changes
}

fn tx_env(tx: &Transaction) -> TxEnv {
    let access_list = tx
        .access_list
        .iter()
        .map(|(address, keys)| AccessListItem { address: *address, storage_keys: keys.clone() })
        .collect();
    TxEnv {
        tx_type: tx.tx_type,
        caller: tx.sender,
        gas_limit: tx.gas_limit,
        gas_price: tx.max_fee,
        kind: tx.to.map_or(TxKind::Create, TxKind::Call),
        value: tx.value,
        data: tx.input.clone(),
        nonce: tx.nonce,
        chain_id: tx.chain_id,
        access_list: AccessList(access_list),
        gas_priority_fee: tx.max_priority_fee,
        blob_hashes: tx.blob_hashes.clone(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas,
        authorization_list: tx.authorizations.iter().map(|a| Either::Left(signed(a))).collect(),
    }
}

fn signed(a: &Authorization) -> SignedAuthorization {
    let authorization = revm::context_interface::transaction::Authorization {
        chain_id: a.chain_id,
        address: a.address,
        nonce: a.nonce,
    };
    SignedAuthorization::new_unchecked(authorization, a.y_parity, a.r, a.s)
}

/// Executes one transaction on a view. For several on the same view an [`Executor`] avoids setting
/// up the EVM each time.
pub fn execute<V: StateView>(
    env: &ExecutionEnv,
    transaction: &Transaction,
    index: u32,
    view: &V,
) -> Result<TxOutcome, VmError> {
    Executor::new(env, view).execute(index, transaction)
}
