//! Block order: where speculation becomes fact, and where a block is compared with what its header
//! promises.
//!
//! A speculated outcome is taken over if the state just before the transaction's own place in the
//! block still holds every value that it read; executing the transaction there would read the same
//! values and so do the same. Any other transaction is executed again, in order, on the true state.
//! Results equal sequential execution exactly, whatever was speculated.

mod error;
mod ledger;
mod parallel;
mod root;
mod rounds;
mod rules;
mod seal;

use std::fmt;

use revm::primitives::B256;
use revm::primitives::alloy_primitives::Bloom;
use serde::Serialize;

use crate::block::{Block, FirstDifference, Fork, blob_gas};
use crate::state::State;
use crate::vm::{
    self, BlockGas, Changes, Effect, ExecutionEnv, Executor, ReadSet, Receipt, StateView, TxOutcome,
};

pub use error::ValidateError;
use ledger::Ledger;
pub use parallel::run_parallel;
pub use root::{NotChecked, StateRoot};
pub use rounds::{Again, again};
pub use rules::withdrawals_root;
use seal::Seal;

/// The result of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockResult {
    /// Its number.
    pub number: u64,
    /// The number of its transactions.
    pub transactions: usize,
    /// Gas used by its transactions, as the block counts it.
    pub gas_used: u64,
    /// Bloom over all logs.
    pub logs_bloom: Bloom,
    /// Root of the receipts; `None` before Byzantium.
    pub receipts_root: Option<B256>,
    /// Hash of the requests to the consensus layer (EIP-7685); `None` before Prague, and if a
    /// deposit has a layout that no valid block contains.
    pub requests_hash: Option<B256>,
    /// Root of the state after the block, or why it was not computed.
    pub state_root: StateRoot,
    /// The receipts, in order.
    pub receipts: Vec<Receipt>,
    /// How many transactions were executed in order because their speculated outcomes were missing
    /// or stale. Zero for a run without speculation.
    pub reexecuted: usize,
    /// The difference from the header; `None`: the block is verified.
    pub mismatch: Option<Mismatch>,
}

/// How a block differs from what its header promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Header fields that execution computed differently.
    Header {
        /// The fields, each with both values.
        differences: Vec<Difference>,
        /// The first transaction to blame, as far as that can be known.
        first: FirstDifference,
    },
    /// A transaction that no block may contain at this place.
    InvalidTransaction {
        /// Its position in the block.
        index: usize,
        /// Its hash.
        hash: B256,
        /// Why.
        reason: String,
    },
    /// The block breaks a rule for blocks as a whole, whatever its transactions do.
    InvalidBlock {
        /// Which rule, and how.
        reason: String,
    },
}

/// One header field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `gasUsed`, `logsBloom`, `receiptsRoot`, `requestsHash`, `blobGasUsed`, `withdrawalsRoot` or
    /// `stateRoot`.
    pub field: &'static str,
    /// What the header says.
    pub expected: String,
    /// What execution produced.
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { differences, first } => {
                for d in differences {
                    write!(f, "{} is {} in the header and came out as {}; ", d.field, d.expected, d.got)?;
                }
                write!(f, "{first}")
            }
            Self::InvalidTransaction { index, hash, reason } => {
                write!(f, "transaction {index} ({hash}) is not valid there: {reason}")
            }
            Self::InvalidBlock { reason } => write!(f, "the block is not valid: {reason}"),
        }
    }
}

/// The state that `block`'s transactions run on: its own `pre` or the state its parent left, after
/// the protocol's calls that precede the first transaction. Speculation reads this state, and
/// [`run_in_order`] continues on it.
pub fn open(block: &Block, previous: Option<State>) -> Result<State, ValidateError> {
    let mut state = State::after(previous, block)?;
    vm::before_transactions(block, &mut state)
        .map_err(|source| ValidateError::System { number: block.number(), source })?;
    Ok(state)
}

/// Executes `block` in order on `state`, which [`open`] made, taking over those outcomes in
/// `speculated` that still hold.
///
/// `speculated` has a place for each transaction, or is empty for a sequential run. Outcomes are
/// trusted to list what they read, so an executor that lies about its reads can produce a wrong
/// block, which then shows as a mismatch. `progress` is called after every transaction. If this
/// returns `Ok`, even with a mismatch, `state` is the state after the block; after an error it is
/// useless.
pub fn run_in_order(
    block: &Block,
    state: &mut State,
    speculated: Vec<Option<TxOutcome>>,
    progress: &dyn Fn(),
) -> Result<BlockResult, ValidateError> {
    let mut run = Run::new(block, std::mem::take(state));
    let speculating = !speculated.is_empty();
    let mut speculated = speculated.into_iter();
    let mut receipts = Vec::with_capacity(block.transactions.len());
    for index in 0..block.transactions.len() {
        let outcome = speculated.next().flatten().filter(|outcome| run.still_holds(outcome, index));
        run.reexecuted += usize::from(speculating && outcome.is_none());
        let receipt = run.settle(index, outcome)?;
        progress();
        match receipt {
            Some(receipt) => receipts.push(receipt),
            None => break,
        }
    }
    let mut seal = Seal::new(run.fork);
    for receipt in &receipts {
        seal.add(receipt);
    }
    let (mut result, mut after) = run.end(receipts, seal);
    close(block, &mut after, &mut result, progress)?;
    *state = after;
    Ok(result)
}

/// A block while its transactions are settled, on any ledger.
struct Run<'a, L: Ledger + 'static> {
    block: &'a Block,
    fork: Fork,
    executor: Executor<'static, L>,
    gas: BlockGas,
    blobs: u64,
    reexecuted: usize,
    invalid: Option<Mismatch>,
    /// The changes made by the last transaction.
    changes: Changes,
}

impl<'a, L: Ledger + 'static> Run<'a, L> {
    fn new(block: &'a Block, ledger: L) -> Self {
        Self {
            block,
            fork: block.chain.fork,
            executor: Executor::without_reads(&ExecutionEnv::of(block), ledger),
            gas: BlockGas::default(),
            blobs: 0,
            reexecuted: 0,
            invalid: None,
            changes: Changes::default(),
        }
    }

    fn still_holds(&mut self, outcome: &TxOutcome, index: usize) -> bool {
        outcome.index as usize == index
            && matches!(outcome.effect, Effect::Executed { .. })
            && holds(&outcome.reads, &*self.executor.view())
    }

    /// Takes over or executes one transaction; `None` if the block ends here because it may not
    /// contain the transaction.
    fn settle(&mut self, index: usize, outcome: Option<TxOutcome>) -> Result<Option<Receipt>, ValidateError> {
        let Some(transaction) = self.block.transactions.get(index) else { return Ok(None) };
        // Unlike every other check of a transaction, this depends on the transactions before it.
        if let Some(reason) = rules::no_room(self.block, transaction, self.gas, self.blobs) {
            self.invalid = Some(Mismatch::InvalidTransaction { index, hash: transaction.hash, reason });
            return Ok(None);
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.executor.execute(index as u32, transaction).map_err(|source| {
                ValidateError::Transaction {
                    number: self.block.number(),
                    index,
                    hash: transaction.hash,
                    source,
                }
            })?,
        };
        match outcome.effect {
            Effect::Executed { receipt, changes, fee } => {
                let mut ledger = self.executor.view();
                ledger.apply(&changes);
                if let Some(fee) = fee {
                    ledger.credit(self.block.header.beneficiary, fee, self.fork);
                }
                drop(ledger);
                self.changes = changes;
                self.gas = self.gas.plus(receipt.block_gas);
                self.blobs += transaction.blob_hashes.len() as u64;
                Ok(Some(receipt))
            }
            Effect::Invalid { reason } => {
                self.invalid = Some(Mismatch::InvalidTransaction { index, hash: transaction.hash, reason });
                Ok(None)
            }
        }
    }

    /// The result, and the state after the last transaction.
    fn end(mut self, receipts: Vec<Receipt>, seal: Seal) -> (BlockResult, L) {
        let (receipts_root, logs_bloom) = seal.finish();
        let result = BlockResult {
            number: self.block.number(),
            transactions: self.block.transactions.len(),
            gas_used: self.gas.used(),
            logs_bloom,
            receipts_root: receipts_root.filter(|_| self.fork >= Fork::Byzantium),
            requests_hash: None,
            state_root: StateRoot::NotChecked(NotChecked::Wrong),
            receipts,
            reexecuted: self.reexecuted,
            mismatch: self.invalid,
        };
        let ledger = self.executor.view().take();
        (result, ledger)
    }
}

/// The protocol's work after the last transaction; then all that the header commits to is known.
fn close(
    block: &Block,
    state: &mut State,
    result: &mut BlockResult,
    progress: &dyn Fn(),
) -> Result<(), ValidateError> {
    let requests = vm::after_transactions(block, state)
        .map_err(|source| ValidateError::System { number: block.number(), source })?;
    state.close(block);
    if block.chain.fork >= Fork::Prague {
        result.requests_hash = requests.hash(block.chain.id, &result.receipts);
    }
    if result.mismatch.is_none() {
        let root = root::of(block, state, progress);
        let broken = rules::broken(block).or(requests.fault);
        result.mismatch =
            broken.map(|reason| Mismatch::InvalidBlock { reason }).or_else(|| compare(block, result));
        match root {
            Ok(root) => {
                result.state_root = root;
                if !matches!(result.mismatch, Some(Mismatch::InvalidBlock { .. })) {
                    result.mismatch = compare(block, result);
                }
            }
            // What an invalid block touches need not be in the witness.
            Err(_) if result.mismatch.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether `view` still holds all that a transaction read. What cannot be read does not hold.
pub(crate) fn holds<V: StateView>(reads: &ReadSet, view: &V) -> bool {
    reads.accounts.iter().all(|(address, seen)| view.account(*address).is_ok_and(|now| now == *seen))
        && reads
            .storage
            .iter()
            .all(|(address, slot, seen)| view.storage(*address, *slot).is_ok_and(|now| now == *seen))
        && reads
            .block_hashes
            .iter()
            .all(|(number, seen)| view.block_hash(*number).is_ok_and(|now| now == *seen))
}

/// Shown in place of a hash of requests.
const MALFORMED_DEPOSIT: &str = "none, because a deposit's log is malformed";

fn compare(block: &Block, result: &BlockResult) -> Option<Mismatch> {
    let expected = &block.expected;
    let mut differences = Vec::new();
    let mut check = |field, expected: String, got: String| {
        if expected != got {
            differences.push(Difference { field, expected, got });
        }
    };
    check("gasUsed", expected.gas_used.to_string(), result.gas_used.to_string());
    check("logsBloom", expected.logs_bloom.to_string(), result.logs_bloom.to_string());
    if let Some(root) = result.receipts_root {
        check("receiptsRoot", expected.receipts_root.to_string(), root.to_string());
    }
    if let Some(wanted) = expected.requests_hash.filter(|_| block.chain.fork >= Fork::Prague) {
        let got = result.requests_hash.map_or_else(|| MALFORMED_DEPOSIT.to_owned(), |hash| hash.to_string());
        check("requestsHash", wanted.to_string(), got);
    }
    let of_transactions = differences.len();
    let mut check = |field, expected: String, got: String| {
        if expected != got {
            differences.push(Difference { field, expected, got });
        }
    };
    if let Some(wanted) = expected.blob_gas_used.filter(|_| block.chain.fork >= Fork::Cancun) {
        let blobs = block.transactions.iter().map(|tx| tx.blob_hashes.len() as u64).sum();
        check("blobGasUsed", wanted.to_string(), blob_gas(blobs).to_string());
    }
    if let Some(wanted) = expected.withdrawals_root.filter(|_| block.chain.fork >= Fork::Shanghai) {
        check("withdrawalsRoot", wanted.to_string(), rules::withdrawals_root(block).to_string());
    }
    if let (StateRoot::Checked(root), Some(wanted)) = (result.state_root, expected.state_root) {
        check("stateRoot", wanted.to_string(), root.to_string());
    }
    (!differences.is_empty()).then(|| {
        let first = if of_transactions > 0 {
            FirstDifference::of(expected.receipts.as_deref(), &result.receipts, &block.transactions)
        } else {
            FirstDifference::NotOfTransactions
        };
        Mismatch::Header { differences, first }
    })
}
