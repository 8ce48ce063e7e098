//! Transactions to execute together.

use std::sync::Arc;

use crate::block::{Block, Transaction};

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
