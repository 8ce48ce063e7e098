//! The JSON shapes, read and written.

use std::collections::BTreeMap;

use revm::primitives::alloy_primitives::{Bloom, U64};
use revm::primitives::{Address, B256, Bytes, Log, U128, U256};
use serde::{Deserialize, Serialize};

use crate::block::chain::ChainJson;
use crate::block::{Authorization, Block, ExpectedReceipt, PreAccount, Transaction};

#[derive(Deserialize, Serialize)]
pub(super) struct FileJson {
    pub(super) block: BlockJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pre: Option<BTreeMap<Address, AccountJson>>,
    pub(super) hashes: Option<BTreeMap<String, B256>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain: Option<ChainJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipts: Option<Vec<ReceiptJson>>,
}

/// As `eth_getBlockReceipts` answers them.
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
pub(super) struct AccountJson {
    pub(super) balance: Option<U256>,
    pub(super) nonce: Option<U64>,
    pub(super) code: Option<Bytes>,
    pub(super) storage: Option<BTreeMap<U256, U256>>,
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
    pub(super) transactions: Vec<TransactionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) withdrawals: Option<Vec<WithdrawalJson>>,
    pub(super) uncles: Option<Vec<B256>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionJson {
    pub(super) hash: B256,
    #[serde(rename = "type")]
    pub(super) tx_type: Option<U64>,
    pub(super) block_number: Option<U64>,
    pub(super) block_hash: Option<B256>,
    pub(super) transaction_index: Option<U64>,
    pub(super) from: Address,
    pub(super) to: Option<Address>,
    pub(super) nonce: U64,
    pub(super) value: U256,
    pub(super) input: Bytes,
    pub(super) gas: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gas_price: Option<U128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_fee_per_gas: Option<U128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_priority_fee_per_gas: Option<U128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain_id: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access_list: Option<Vec<AccessJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_fee_per_blob_gas: Option<U128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blob_versioned_hashes: Option<Vec<B256>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authorization_list: Option<Vec<AuthorizationJson>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessJson {
    pub(super) address: Address,
    #[serde(default)]
    pub(super) storage_keys: Vec<B256>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorizationJson {
    pub(super) chain_id: U256,
    pub(super) address: Address,
    pub(super) nonce: U64,
    #[serde(alias = "v")]
    pub(super) y_parity: U64,
    pub(super) r: U256,
    pub(super) s: U256,
}

#[derive(Deserialize, Serialize)]
pub(super) struct WithdrawalJson {
    pub(super) address: Address,
    /// In gwei.
    pub(super) amount: U64,
}

impl From<&AuthorizationJson> for Authorization {
    fn from(a: &AuthorizationJson) -> Self {
        Self {
            chain_id: a.chain_id,
            address: a.address,
            nonce: a.nonce.to(),
            // Anything but 0 and 1 is an invalid signature, which the EVM skips; so must the cut to a byte.
            y_parity: u8::try_from(a.y_parity.to::<u64>()).unwrap_or(u8::MAX),
            r: a.r,
            s: a.s,
        }
    }
}

impl From<&Block> for FileJson {
    fn from(block: &Block) -> Self {
        let header = &block.header;
        let transactions =
            block.transactions.iter().enumerate().map(|(index, tx)| transaction(tx, index, block)).collect();
        let withdrawals = block
            .withdrawals
            .iter()
            .map(|w| WithdrawalJson { address: w.address, amount: U64::from(w.gwei) })
            .collect();
        Self {
            block: BlockJson {
                number: U64::from(header.number),
                hash: block.hash,
                parent_hash: header.parent_hash,
                miner: header.beneficiary,
                timestamp: U64::from(header.timestamp),
                gas_limit: U64::from(header.gas_limit),
                gas_used: U64::from(block.expected.gas_used),
                logs_bloom: block.expected.logs_bloom,
                receipts_root: block.expected.receipts_root,
                difficulty: Some(header.difficulty),
                mix_hash: Some(header.prev_randao),
                base_fee_per_gas: Some(U64::from(header.base_fee)),
                excess_blob_gas: header.excess_blob_gas.map(U64::from),
                parent_beacon_block_root: header.parent_beacon_root,
                requests_hash: block.expected.requests_hash,
                transactions,
                withdrawals: Some(withdrawals),
                uncles: Some(vec![B256::ZERO; block.uncles]),
            },
            pre: block.pre.as_ref().map(|pre| pre.iter().map(|(a, account)| (*a, account.into())).collect()),
            hashes: Some(block.hashes.iter().map(|(number, hash)| (number.to_string(), *hash)).collect()),
            chain: Some(ChainJson {
                id: Some(U64::from(block.chain.id)),
                fork: Some(block.chain.fork.to_string()),
                activations: None,
            }),
            receipts: block
                .expected
                .receipts
                .as_ref()
                .map(|receipts| receipts.iter().map(Into::into).collect()),
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

impl From<&PreAccount> for AccountJson {
    fn from(account: &PreAccount) -> Self {
        Self {
            balance: Some(account.balance),
            nonce: Some(U64::from(account.nonce)),
            code: (!account.code.is_empty()).then(|| account.code.clone()),
            storage: Some(account.storage.clone()),
        }
    }
}

fn transaction(tx: &Transaction, index: usize, block: &Block) -> TransactionJson {
    let dynamic = tx.tx_type >= 2;
    let fee = Some(U128::from(tx.max_fee));
    let access =
        |(address, keys): &(Address, Vec<B256>)| AccessJson { address: *address, storage_keys: keys.clone() };
    let authorization = |a: &Authorization| AuthorizationJson {
        chain_id: a.chain_id,
        address: a.address,
        nonce: U64::from(a.nonce),
        y_parity: U64::from(a.y_parity),
        r: a.r,
        s: a.s,
    };
    TransactionJson {
        hash: tx.hash,
        tx_type: Some(U64::from(tx.tx_type)),
        block_number: Some(U64::from(block.number())),
        block_hash: Some(block.hash),
        transaction_index: Some(U64::from(index)),
        from: tx.sender,
        to: tx.to,
        nonce: U64::from(tx.nonce),
        value: tx.value,
        input: tx.input.clone(),
        gas: U64::from(tx.gas_limit),
        gas_price: if dynamic { None } else { fee },
        max_fee_per_gas: if dynamic { fee } else { None },
        max_priority_fee_per_gas: tx.max_priority_fee.map(U128::from),
        chain_id: tx.chain_id.map(U64::from),
        access_list: (tx.tx_type >= 1).then(|| tx.access_list.iter().map(access).collect()),
        max_fee_per_blob_gas: (tx.tx_type == 3).then(|| U128::from(tx.max_fee_per_blob_gas)),
        blob_versioned_hashes: (tx.tx_type == 3).then(|| tx.blob_hashes.clone()),
        authorization_list: (tx.tx_type == 4).then(|| tx.authorizations.iter().map(authorization).collect()),
    }
}
