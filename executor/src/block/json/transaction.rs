//! The JSON shape of a transaction, for reading and writing.

use std::fmt;

use revm::primitives::alloy_primitives::U64;
use revm::primitives::{Address, B256, Bytes, U128, U256};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::block::{Authorization, Block, Transaction};

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
    #[serde(default, deserialize_with = "recipient")]
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
    /// The signature counts only towards the block's length: the sender is taken from `from`.
    #[serde(skip_serializing)]
    pub(super) v: Option<U256>,
    #[serde(skip_serializing)]
    pub(super) r: Option<U256>,
    #[serde(skip_serializing)]
    pub(super) s: Option<U256>,
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
    /// Newer clients print this, older ones `v`, and some print both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) y_parity: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) v: Option<U64>,
    pub(super) r: U256,
    pub(super) s: U256,
}

impl TryFrom<&AuthorizationJson> for Authorization {
    type Error = String;

    fn try_from(a: &AuthorizationJson) -> Result<Self, String> {
        let parity = match (a.y_parity, a.v) {
            // If both are present, `v` may have the old form: 27 more.
            (Some(parity), Some(v)) if v != parity && v != parity.saturating_add(U64::from(27)) => {
                return Err(format!(
                    "an authorization has the yParity {parity} and the v {v}, which contradict each other"
                ));
            }
            (Some(parity), _) | (None, Some(parity)) => parity,
            (None, None) => return Err("an authorization has no `yParity`".into()),
        };
        Ok(Self {
            chain_id: a.chain_id,
            address: a.address,
            nonce: a.nonce.to(),
            // Anything but 0 and 1 is an invalid signature, which the EVM skips. A value too large
            // for a byte must stay invalid.
            y_parity: u8::try_from(parity.to::<u64>()).unwrap_or(u8::MAX),
            r: a.r,
            s: a.s,
        })
    }
}

/// A recipient. Some clients print an empty string for a transaction that creates a contract.
fn recipient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    struct Recipient;
    impl Visitor<'_> for Recipient {
        type Value = Option<Address>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`to`, an address of 20 bytes in hex, or null where a contract is created")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Option<Address>, E> {
            Ok(None)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<Address>, E> {
            match text {
                "" | "0x" => Ok(None),
                _ => text.parse().map(Some).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Recipient)
}

/// The shape of the transaction at `index` in `block`.
pub(super) fn of(tx: &Transaction, index: usize, block: &Block) -> TransactionJson {
    let dynamic = tx.tx_type >= 2;
    let fee = Some(U128::from(tx.max_fee));
    let access =
        |(address, keys): &(Address, Vec<B256>)| AccessJson { address: *address, storage_keys: keys.clone() };
    let authorization = |a: &Authorization| AuthorizationJson {
        chain_id: a.chain_id,
        address: a.address,
        nonce: U64::from(a.nonce),
        y_parity: Some(U64::from(a.y_parity)),
        v: None,
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
        v: None,
        r: None,
        s: None,
    }
}
