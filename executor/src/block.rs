//! A block as this crate runs it: plain data, independent of the file it came from.
//!
//! A file holds one JSON object for one block (`block`, `pre`, `hashes`, `chain`, `parent`,
//! `receipts`), gzipped or not; [`Block::load`] reads one file and [`load_chain`] a folder. The
//! input is untrusted: every refusal is a [`BlockError`] that names the file, what is wrong with it
//! and what to do next, and no code here panics or allocates without a bound.

mod account;
mod blobs;
mod chain;
mod error;
mod file;
mod fork;
mod json;
mod parent;
pub(crate) mod prestate;
mod receipts;
pub(crate) mod text;
mod transaction;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

use crate::witness::Witness;

pub use account::{PreAccount, PreState};
pub use blobs::{Blobs, blob_gas};
pub use error::BlockError;
pub use file::load_chain;
pub use fork::Fork;
pub use json::{MAX_GAS, write};
pub use parent::Parent;
pub use receipts::{ExpectedReceipt, FirstDifference, TransactionDifference};
pub use text::MAX_BLOCK_BYTES;
pub use transaction::{Authorization, Transaction, Withdrawal};

/// One block to execute, with what its header promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The file it came from; used in messages.
    pub path: PathBuf,
    /// The block's own hash, as the header claims it.
    pub hash: B256,
    /// Chain id and fork.
    pub chain: Chain,
    /// The header fields that the EVM can see.
    pub header: Header,
    /// The results that the header commits to.
    pub expected: Expected,
    /// The block's length in RLP, from Osaka on, where it is limited; a lower bound if the file
    /// lacks signatures.
    pub size: Option<u64>,
    /// The transactions, in the block's order.
    pub transactions: Vec<Transaction>,
    /// Withdrawals, credited after the last transaction (Shanghai on).
    pub withdrawals: Vec<Withdrawal>,
    /// How many uncles the block includes; each pays the beneficiary a little (before the Merge).
    pub uncles: usize,
    /// The accounts as they stood before the block; `None`: it runs on the parent's state.
    pub pre: Option<PreState>,
    /// What the block needs of its parent's header, if the file or the folder has it.
    pub parent: Option<Parent>,
    /// Hashes of earlier blocks that the block may ask for, by number.
    pub hashes: BTreeMap<u64, B256>,
    /// Proves the state before the block and the state root after it.
    pub witness: Option<Arc<Witness>>,
}

impl Block {
    /// The block's number.
    pub const fn number(&self) -> u64 {
        self.header.number
    }
}

impl From<&Block> for Parent {
    fn from(block: &Block) -> Self {
        let header = &block.header;
        let used = || blob_gas(block.transactions.iter().map(|tx| tx.blob_hashes.len() as u64).sum());
        Self {
            number: header.number,
            hash: block.hash,
            timestamp: header.timestamp,
            gas_limit: header.gas_limit,
            gas_used: block.expected.gas_used,
            base_fee: (block.chain.fork >= Fork::London).then_some(header.base_fee),
            blob_gas_used: (block.chain.fork >= Fork::Cancun)
                .then(|| block.expected.blob_gas_used.unwrap_or_else(used)),
            excess_blob_gas: header.excess_blob_gas,
        }
    }
}

/// The rules that the block runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The chain id that `CHAINID` and replay protection use.
    pub id: u64,
    /// The fork whose rules apply.
    pub fork: Fork,
    /// How many blobs a block may hold, and what they cost (Cancun on).
    pub blobs: Option<Blobs>,
}

impl Chain {
    /// The chain with this id under `fork`, with the blob parameters of `fork` or, if it has none,
    /// those of the latest fork before it that does.
    pub fn new(id: u64, fork: Fork) -> Self {
        let blobs = Fork::from_the_latest().filter(|earlier| *earlier <= fork).find_map(Blobs::of);
        Self { id, fork, blobs }
    }
}

/// The header fields that execution can observe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Block number.
    pub number: u64,
    /// Hash of the parent block.
    pub parent_hash: B256,
    /// The address that receives the fees.
    pub beneficiary: Address,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// The most gas that all transactions together may use.
    pub gas_limit: u64,
    /// Base fee per gas; zero before London.
    pub base_fee: u64,
    /// Difficulty; zero from the Merge on.
    pub difficulty: U256,
    /// The header's `mixHash`, which is `PREVRANDAO` from the Merge on.
    pub prev_randao: B256,
    /// Excess blob gas (Cancun on).
    pub excess_blob_gas: Option<u64>,
    /// Root of the parent beacon block (Cancun on).
    pub parent_beacon_root: Option<B256>,
    /// Slot of the beacon chain (Amsterdam on, EIP-7843).
    pub slot_number: Option<u64>,
}

/// What the header says that executing the block must produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Bloom over every log.
    pub logs_bloom: Bloom,
    /// Root of the receipts; checked from Byzantium on, because earlier receipts hold state roots.
    pub receipts_root: B256,
    /// Hash of the requests to the consensus layer (EIP-7685), if the file has it; checked from
    /// Prague on.
    pub requests_hash: Option<B256>,
    /// Root of the withdrawals, if the file has it; checked from Shanghai on.
    pub withdrawals_root: Option<B256>,
    /// Gas used by all blobs, if the file has it; checked from Cancun on.
    pub blob_gas_used: Option<u64>,
    /// Hash of the block's access list (EIP-7928, Amsterdam on), which is not checked.
    pub block_access_list_hash: Option<B256>,
    /// Root of the state after the block, if the file has it; checked if there is a witness.
    pub state_root: Option<B256>,
    /// Each receipt, in the block's order, if the file has them (key `receipts`); used only to find
    /// the transaction to blame.
    pub receipts: Option<Vec<ExpectedReceipt>>,
}

/// A chain of blocks, ordered by number.
pub type Blocks = Vec<Arc<Block>>;
