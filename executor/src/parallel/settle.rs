//! What the owner does with each transaction, in order.

use std::sync::Arc;

use crate::vm::{Changes, TxOutcome};

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
