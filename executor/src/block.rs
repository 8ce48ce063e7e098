//! A block as this crate runs it: plain data, independent of the file it came from.
//!
//! A file holds one JSON object for one block (`block`, `pre`, `hashes`, `chain`, `parent`,
//! `receipts`), gzipped or not; [`Block::load`] reads one file and [`load_chain`] a folder. The
//! input is untrusted: every refusal is a [`BlockError`] that names the file, what is wrong with it
//! and what to do next, and no code here panics or allocates without a bound.

mod blobs;
mod chain;
mod file;
mod fork;
mod json;
mod parent;
pub(crate) mod prestate;
mod receipts;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, Bytes, KECCAK_EMPTY, U256, keccak256};
use serde::{Deserialize, Serialize};

use crate::witness::Witness;

pub use blobs::{Blobs, blob_gas};
pub use file::load_chain;
pub use fork::Fork;
pub use json::{MAX_GAS, write};
pub use parent::Parent;
pub use receipts::{ExpectedReceipt, FirstDifference, TransactionDifference};
pub use text::MAX_BLOCK_BYTES;

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
    /// Reads one block file, `.json` or `.json.gz`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BlockError> {
        file::load(path.as_ref())
    }

    /// Reads one block from JSON text; `path` is only used in messages.
    pub fn from_json(path: impl Into<PathBuf>, text: &[u8]) -> Result<Self, BlockError> {
        json::parse(path.into(), text)
    }

    /// The JSON text that [`Self::from_json`] reads. Every block read by it can be written again.
    ///
    /// # Errors
    /// If the encoder fails, which it never does on plain data.
    pub fn to_json(&self) -> std::io::Result<Vec<u8>> {
        json::text(self)
    }

    /// The block's number.
    pub const fn number(&self) -> u64 {
        self.header.number
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

/// A transaction with its sender already known. Plain data, sent over the network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Hash, as the file claims it.
    pub hash: B256,
    /// EIP-2718 type, 0 to 4.
    pub tx_type: u8,
    /// The account that sends the transaction and pays for it.
    pub sender: Address,
    /// The sender's nonce.
    pub nonce: u64,
    /// Recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Wei to transfer.
    pub value: U256,
    /// Call data or init code.
    pub input: Bytes,
    /// The most gas that the transaction may use; the sender buys it up front.
    pub gas_limit: u64,
    /// Wei per gas: the gas price or, from type 2 on, the most to pay.
    pub max_fee: u128,
    /// The most to pay the beneficiary, in wei per gas, from type 2 on.
    pub max_priority_fee: Option<u128>,
    /// Chain id, if the signature includes one.
    pub chain_id: Option<u64>,
    /// Addresses and slots the sender declares (EIP-2930).
    pub access_list: Vec<(Address, Vec<B256>)>,
    /// The most to pay per unit of blob gas, in wei (type 3).
    pub max_fee_per_blob_gas: u128,
    /// Versioned hashes of the blobs (type 3).
    pub blob_hashes: Vec<B256>,
    /// Signed delegations (type 4).
    pub authorizations: Vec<Authorization>,
}

/// A signed EIP-7702 delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// The chain it is valid for; zero means any.
    pub chain_id: U256,
    /// The account whose code to run.
    pub address: Address,
    /// The authority's nonce.
    pub nonce: u64,
    /// Signature: parity of y.
    pub y_parity: u8,
    /// Signature: r.
    pub r: U256,
    /// Signature: s.
    pub s: U256,
}

/// A withdrawal from the beacon chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Its number among all withdrawals, if the file has it.
    pub index: Option<u64>,
    /// The validator whose stake is withdrawn, if the file has it.
    pub validator_index: Option<u64>,
    /// The account that is credited.
    pub address: Address,
    /// The amount, in gwei.
    pub gwei: u64,
}

/// Accounts as they stood before a block.
pub type PreState = BTreeMap<Address, PreAccount>;

/// One account of a [`PreState`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreAccount {
    /// Balance, in wei.
    pub balance: U256,
    /// Nonce.
    pub nonce: u64,
    /// Code; empty if the account has none or its code is not known.
    pub code: Bytes,
    /// Hash of code that is not known because it does not run. Only with a witness, which proves
    /// it.
    pub code_hash: Option<B256>,
    /// Slots that are not zero.
    pub storage: BTreeMap<U256, U256>,
}

impl PreAccount {
    /// Hash of the account's code, whether the code is known or not.
    pub(crate) fn hash_of_code(&self) -> B256 {
        match self.code_hash {
            _ if !self.code.is_empty() => keccak256(&self.code),
            Some(hash) => hash,
            None => KECCAK_EMPTY,
        }
    }
}

/// Why a block file was refused. Each message names the file, what is wrong and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The path cannot be opened or read.
    #[error("{}: cannot be read: {source}. Name a block file or a folder of them with --blocks, or make some with `shard-executor generate --out DIR`.", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The error from the system.
        source: std::io::Error,
    },
    /// A `.gz` whose contents are not gzip, are damaged or end early.
    #[error("{}: not a whole gzip file ({source}). It was probably cut short while being copied or is not compressed at all: copy it again, or rename it to .json if it is plain text.", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The error from the decoder.
        source: std::io::Error,
    },
    /// More text than any block can need.
    #[error("{}: holds more than {} MiB of JSON, which no block needs; reading stopped there. Split it into one file a block.", path.display(), MAX_BLOCK_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Compressed as no real block is: reading on would only fill the memory.
    #[error("{}: {reason}, which no block does; reading stopped there. Do not trust where it comes from; if it is a block after all, unpack it and name the .json file.", path.display())]
    Packing {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More files than the limit of one run.
    #[error("{}: holds more than a million block files. Name a folder with fewer.", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Not JSON, or JSON of a different shape.
    #[error("{}:{line}:{column}: {reason}. Each file holds one object with the keys `block`, `pre` and `hashes`; `block` is what eth_getBlockByNumber(n, true) answers.", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The error from the parser.
        reason: String,
    },
    /// The parts do not belong to one block, or not to a block this crate can run.
    #[error("{}: {reason}. {hint}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
        /// What to do next.
        hint: String,
    },
    /// A folder without block files.
    #[error("{}: no block files (*.json, *.json.gz) in this folder. Name another with --blocks, or make some with `shard-executor generate --out DIR`.", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Two files that hold the same block.
    #[error("{} and {}: both hold block {number}. Keep one of them.", first.display(), second.display())]
    Duplicate {
        /// The block's number.
        number: u64,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// A block without `pre` whose parent, which it would run on, is missing.
    #[error("{}: block {number} has no `pre`, so it stands on the state after block {}, which is not in the same folder. Add that block's file, or give this one a `pre` (what debug_traceBlockByNumber answers with prestateTracer).", path.display(), number.saturating_sub(1))]
    NoState {
        /// The file.
        path: PathBuf,
        /// The number of its block.
        number: u64,
    },
}

/// A chain of blocks, ordered by number.
pub type Blocks = Vec<Arc<Block>>;
