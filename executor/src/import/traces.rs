//! The answer of `debug_traceBlockByNumber` with prestateTracer: for each transaction, what it
//! touched, as it was before the transaction.
//!
//! Merging these lists by first appearance is correct only for state that a list shows at the
//! transaction that touches it first. Without the option `includeEmpty` a list leaves out what did
//! not exist before its transaction; a later list then shows it with the value that an earlier
//! transaction gave it. So the lists are not merged: during execution, state that a transaction is
//! the first to read is taken from its own list. What is not in that list did not exist.

use revm::primitives::{Address, U256};
use serde::Deserialize;
use serde_json::Value;

use crate::block::Block;
use crate::block::prestate::{AccountJson, Accounts, Trace};

/// The lists of a block's transactions, in their order.
#[derive(Debug)]
pub(super) struct Traces(Vec<Accounts>);

impl Traces {
    /// Parses the lists, which must match the transactions of `block`.
    pub(super) fn read(list: &Value, block: &Block) -> Result<Self, String> {
        let number = block.number();
        let again = "Trace it again: debug_traceBlockByNumber(n, {\"tracer\": \"prestateTracer\", \"tracerConfig\": {\"includeEmpty\": true}}).";
        let traces = Vec::<Trace>::deserialize(list).map_err(|error| {
            format!("the traces of block {number} are not what prestateTracer answers ({error}). {again}")
        })?;
        if traces.len() != block.transactions.len() {
            let (traces, transactions) = (traces.len(), block.transactions.len());
            return Err(format!(
                "{traces} traces for the {transactions} transactions of block {number}. {again}"
            ));
        }
        let of_another = traces
            .iter()
            .zip(&block.transactions)
            .position(|(trace, transaction)| trace.transaction.is_some_and(|hash| hash != transaction.hash));
        match of_another {
            Some(index) => Err(format!(
                "trace {index} is of another transaction than block {number} has at that place. {again}"
            )),
            None => Ok(Self(traces.into_iter().map(|trace| trace.accounts).collect())),
        }
    }

    /// An account in the list of one transaction.
    pub(super) fn at(&self, transaction: usize, address: &Address) -> Option<&AccountJson> {
        self.0.get(transaction)?.0.get(address)
    }

    /// An account in the first list that contains it.
    pub(super) fn first(&self, address: &Address) -> Option<&AccountJson> {
        self.0.iter().find_map(|list| list.0.get(address))
    }

    /// A slot in the first list that contains it.
    pub(super) fn first_slot(&self, address: &Address, slot: &U256) -> Option<U256> {
        self.0.iter().find_map(|list| list.0.get(address)?.storage.as_ref()?.get(slot)).copied()
    }
}

/// The beginning of somebody else's text, as long as fits in a message.
pub(super) fn cut(words: &str) -> String {
    const MOST: usize = 300;
    let mut plain: String = words.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if words.chars().nth(MOST).is_some() {
        plain.push('…');
    }
    plain
}
