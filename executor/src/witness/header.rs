//! A block's header in the form of JSON-RPC, converted to the RLP whose hash is the block's.

use alloy_consensus::Header;
use revm::primitives::alloy_primitives::{B64, Bloom, U64};
use revm::primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;

/// The fields that are hashed, and the hash if it is given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeaderJson {
    hash: Option<B256>,
    parent_hash: B256,
    sha3_uncles: B256,
    miner: Address,
    state_root: B256,
    transactions_root: B256,
    receipts_root: B256,
    logs_bloom: Bloom,
    difficulty: U256,
    number: U64,
    gas_limit: U64,
    gas_used: U64,
    timestamp: U64,
    extra_data: Bytes,
    mix_hash: B256,
    nonce: B64,
    base_fee_per_gas: Option<U64>,
    withdrawals_root: Option<B256>,
    blob_gas_used: Option<U64>,
    excess_blob_gas: Option<U64>,
    parent_beacon_block_root: Option<B256>,
    requests_hash: Option<B256>,
    #[serde(alias = "balHash")]
    block_access_list_hash: Option<B256>,
    slot_number: Option<U64>,
}

impl HeaderJson {
    /// The header's RLP.
    ///
    /// # Errors
    /// If its hash does not match its own `hash`.
    pub(super) fn rlp(&self) -> Result<Bytes, String> {
        let claimed = self.hash;
        let header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: self.sha3_uncles,
            beneficiary: self.miner,
            state_root: self.state_root,
            transactions_root: self.transactions_root,
            receipts_root: self.receipts_root,
            logs_bloom: self.logs_bloom,
            difficulty: self.difficulty,
            number: self.number.to(),
            gas_limit: self.gas_limit.to(),
            gas_used: self.gas_used.to(),
            timestamp: self.timestamp.to(),
            extra_data: self.extra_data.clone(),
            mix_hash: self.mix_hash,
            nonce: self.nonce,
            base_fee_per_gas: self.base_fee_per_gas.map(|fee| fee.to()),
            withdrawals_root: self.withdrawals_root,
            blob_gas_used: self.blob_gas_used.map(|gas| gas.to()),
            excess_blob_gas: self.excess_blob_gas.map(|gas| gas.to()),
            parent_beacon_block_root: self.parent_beacon_block_root,
            requests_hash: self.requests_hash,
            block_access_list_hash: self.block_access_list_hash,
            slot_number: self.slot_number.map(|slot| slot.to()),
        };
        let (number, hash) = (header.number, header.hash_slow());
        match claimed {
            Some(claimed) if claimed != hash => Err(format!(
                "the header of block {number} in `witness` has the hash {hash} and says {claimed}"
            )),
            _ => Ok(alloy_rlp::encode(header).into()),
        }
    }
}
