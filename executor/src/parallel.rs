//! Executing transactions on several threads at once, with the result of executing them one after
//! the other.
//!
//! One thread, the *owner*, settles transactions strictly in order: it takes over what a helper has
//! executed ahead if everything that was read still holds, and executes the transaction itself if
//! not. So results are right whatever helpers do, and a helper that is late, wrong or gone costs
//! time only. *Helpers* run ahead on a memory of several versions (in the spirit of Block-STM,
//! <https://arxiv.org/abs/2203.06871>): a transaction sees what those before it wrote as far as
//! they have been executed, and is executed again when one of them turns out to have written
//! something else. While the transaction at the head is still running on a helper, the owner runs
//! ahead too.
//!
//! What was left out of Block-STM, and why: threads there validate each other and nobody is in
//! charge, which needs a count of validations under way to know when a block has ended. With an
//! owner who validates in order anyway the end is where the owner arrives, and a helper's own
//! checks are only hints that may race. The price is that settling is sequential; it costs about
//! one microsecond a transaction.
//!
//! Nobody waits for a thread without end: past `until` the owner executes what it was waiting for
//! itself.

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

/// Transactions that are executed as if one after the other.
pub trait Batch: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The one at `place`, with its position in the block.
    fn get(&self, place: usize) -> Option<(u32, &Transaction)>;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole block.
impl Batch for Block {
    fn len(&self) -> usize {
        self.transactions.len()
    }
    fn get(&self, place: usize) -> Option<(u32, &Transaction)> {
        Some((u32::try_from(place).ok()?, self.transactions.get(place)?))
    }
}

/// Some transactions of a block, by their positions in it.
#[derive(Debug)]
pub struct Picked {
    /// The block.
    pub block: Arc<Block>,
    /// Positions, ascending.
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

/// What came of a transaction that was executed ahead.
#[derive(Debug)]
pub struct Foreseen {
    /// Its outcome.
    pub outcome: TxOutcome,
    /// Everything it read stood in the view below, which does not change while the batch runs: the
    /// outcome holds unless one of the transactions before it has written what it read. The view
    /// need not be asked again.
    pub of_base: bool,
}

/// What the owner does with each transaction, in order.
pub trait Settle {
    /// Why it cannot go on.
    type Error;

    /// Settles the transaction at `place`: takes over what was foreseen if it still holds, else
    /// executes the transaction.
    fn settle(&mut self, place: usize, foreseen: Option<Foreseen>) -> Result<Settled<'_>, Self::Error>;

    /// Called when the owner has done something useful other than to settle: it has executed ahead.
    fn progress(&mut self) {}

    /// Work that is to be done at some time by whichever thread has nothing better to do; `None` if
    /// there is none.
    fn aside(&mut self) -> Option<Arc<dyn Aside>> {
        None
    }
}

/// Work beside the execution. Each call does a little of it.
pub trait Aside: Send + Sync {
    /// Does some of what there is to do now; false if there was nothing, or if another thread is at
    /// it. `patient`: nothing better to do; else only if much has piled up.
    fn advance(&self, patient: bool) -> bool;
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Settled<'a> {
    /// The outcome was taken over as it is.
    TakenOver,
    /// It was executed and changed this.
    Executed(&'a Changes),
    /// It changed nothing that later transactions could see, or they do not matter any more.
    Nothing,
    /// The batch ends here.
    End,
}

/// Runs `batch` on `view` with the helpers of `pool`, settling each transaction with `settle`.
///
/// `view` is what helpers read; it must not change meanwhile. When this returns, all helpers that
/// were not lost have let go of it. Past `until` nobody waits for a helper any more; those that
/// still run then are given no further work until they have come back. How many transactions were
/// executed more than once comes back.
///
/// # Errors
/// Whatever `settle` says.
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
