//! The transactions and withdrawals of a block.

use revm::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

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
