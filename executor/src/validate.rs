//! Block order: where speculation becomes fact, and where a block is compared with what its header promises.
//!
//! A speculated outcome is taken over when every value it read is still what the state holds just before the
//! transaction's own place in the block; then executing it there would read the same and so do the same. Anything else is
//! executed again, in order, on the true state. Results equal sequential execution exactly, whatever was speculated.

mod receipts;

use std::fmt;

use revm::primitives::B256;
use revm::primitives::alloy_primitives::Bloom;

use crate::block::{Block, BlockError, Fork};
use crate::state::State;
use crate::vm::{self, Effect, ExecutionEnv, Executor, ReadSet, Receipt, TxOutcome, VmError};

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockResult {
    /// Its number.
    pub number: u64,
    /// How many transactions it has.
    pub transactions: usize,
    /// Gas they used.
    pub gas_used: u64,
    /// Bloom over all logs.
    pub logs_bloom: Bloom,
    /// Root of the receipts; `None` before Byzantium.
    pub receipts_root: Option<B256>,
    /// The receipts, in order.
    pub receipts: Vec<Receipt>,
    /// Transactions whose speculated outcome was missing or stale, and that were executed in order. Zero for a run
    /// without speculation.
    pub reexecuted: usize,
    /// What differs from the header; `None`: verified.
    pub mismatch: Option<Mismatch>,
}

/// How a block differs from what its header promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Fields of the header that came out otherwise.
    Header(Vec<Difference>),
    /// A transaction that no block may contain at this place.
    InvalidTransaction {
        /// Its place.
        index: usize,
        /// Its hash.
        hash: B256,
        /// Why.
        reason: String,
    },
}

/// One header field that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `gasUsed`, `logsBloom` or `receiptsRoot`.
    pub field: &'static str,
    /// What the header says.
    pub expected: String,
    /// What came out.
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(differences) => {
                for (i, d) in differences.iter().enumerate() {
                    let between = if i == 0 { "" } else { "; " };
                    write!(
                        f,
                        "{between}{} is {} in the header and came out as {}",
                        d.field, d.expected, d.got
                    )?;
                }
                Ok(())
            }
            Self::InvalidTransaction { index, hash, reason } => {
                write!(f, "transaction {index} ({hash}) is not valid there: {reason}")
            }
        }
    }
}

/// Why a block could not be brought to an end.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// It has no state to stand on.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A transaction could not be executed.
    #[error("block {number}, transaction {index} ({hash}): {source}")]
    Transaction {
        /// The block.
        number: u64,
        /// Its place.
        index: usize,
        /// Its hash.
        hash: B256,
        /// Why.
        source: VmError,
    },
    /// A system call could not be made.
    #[error("block {number}, system calls: {source}")]
    System {
        /// The block.
        number: u64,
        /// Why.
        source: VmError,
    },
}

/// The state that `block`'s transactions run on: its own `pre` or what the block before it left, with the protocol's calls
/// before the first transaction already made. Speculation reads this state, and [`run_in_order`] continues on it.
pub fn open(block: &Block, previous: Option<State>) -> Result<State, ValidateError> {
    let mut state = State::after(previous, block)?;
    vm::before_transactions(block, &mut state)
        .map_err(|source| ValidateError::System { number: block.number(), source })?;
    Ok(state)
}

/// Executes `block` in order on `state`, which [`open`] made, taking over what of `speculated` still holds.
///
/// `speculated` has a place for each transaction, or none at all for a sequential run; outcomes are believed for what they
/// read, so an executor that lies about its reads can make a block come out wrong, which then shows as a mismatch.
/// `progress` is called after every transaction. `state` is the state after the block when this returns `Ok`, also when
/// there is a mismatch, and of no use after an error.
pub fn run_in_order(
    block: &Block,
    state: &mut State,
    speculated: Vec<Option<TxOutcome>>,
    progress: &dyn Fn(),
) -> Result<BlockResult, ValidateError> {
    let mut run = Run::new(block, std::mem::take(state));
    let speculating = !speculated.is_empty();
    let mut speculated = speculated.into_iter();
    for index in 0..block.transactions.len() {
        let outcome = speculated.next().flatten().filter(|outcome| run.still_holds(outcome, index));
        run.reexecuted += usize::from(speculating && outcome.is_none());
        let going_on = run.settle(index, outcome)?;
        progress();
        if !going_on {
            break;
        }
    }
    let (result, after) = run.finish()?;
    *state = after;
    Ok(result)
}

struct Run<'a> {
    block: &'a Block,
    fork: Fork,
    executor: Executor<State>,
    receipts: Vec<Receipt>,
    gas_used: u64,
    reexecuted: usize,
    invalid: Option<Mismatch>,
}

impl<'a> Run<'a> {
    fn new(block: &'a Block, state: State) -> Self {
        Self {
            block,
            fork: block.chain.fork,
            executor: Executor::without_reads(&ExecutionEnv::of(block), state),
            receipts: Vec::with_capacity(block.transactions.len()),
            gas_used: 0,
            reexecuted: 0,
            invalid: None,
        }
    }

    fn still_holds(&mut self, outcome: &TxOutcome, index: usize) -> bool {
        outcome.index as usize == index
            && matches!(outcome.effect, Effect::Executed { .. })
            && holds(&outcome.reads, self.executor.view())
    }

    /// Takes over or executes one transaction; false if the block ends here because it may not contain it.
    fn settle(&mut self, index: usize, outcome: Option<TxOutcome>) -> Result<bool, ValidateError> {
        let Some(transaction) = self.block.transactions.get(index) else { return Ok(false) };
        // Unlike everything else about a transaction, this depends on the gas of those before it.
        let left = self.block.header.gas_limit.saturating_sub(self.gas_used);
        if transaction.gas_limit > left {
            self.invalid = Some(Mismatch::InvalidTransaction {
                index,
                hash: transaction.hash,
                reason: format!("it may use {} gas and the block has {left} left", transaction.gas_limit),
            });
            return Ok(false);
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
                let state = self.executor.view();
                state.apply(&changes);
                if let Some(fee) = fee {
                    state.credit(self.block.header.beneficiary, fee, self.fork);
                }
                self.gas_used = self.gas_used.saturating_add(receipt.gas_used);
                self.receipts.push(receipt);
                Ok(true)
            }
            Effect::Invalid { reason } => {
                self.invalid = Some(Mismatch::InvalidTransaction { index, hash: transaction.hash, reason });
                Ok(false)
            }
        }
    }

    fn finish(self) -> Result<(BlockResult, State), ValidateError> {
        let block = self.block;
        let mut state = self.executor.into_view();
        vm::after_transactions(block, &mut state)
            .map_err(|source| ValidateError::System { number: block.number(), source })?;
        state.close(block);
        let logs_bloom = receipts::bloom(&self.receipts);
        let receipts_root = (self.fork >= Fork::Byzantium).then(|| receipts::root(&self.receipts));
        let mut result = BlockResult {
            number: block.number(),
            transactions: block.transactions.len(),
            gas_used: self.gas_used,
            logs_bloom,
            receipts_root,
            receipts: self.receipts,
            reexecuted: self.reexecuted,
            mismatch: self.invalid,
        };
        if result.mismatch.is_none() {
            result.mismatch = compare(block, &result);
        }
        Ok((result, state))
    }
}

/// Whether everything a transaction read is what `state` holds.
fn holds(reads: &ReadSet, state: &State) -> bool {
    reads.accounts.iter().all(|(address, seen)| state.account(address) == *seen)
        && reads.storage.iter().all(|(address, slot, seen)| state.slot(address, slot) == *seen)
        && reads.block_hashes.iter().all(|(number, seen)| state.hash_of(*number) == Some(*seen))
}

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
    (!differences.is_empty()).then_some(Mismatch::Header(differences))
}
