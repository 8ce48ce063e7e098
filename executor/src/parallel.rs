//! Executes transactions on several threads at once, with the same result as executing them one
//! after the other.
//!
//! One thread, the *owner*, settles transactions strictly in order: it takes over what a helper
//! executed ahead if everything that was read still holds, and otherwise executes the transaction
//! itself. So results are right whatever helpers do, and a helper that is late, wrong or gone costs
//! only time. *Helpers* run ahead on a multi-version memory (in the spirit of Block-STM,
//! <https://arxiv.org/abs/2203.06871>): a transaction sees the writes of earlier ones as far as
//! they have been executed, and is executed again if one of them turns out to have written
//! something else. While the transaction at the head still runs on a helper, the owner runs ahead
//! too.
//!
//! What was left out of Block-STM, and why: there, threads validate each other and none is in
//! charge, which needs a count of validations under way to detect the end of a block. Here the
//! owner validates in order anyway, so the block ends where the owner arrives, and a helper's own
//! checks are only hints that may race. The price is that settling is sequential; it costs about
//! one microsecond a transaction.
//!
//! No wait for a thread is unbounded: past `until` the owner itself executes what it was waiting
//! for.

mod memory;
mod pool;
mod speculation;
mod view;

use std::sync::Arc;
use std::time::Instant;

use crate::block::{Block, Transaction};
use crate::vm::{Changes, ExecutionEnv, StateView, TxOutcome};

pub use pool::{Pool, WorkerBeat};
use speculation::Speculation;

/// Transactions to execute with the result of executing them one after the other.
pub trait Batch: Send + Sync {
    /// The number of transactions.
    fn len(&self) -> usize;
    /// The transaction at `place`, with its position in the block.
    fn get(&self, place: usize) -> Option<(u32, &Transaction)>;
    /// Whether it has no transactions.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole block as one batch.
impl Batch for Block {
    fn len(&self) -> usize {
        self.transactions.len()
    }
    fn get(&self, place: usize) -> Option<(u32, &Transaction)> {
        Some((u32::try_from(place).ok()?, self.transactions.get(place)?))
    }
}

/// Some transactions of a block, selected by their positions in it.
#[derive(Debug)]
pub struct Picked {
    /// The block.
    pub block: Arc<Block>,
    /// Positions in the block, ascending.
    pub positions: Vec<usize>,
}

impl Batch for Picked {
    fn len(&self) -> usize {
        self.positions.len()
    }
    fn get(&self, place: usize) -> Option<(u32, &Transaction)> {
        let position = *self.positions.get(place)?;
        Some((u32::try_from(position).ok()?, self.block.transactions.get(position)?))
    }
}

/// The result of a transaction that was executed ahead.
#[derive(Debug)]
pub struct Foreseen {
    /// The transaction's outcome.
    pub outcome: TxOutcome,
    /// True if everything it read came from the view below, which does not change while the batch
    /// runs. Then the outcome holds unless an earlier transaction has written what it read, and the
    /// view need not be read again.
    pub of_base: bool,
}

/// What the owner does with each transaction, in order.
pub trait Settle {
    /// Why settling cannot go on.
    type Error;

    /// Settles the transaction at `place`: takes over what was foreseen if that still holds, else
    /// executes the transaction.
    fn settle(&mut self, place: usize, foreseen: Option<Foreseen>) -> Result<Settled<'_>, Self::Error>;

    /// Called when the owner has done useful work other than settling: it has executed ahead.
    fn progress(&mut self) {}

    /// Work to do at some point by any thread that has nothing better to do; `None` if there is
    /// none.
    fn aside(&mut self) -> Option<Arc<dyn Aside>> {
        None
    }
}

/// Work beside the execution, done in small steps.
pub trait Aside: Send + Sync {
    /// Does some of the ready work; false if there was none, or if another thread is doing it.
    /// `patient`: the caller has nothing better to do; else it works only if much has piled up.
    fn advance(&self, patient: bool) -> bool;
}

/// How a transaction was settled.
#[derive(Debug)]
pub enum Settled<'a> {
    /// The foreseen outcome was taken over unchanged.
    TakenOver,
    /// The transaction was executed and made these changes.
    Executed(&'a Changes),
    /// It changed nothing that later transactions could see, or they no longer matter.
    Nothing,
    /// The batch ends here.
    End,
}

/// Runs `batch` on `view` with the helpers of `pool`, settling each transaction with `settle`.
/// Returns how many transactions were executed more than once.
///
/// Helpers read `view`, so it must not change meanwhile. When this returns, all helpers that were
/// not lost have released it. Past `until` it no longer waits for helpers; those still running then
/// get no further work until they have come back.
///
/// # Errors
/// Any error that `settle` returns.
pub fn run<V, S>(
    pool: &Pool,
    env: &ExecutionEnv,
    batch: &Arc<dyn Batch>,
    view: &Arc<V>,
    settle: &mut S,
    until: Instant,
) -> Result<usize, S::Error>
where
    V: StateView + Send + Sync + 'static,
    S: Settle,
{
    if pool.is_empty() || batch.len() < 2 {
        for place in 0..batch.len() {
            if matches!(settle.settle(place, None)?, Settled::End) {
                break;
            }
        }
        return Ok(0);
    }
    let aside = settle.aside();
    let memory = pool.memory(batch.len());
    let speculation = Arc::new(Speculation::new(env, Arc::clone(batch), Arc::clone(view), memory, aside));
    pool.give(&speculation);
    let result = speculation.own(settle, until);
    speculation.end();
    pool.gather(until);
    let again = speculation.again();
    if let Some(memory) = Arc::into_inner(speculation).and_then(Speculation::into_memory) {
        pool.keep(memory);
    }
    result.map(|()| again)
}
