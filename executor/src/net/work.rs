//! The payload of a part: the environment for executing transactions, and the transactions with
//! their places in the block.

use serde::{Deserialize, Serialize};

use crate::block::{Block, Transaction};
use crate::parallel::Batch;
use crate::vm::ExecutionEnv;

/// A part as the shard receives it.
#[derive(Debug, Deserialize)]
pub struct Work {
    /// What all transactions of the block share.
    pub env: ExecutionEnv,
    /// The transactions with their places in the block, ascending.
    pub transactions: Vec<(u32, Transaction)>,
}

/// The places in this batch are not those in the block.
impl Batch for Work {
    fn len(&self) -> usize {
        self.transactions.len()
    }
    fn get(&self, place: usize) -> Option<(u32, &Transaction)> {
        self.transactions.get(place).map(|(index, transaction)| (*index, transaction))
    }
}

/// A part as the coordinator has it, without copies. Both types have the same encoding.
#[derive(Debug, Serialize)]
pub struct WorkRef<'a> {
    env: &'a ExecutionEnv,
    transactions: Vec<(u32, &'a Transaction)>,
}

impl<'a> WorkRef<'a> {
    /// The transactions of `block` at `places`.
    pub fn new(env: &'a ExecutionEnv, block: &'a Block, places: &[usize]) -> Self {
        let at = |place: &usize| Some((u32::try_from(*place).ok()?, block.transactions.get(*place)?));
        Self { env, transactions: places.iter().filter_map(at).collect() }
    }
}
