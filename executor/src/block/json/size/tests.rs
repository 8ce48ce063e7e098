//! Compares the length with that of the crate's own encoding.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

use alloy_consensus::{
    Block, BlockBody, Header, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip4844Variant, TxEip7702,
    TxEnvelope, TxLegacy,
};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip4895::{Withdrawal, Withdrawals};
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use revm::primitives::alloy_primitives::Signature;
use revm::primitives::{Address, Bytes, TxKind};
use serde_json::{Value, json};

use super::*;

const TO: Address = Address::repeat_byte(7);

/// A number whose size depends on the index, so that encodings of all lengths occur.
fn big(index: u32) -> u64 {
    u64::MAX >> (index * 9 % 60)
}

fn input(index: u32) -> Bytes {
    vec![index as u8; (index as usize * 37) % 300].into()
}

fn accesses(index: u32) -> AccessList {
    let item = |keys: u32| AccessListItem { address: TO, storage_keys: vec![B256::ZERO; keys as usize] };
    AccessList((0..index % 4).map(item).collect())
}

fn signature(index: u32) -> Signature {
    Signature::new(U256::MAX >> (index * 29 % 250), U256::MAX >> (index * 53 % 250), index % 2 == 1)
}

fn signed(index: u32) -> TxEnvelope {
    let (nonce, gas_limit, value) = (big(index), big(index + 3), U256::from(big(index + 1)));
    let (price, input, to) = (u128::from(big(index + 2)), input(index), TxKind::Call(TO));
    let (access_list, chain_id) = (accesses(index), 1337);
    let signature = signature(index);
    match index % 5 {
        0 => {
            let chain_id = (index.is_multiple_of(2)).then_some(1337);
            let to = if index.is_multiple_of(3) { TxKind::Create } else { to };
            let tx = TxLegacy { chain_id, nonce, gas_price: price, gas_limit, to, value, input };
            Signed::new_unchecked(tx, signature, B256::ZERO).into()
        }
        1 => {
            let tx =
                TxEip2930 { chain_id, nonce, gas_price: price, gas_limit, to, value, access_list, input };
            Signed::new_unchecked(tx, signature, B256::ZERO).into()
        }
        2 => {
            let (max_fee_per_gas, max_priority_fee_per_gas) = (price, price / 300);
            let tx = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            };
            Signed::new_unchecked(tx, signature, B256::ZERO).into()
        }
        3 => {
            let tx = TxEip4844 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: price,
                max_priority_fee_per_gas: price / 300,
                to: TO,
                value,
                access_list,
                blob_versioned_hashes: vec![B256::repeat_byte(1); index as usize % 7],
                max_fee_per_blob_gas: price / 5,
                input,
            };
            TxEnvelope::Eip4844(Signed::new_unchecked(TxEip4844Variant::TxEip4844(tx), signature, B256::ZERO))
        }
        _ => {
            let to_sign = Authorization { chain_id: value, address: TO, nonce };
            let one = SignedAuthorization::new_unchecked(to_sign, 1, U256::from(300), value);
            let tx = TxEip7702 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: price,
                max_priority_fee_per_gas: price / 300,
                to: TO,
                value,
                access_list,
                authorization_list: vec![one; index as usize % 3],
                input,
            };
            Signed::new_unchecked(tx, signature, B256::ZERO).into()
        }
    }
}

/// The same transaction as a client prints it.
fn printed(index: u32) -> Value {
    let number = |value: u64| format!("{value:#x}");
    let (price, kind) = (big(index + 2), index % 5);
    let accesses: Vec<Value> = (accesses(index).0.iter())
        .map(|item| json!({ "address": item.address, "storageKeys": item.storage_keys }))
        .collect();
    let signature = signature(index);
    let v = match kind {
        0 if index.is_multiple_of(2) => 2 * 1337 + 35 + u64::from(signature.v()),
        0 => 27 + u64::from(signature.v()),
        _ => u64::from(signature.v()),
    };
    let mut tx = json!({
        "hash": B256::ZERO, "type": number(kind.into()), "from": TO, "nonce": number(big(index)),
        "value": number(big(index + 1)), "gas": number(big(index + 3)), "input": input(index),
        "to": if kind == 0 && index.is_multiple_of(3) { Value::Null } else { json!(TO) },
        "v": number(v), "r": signature.r(), "s": signature.s(),
    });
    if kind > 0 {
        tx["chainId"] = json!("0x539");
        tx["accessList"] = json!(accesses);
    }
    if kind < 2 {
        tx["gasPrice"] = json!(number(price));
    } else {
        tx["maxFeePerGas"] = json!(number(price));
        tx["maxPriorityFeePerGas"] = json!(number(price / 300));
    }
    if kind == 3 {
        tx["blobVersionedHashes"] = json!(vec![B256::repeat_byte(1); index as usize % 7]);
        tx["maxFeePerBlobGas"] = json!(number(price / 5));
    }
    if kind == 4 {
        let one = json!({
            "chainId": number(big(index + 1)), "address": TO, "nonce": number(big(index)), "yParity": "0x1",
            "r": "0x12c", "s": number(big(index + 1)),
        });
        tx["authorizationList"] = json!(vec![one; index as usize % 3]);
    }
    tx
}

/// A block of these transactions: its length as the crate encodes it, and its JSON from a client.
fn block(indices: std::ops::Range<u32>) -> (u64, Value) {
    let header = Header {
        number: 5,
        gas_limit: 300,
        gas_used: 200,
        timestamp: 70_000,
        extra_data: vec![1; 20].into(),
        base_fee_per_gas: Some(7),
        withdrawals_root: Some(B256::ZERO),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(131_072),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(B256::ZERO),
        ..Header::default()
    };
    let paid = Withdrawal { index: 300, validator_index: 70_000, address: TO, amount: 5 };
    let body = BlockBody {
        transactions: indices.clone().map(signed).collect(),
        ommers: Vec::<Header>::new(),
        withdrawals: Some(Withdrawals::new(vec![paid; 3])),
    };
    let length = Block { header, body }.length() as u64;
    let paid = json!({ "index": "0x12c", "validatorIndex": "0x11170", "address": TO, "amount": "0x5" });
    let printed = json!({
        "number": "0x5", "hash": B256::ZERO, "parentHash": B256::ZERO, "miner": TO, "timestamp": "0x11170",
        "gasLimit": "0x12c", "gasUsed": "0xc8", "logsBloom": format!("0x{}", "00".repeat(256)),
        "receiptsRoot": B256::ZERO, "extraData": format!("0x{}", "01".repeat(20)), "baseFeePerGas": "0x7",
        "withdrawalsRoot": B256::ZERO, "blobGasUsed": "0x0", "excessBlobGas": "0x20000",
        "parentBeaconBlockRoot": B256::ZERO, "requestsHash": B256::ZERO,
        "transactions": indices.map(printed).collect::<Vec<_>>(), "withdrawals": vec![paid; 3],
    });
    (length, printed)
}

#[test]
fn the_length_is_that_of_the_encoding() {
    for indices in [0..0, 0..1, 1..2, 2..3, 3..4, 4..5, 0..60] {
        let (length, printed) = block(indices.clone());
        let printed: BlockJson = serde_json::from_value(printed).unwrap();
        assert_eq!(of(&printed), length, "transactions {indices:?}");
    }
}

#[test]
fn without_signatures_it_is_the_least_that_it_can_be_or_what_the_node_said() {
    let (length, mut printed) = block(0..60);
    for tx in printed["transactions"].as_array_mut().unwrap() {
        tx.as_object_mut().unwrap().remove("r");
    }
    let with = |size: Option<u64>| {
        let mut printed = printed.clone();
        printed["size"] = size.map_or(Value::Null, |size| json!(format!("{size:#x}")));
        of(&serde_json::from_value(printed).unwrap())
    };
    let least = with(None);
    assert!(least < length && least > length - 60 * 33);
    assert_eq!(with(Some(length)), length);
    assert_eq!(with(Some(5)), least);
}
