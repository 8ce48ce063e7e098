//! What is known of a block before it is executed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use revm::primitives::B256;
use serde_json::Value;

use crate::block::PreState;

/// What is known of a block before it is executed.
#[derive(Debug, Default)]
pub struct Parts {
    /// Where the block comes from, for messages.
    pub from: PathBuf,
    /// What `eth_getBlockByNumber(n, true)` answered.
    pub block: Value,
    /// The parent's header, if given.
    pub parent: Option<Value>,
    /// What `eth_getBlockReceipts(n)` answered, if it did.
    pub receipts: Option<Value>,
    /// What `debug_executionWitness(n)` answered, if it did.
    pub witness: Option<Value>,
    /// What `debug_traceBlockByNumber` with prestateTracer answered, if it did.
    pub traces: Option<Value>,
    /// Accounts given by hand.
    pub given: PreState,
    /// Hashes of earlier blocks, given by hand.
    pub hashes: BTreeMap<u64, B256>,
    /// The key `chain` of the file, if given.
    pub chain: Option<Value>,
}
