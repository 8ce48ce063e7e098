//! The JSON shapes, for reading and writing.

use std::collections::BTreeMap;

use revm::primitives::alloy_primitives::{Bloom, U64};
use revm::primitives::{Address, B256, Bytes, Log, U256};
use serde::{Deserialize, Serialize};

use super::envelope::Unwrapped;
use super::transaction;
use super::variants::{Listed, PreJson};
use crate::block::chain::ChainJson;
use crate::block::prestate::Accounts;
use crate::block::{Block, ExpectedReceipt, Fork, Parent};
use crate::witness::WitnessJson;

#[derive(Deserialize, Serialize)]
pub(super) struct FileJson {
    pub(super) block: Unwrapped<BlockJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pre: Option<Unwrapped<PreJson>>,
    pub(super) hashes: Option<BTreeMap<String, B256>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Unwrapped<ParentJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain: Option<ChainJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipts: Option<Unwrapped<Vec<ReceiptJson>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) witness: Option<Unwrapped<WitnessJson>>,
}

/// The fields of the parent's header (as `eth_getBlockByNumber` returns it) that its child depends
/// on.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParentJson {
    pub(super) number: U64,
    pub(super) hash: B256,
    pub(super) timestamp: U64,
    pub(super) gas_limit: U64,
    pub(super) gas_used: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_fee_per_gas: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blob_gas_used: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) excess_blob_gas: Option<U64>,
}

/// A receipt as `eth_getBlockReceipts` returns it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transaction_hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<U64>,
    pub(super) cumulative_gas_used: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logs_bloom: Option<Bloom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logs: Option<Vec<LogJson>>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct LogJson {
    pub(super) address: Address,
    pub(super) topics: Vec<B256>,
    pub(super) data: Bytes,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockJson {
    pub(super) number: U64,
    pub(super) hash: B256,
    pub(super) parent_hash: B256,
    pub(super) miner: Address,
    pub(super) timestamp: U64,
    pub(super) gas_limit: U64,
    pub(super) gas_used: U64,
    pub(super) logs_bloom: Bloom,
    pub(super) receipts_root: B256,
    pub(super) difficulty: Option<U256>,
    pub(super) mix_hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_fee_per_gas: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) excess_blob_gas: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_beacon_block_root: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) withdrawals_root: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blob_gas_used: Option<U64>,
    #[serde(alias = "balHash", skip_serializing_if = "Option::is_none")]
    pub(super) block_access_list_hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slot_number: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_root: Option<B256>,
    /// Read only to detect whether the header is complete; nothing is checked against it.
    #[serde(skip_serializing)]
    pub(super) transactions_root: Option<B256>,
    #[serde(skip_serializing)]
    pub(super) extra_data: Option<Bytes>,
    /// Length of the block in RLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<U64>,
    pub(super) transactions: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) withdrawals: Option<Vec<WithdrawalJson>>,
    pub(super) uncles: Option<Vec<B256>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WithdrawalJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validator_index: Option<U64>,
    pub(super) address: Address,
    /// In gwei.
    pub(super) amount: U64,
}

impl From<ParentJson> for Parent {
    fn from(parent: ParentJson) -> Self {
        Self {
            number: parent.number.to(),
            hash: parent.hash,
            timestamp: parent.timestamp.to(),
            gas_limit: parent.gas_limit.to(),
            gas_used: parent.gas_used.to(),
            base_fee: parent.base_fee_per_gas.map(|fee| fee.to()),
            blob_gas_used: parent.blob_gas_used.map(|gas| gas.to()),
            excess_blob_gas: parent.excess_blob_gas.map(|gas| gas.to()),
        }
    }
}

impl From<&Parent> for ParentJson {
    fn from(parent: &Parent) -> Self {
        Self {
            number: U64::from(parent.number),
            hash: parent.hash,
            timestamp: U64::from(parent.timestamp),
            gas_limit: U64::from(parent.gas_limit),
            gas_used: U64::from(parent.gas_used),
            base_fee_per_gas: parent.base_fee.map(U64::from),
            blob_gas_used: parent.blob_gas_used.map(U64::from),
            excess_blob_gas: parent.excess_blob_gas.map(U64::from),
        }
    }
}

impl From<&Block> for FileJson {
    fn from(block: &Block) -> Self {
        let header = &block.header;
        let expected = &block.expected;
        let transactions = block.transactions.iter().enumerate();
        let transactions = transactions
            .map(|(index, tx)| Listed::Whole(Box::new(transaction::of(tx, index, block))))
            .collect();
        let withdrawals = block.withdrawals.iter().map(|w| WithdrawalJson {
            index: w.index.map(U64::from),
            validator_index: w.validator_index.map(U64::from),
            address: w.address,
            amount: U64::from(w.gwei),
        });
        Self {
            block: Unwrapped(BlockJson {
                number: U64::from(header.number),
                hash: block.hash,
                parent_hash: header.parent_hash,
                miner: header.beneficiary,
                timestamp: U64::from(header.timestamp),
                gas_limit: U64::from(header.gas_limit),
                gas_used: U64::from(block.expected.gas_used),
                logs_bloom: block.expected.logs_bloom,
                receipts_root: block.expected.receipts_root,
                state_root: block.expected.state_root,
                difficulty: Some(header.difficulty),
                mix_hash: Some(header.prev_randao),
                base_fee_per_gas: (block.chain.fork >= Fork::London).then(|| U64::from(header.base_fee)),
                excess_blob_gas: header.excess_blob_gas.map(U64::from),
                parent_beacon_block_root: header.parent_beacon_root,
                requests_hash: expected.requests_hash,
                withdrawals_root: expected.withdrawals_root,
                blob_gas_used: expected.blob_gas_used.map(U64::from),
                block_access_list_hash: expected.block_access_list_hash,
                slot_number: header.slot_number.map(U64::from),
                transactions_root: None,
                extra_data: None,
                size: block.size.map(U64::from),
                transactions,
                withdrawals: (block.chain.fork >= Fork::Shanghai).then(|| withdrawals.collect()),
                uncles: Some(vec![B256::ZERO; block.uncles]),
            }),
            pre: block.pre.as_ref().map(|pre| {
                let accounts = pre.iter().map(|(address, account)| (*address, account.into())).collect();
                Unwrapped(PreJson::Accounts(Accounts(accounts)))
            }),
            hashes: Some(block.hashes.iter().map(|(number, hash)| (number.to_string(), *hash)).collect()),
            parent: block.parent.as_ref().map(|parent| Unwrapped(parent.into())),
            chain: Some(block.chain.into()),
            receipts: (expected.receipts.as_ref())
                .map(|receipts| Unwrapped(receipts.iter().map(Into::into).collect())),
            witness: block.witness.as_deref().map(|witness| Unwrapped(witness.into())),
        }
    }
}

impl From<&ExpectedReceipt> for ReceiptJson {
    fn from(receipt: &ExpectedReceipt) -> Self {
        let log = |log: &Log| LogJson {
            address: log.address,
            topics: log.topics().to_vec(),
            data: log.data.data.clone(),
        };
        Self {
            transaction_hash: None,
            status: receipt.success.map(|success| U64::from(u8::from(success))),
            cumulative_gas_used: U64::from(receipt.cumulative_gas_used),
            logs_bloom: receipt.logs_bloom,
            logs: receipt.logs.as_ref().map(|logs| logs.iter().map(log).collect()),
        }
    }
}

impl From<ReceiptJson> for ExpectedReceipt {
    fn from(receipt: ReceiptJson) -> Self {
        let log = |log: LogJson| Log::new_unchecked(log.address, log.topics, log.data);
        Self {
            success: receipt.status.map(|status| !status.is_zero()),
            cumulative_gas_used: receipt.cumulative_gas_used.to(),
            logs_bloom: receipt.logs_bloom,
            logs: receipt.logs.map(|logs| logs.into_iter().map(log).collect()),
        }
    }
}
