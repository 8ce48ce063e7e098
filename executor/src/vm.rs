//! Executing one transaction, or one system call, on any view of the state.
//!
//! The EVM is revm. This module adds what sharding needs: every load goes into a [`ReadSet`],
//! writes are returned as plain data instead of going into a database, the beneficiary's fee is
//! separate, and the view may fail (it may be on the other side of a network).

mod execute;
mod fee;
mod outcome;
mod overlay;
mod part;
mod recorder;
mod requests;
mod system;

use std::sync::Arc;

use revm::context::{BlockEnv, CfgEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

use crate::block::{Block, Chain, Fork, Header, Transaction};
use crate::state::AccountInfo;

pub use execute::Executor;
pub use outcome::{
    AccountChange, BlockGas, Changes, CodecError, Effect, MAX_ENCODED_BYTES, ReadSet, Receipt, TxOutcome,
    decode, encode,
};
pub use overlay::Overlay;
pub use part::{PartRun, execute_part};
pub use requests::Requests;
/// Types of this field, for crates that implement a view of their own.
pub use revm::{
    bytecode::Bytecode,
    primitives::{Address, B256, U256},
};
pub use system::{after_transactions, before_transactions};

/// What an executor reads. Each call may fail, because a view may be remote and run out of time.
pub trait StateView {
    /// The account, or `None` if it does not exist.
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError>;
    /// Code by its hash; create it with [`crate::state::analysed`].
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError>;
    /// A storage slot; zero if absent.
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError>;
    /// Hash of an earlier block; requested only within `BLOCKHASH`'s reach.
    fn block_hash(&self, number: u64) -> Result<B256, ViewError>;
}

impl<V: StateView + ?Sized> StateView for Arc<V> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        (**self).account(address)
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        (**self).code(code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        (**self).storage(address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        (**self).block_hash(number)
    }
}

impl<V: StateView + ?Sized> StateView for &V {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        (**self).account(address)
    }
    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        (**self).code(code_hash)
    }
    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        (**self).storage(address, slot)
    }
    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        (**self).block_hash(number)
    }
}

/// Why a view cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The block requests a hash that its file does not have.
    #[error("the hash of block {0} is asked for and is not in the block's `hashes`")]
    UnknownBlockHash(u64),
    /// No code with that hash is known.
    #[error("code with hash {0} is not known")]
    UnknownCode(B256),
    /// The value depends on all earlier transactions, or must be requested: only the thread that
    /// settles transactions can know it.
    #[error("it cannot be known ahead")]
    NotAhead,
    /// The view could not be read, for instance because a deadline passed. The part cannot go on.
    #[error("the state cannot be read: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ViewError {
    /// True if the same read may succeed in block order: a speculated transaction that meets this
    /// error is simply left without an outcome. False means that the view itself is unavailable.
    pub const fn concerns_one_transaction(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }
}

impl revm::database_interface::DBErrorMarker for ViewError {}

/// Why a transaction could not be executed at all. (An invalid transaction is an outcome, not an
/// error.)
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The header cannot be executed under the fork (no prevrandao or no excess blob gas).
    #[error("the header does not fit the fork: {0}")]
    Header(String),
    /// revm failed for a reason of its own.
    #[error("the EVM gave up: {0}")]
    Evm(String),
}

/// What all transactions of a block share. Plain data, sent over the network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionEnv {
    /// Chain id and fork.
    pub chain: Chain,
    /// The header fields that execution sees.
    pub header: Header,
}

impl ExecutionEnv {
    /// The environment of `block`.
    pub fn of(block: &Block) -> Self {
        Self { chain: block.chain, header: block.header.clone() }
    }

    /// The fork in force.
    pub const fn fork(&self) -> Fork {
        self.chain.fork
    }

    fn cfg_env(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(self.fork().spec()).with_chain_id(self.chain.id);
        cfg.set_spec_and_mainnet_gas_params(self.fork().spec());
        // Before Spurious Dragon signatures had no chain id, so there is nothing to compare.
        cfg.tx_chain_id_check = true;
        if let Some(blobs) = self.chain.blobs {
            cfg.set_max_blobs_per_tx(blobs.max_per_transaction(self.fork()));
        }
        cfg
    }

    fn block_env(&self) -> BlockEnv {
        let header = &self.header;
        let spec = self.fork().spec();
        // Files whose excess has no price are refused.
        let price = |excess| self.chain.blobs.and_then(|blobs| blobs.price(excess)).unwrap_or(u128::MAX);
        BlockEnv {
            number: U256::from(header.number),
            beneficiary: header.beneficiary,
            timestamp: U256::from(header.timestamp),
            gas_limit: header.gas_limit,
            basefee: header.base_fee,
            difficulty: header.difficulty,
            prevrandao: spec.is_enabled_in(SpecId::MERGE).then_some(header.prev_randao),
            blob_excess_gas_and_price: header
                .excess_blob_gas
                .filter(|_| spec.is_enabled_in(SpecId::CANCUN))
                .map(|excess| BlobExcessGasAndPrice {
                    excess_blob_gas: excess,
                    blob_gasprice: price(excess),
                }),
            slot_num: header.slot_number.unwrap_or_default(),
        }
    }
}

/// Executes one transaction on a view. For several on the same view an [`Executor`] avoids setting
/// up the EVM each time.
pub fn execute<V: StateView>(
    env: &ExecutionEnv,
    transaction: &Transaction,
    index: u32,
    view: &V,
) -> Result<TxOutcome, VmError> {
    Executor::new(env, view).execute(index, transaction)
}
