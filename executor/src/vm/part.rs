//! Executes a part of a block speculatively: its transactions one after the other, each seeing the
//! writes of those before it in the same part, and nothing of other parts.

use std::sync::Arc;

use crate::block::Transaction;
use crate::parallel::{Batch, Foreseen, Settle, Settled};
use crate::validate::holds;

use super::{Effect, ExecutionEnv, Executor, Overlay, StateView, TxOutcome, VmError};

/// Executes `part` on `view`, in the order given. A transaction that meets a gap in the view
/// ([`VmError::View`] with an error that concerns only one transaction) yields no outcome and will
/// be executed in block order; any other error ends the part. `progress` is called with a
/// transaction's index after each one.
///
/// # Errors
/// The error that ended the part.
pub fn execute_part<'t, V: StateView>(
    env: &ExecutionEnv,
    part: impl IntoIterator<Item = (u32, &'t Transaction)>,
    view: V,
    progress: &mut dyn FnMut(u32),
) -> Result<Vec<TxOutcome>, VmError> {
    let mut executor = Executor::new(env, Overlay::new(env, view));
    let mut outcomes = Vec::new();
    for (index, transaction) in part {
        if let Some(outcome) = execute_one(&mut executor, index, transaction)? {
            executor.view().apply(&outcome);
            outcomes.push(outcome);
        }
        progress(index);
    }
    Ok(outcomes)
}

fn execute_one<'v, V: StateView + 'v>(
    executor: &mut Executor<'v, Overlay<V>>,
    index: u32,
    transaction: &Transaction,
) -> Result<Option<TxOutcome>, VmError> {
    match executor.execute(index, transaction) {
        Ok(outcome) => Ok(Some(outcome)),
        Err(VmError::View(error)) if error.concerns_one_transaction() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for a part that several threads execute: how the owner settles each of its
/// transactions.
pub struct PartRun<'a, V: StateView, E> {
    batch: Arc<dyn Batch>,
    executor: Executor<'a, Overlay<V>>,
    outcomes: Vec<TxOutcome>,
    taken_over: usize,
    /// Called before each transaction; its error ends the part.
    before: &'a mut dyn FnMut() -> Result<(), E>,
    progress: &'a mut dyn FnMut(),
}

impl<'a, V: StateView + 'a, E> PartRun<'a, V, E> {
    /// A run with nothing executed yet. `view` may know more than the view that helpers read, but
    /// must not contradict it. `before` is called before each transaction, and its error ends the
    /// part; `progress` is called whenever this thread has made progress.
    pub fn new(
        env: &ExecutionEnv,
        batch: &Arc<dyn Batch>,
        view: V,
        before: &'a mut dyn FnMut() -> Result<(), E>,
        progress: &'a mut dyn FnMut(),
    ) -> Self {
        Self {
            batch: Arc::clone(batch),
            executor: Executor::new(env, Overlay::new(env, view)),
            outcomes: Vec::with_capacity(batch.len()),
            taken_over: 0,
            before,
            progress,
        }
    }

    /// How many transactions helpers executed ahead with outcomes that held.
    pub const fn taken_over(&self) -> usize {
        self.taken_over
    }

    /// The outcomes, without transactions that met a gap in the view.
    pub fn into_outcomes(self) -> Vec<TxOutcome> {
        self.outcomes
    }
}

impl<'a, V: StateView + 'a, E: From<VmError>> Settle for PartRun<'a, V, E> {
    type Error = E;

    fn settle(&mut self, place: usize, foreseen: Option<Foreseen>) -> Result<Settled<'_>, E> {
        (self.before)()?;
        let taken_over = foreseen
            .map(|foreseen| foreseen.outcome)
            .filter(|outcome| holds(&outcome.reads, &*self.executor.view()));
        let is_taken_over = taken_over.is_some();
        self.taken_over += usize::from(is_taken_over);
        let outcome = match (taken_over, self.batch.get(place)) {
            (Some(outcome), _) => Some(outcome),
            (None, Some((index, transaction))) => execute_one(&mut self.executor, index, transaction)?,
            (None, None) => None,
        };
        (self.progress)();
        let Some(outcome) = outcome else { return Ok(Settled::Nothing) };
        self.executor.view().apply(&outcome);
        self.outcomes.push(outcome);
        Ok(match self.outcomes.last().map(|outcome| &outcome.effect) {
            _ if is_taken_over => Settled::TakenOver,
            Some(Effect::Executed { changes, .. }) => Settled::Executed(changes),
            _ => Settled::Nothing,
        })
    }

    fn progress(&mut self) {
        (self.progress)();
    }
}
