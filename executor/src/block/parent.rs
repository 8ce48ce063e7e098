//! What a block depends on in its parent's header.

use alloy_consensus::Header as ConsensusHeader;
use revm::primitives::B256;

/// The fields of the parent's header that determine those of its child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its block number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// Gas used by all of its transactions.
    pub gas_used: u64,
    /// Its base fee per gas (London on).
    pub base_fee: Option<u64>,
    /// Blob gas that it used (Cancun on).
    pub blob_gas_used: Option<u64>,
    /// Its excess blob gas (Cancun on).
    pub excess_blob_gas: Option<u64>,
}

impl Parent {
    /// Takes the fields from a header with this hash.
    pub fn of_header(header: &ConsensusHeader, hash: B256) -> Self {
        Self {
            number: header.number,
            hash,
            timestamp: header.timestamp,
            gas_limit: header.gas_limit,
            gas_used: header.gas_used,
            base_fee: header.base_fee_per_gas,
            blob_gas_used: header.blob_gas_used,
            excess_blob_gas: header.excess_blob_gas,
        }
    }
}
