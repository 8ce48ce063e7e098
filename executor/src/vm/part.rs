//! Executing a part of a block speculatively: its transactions one after the other, each seeing what those of the same part
//! before it wrote, and nothing of the other parts.

use crate::block::Transaction;

use super::{ExecutionEnv, Executor, Overlay, StateView, TxOutcome, VmError};

/// Executes `part` on `view`, in the order given. A transaction that meets a gap in the view ([`VmError::View`] with an
/// error of one transaction only) yields no outcome and will be executed in block order; any other error ends the part.
/// `progress` is called after each transaction with its index.
pub fn execute_part<'t, V: StateView>(
    env: &ExecutionEnv,
    part: impl IntoIterator<Item = (u32, &'t Transaction)>,
    view: V,
    progress: &mut dyn FnMut(u32),
) -> Result<Vec<TxOutcome>, VmError> {
    let mut executor = Executor::new(env, Overlay::new(env, view));
    let mut outcomes = Vec::new();
    for (index, transaction) in part {
        match executor.execute(index, transaction) {
            Ok(outcome) => {
                executor.view().apply(&outcome);
                outcomes.push(outcome);
            }
            Err(VmError::View(error)) if error.concerns_one_transaction() => {}
            Err(error) => return Err(error),
        }
        progress(index);
    }
    Ok(outcomes)
}
