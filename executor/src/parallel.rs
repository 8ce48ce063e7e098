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

mod batch;
mod memory;
mod pool;
mod settle;
mod speculation;
mod view;

use std::sync::Arc;
use std::time::Instant;

use crate::vm::{ExecutionEnv, StateView};

pub use batch::{Batch, Picked};
pub use pool::{Pool, WorkerBeat};
pub use settle::{Aside, Foreseen, Settle, Settled};
use speculation::Speculation;

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
