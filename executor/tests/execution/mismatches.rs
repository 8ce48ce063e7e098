//! What is reported of a block whose results differ from its header or its receipts.

use std::process::Command;

use revm::primitives::alloy_primitives::Bloom;
use revm::primitives::{Address, B256, Log};
use serde_json::Value;
use shard_executor::block::{self, Block};
use shard_executor::generate::{Kind, Plan};

use crate::support::{generated, in_order};

/// Ten swaps, which leave four logs each; the file contains all fields of each receipt.
fn swaps() -> Block {
    let plan = Plan { transactions: 10, kind: Kind::Swaps, ..Plan::default() };
    let mut block = Block::clone(&generated(plan, 1)[0]);
    let (result, _) = in_order(&block);
    for (expected, receipt) in block.expected.receipts.iter_mut().flatten().zip(result.receipts) {
        expected.logs = Some(receipt.logs);
    }
    block
}

/// Runs `block` from its file; returns the JSON line.
fn wrong(block: &Block) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(block, &path).unwrap();
    let run = |extra: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_shard-executor"))
            .args(["local", "--blocks", path.to_str().unwrap()])
            .args(extra)
            .output()
            .unwrap()
    };
    let (text, json) = (run(&["--shards", "2"]), run(&["--threads", "2", "--json"]));
    assert_eq!((text.status.code(), json.status.code()), (Some(1), Some(1)));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(json["mismatch"].as_str().unwrap()), "{text}");
    json
}

#[test]
fn each_field_of_the_header_is_told_with_both_values() {
    let right = swaps();
    let (result, _) = in_order(&right);
    let mut block = right.clone();
    block.expected.gas_used += 7;
    block.expected.logs_bloom = Bloom::repeat_byte(0x11);
    block.expected.receipts_root = B256::repeat_byte(0x22);
    block.expected.requests_hash = Some(B256::repeat_byte(0x33));
    block.expected.receipts = None;
    let json = wrong(&block);
    let both = [
        ("gasUsed", (result.gas_used + 7).to_string(), result.gas_used.to_string()),
        ("logsBloom", Bloom::repeat_byte(0x11).to_string(), result.logs_bloom.to_string()),
        ("receiptsRoot", B256::repeat_byte(0x22).to_string(), result.receipts_root.unwrap().to_string()),
        ("requestsHash", B256::repeat_byte(0x33).to_string(), result.requests_hash.unwrap().to_string()),
    ];
    assert_eq!(json["differences"].as_array().unwrap().len(), both.len());
    let mismatch = json["mismatch"].as_str().unwrap();
    for ((field, expected, got), told) in both.iter().zip(json["differences"].as_array().unwrap()) {
        assert_eq!(
            [&told["field"], &told["expected"], &told["got"]].map(|v| v.as_str().unwrap()),
            [*field, expected.as_str(), got.as_str()]
        );
        assert!(mismatch.contains(&format!("{field} is {expected} in the header and came out as {got}")));
    }
    assert!(mismatch.contains("cannot be known, because the file has no `receipts`"), "{mismatch}");
    assert_eq!(json.get("first_transaction"), None);
}

#[test]
fn a_header_that_its_own_receipts_contradict_is_told() {
    let mut block = swaps();
    block.expected.gas_used += 1;
    let json = wrong(&block);
    let mismatch = json["mismatch"].as_str().unwrap();
    assert!(mismatch.contains("every transaction came out as the file's `receipts` say"), "{mismatch}");
    assert_eq!(json["differences"].as_array().unwrap().len(), 1);
}

#[test]
fn the_first_transaction_that_differs_is_told() {
    let other = Log::new_unchecked(Address::repeat_byte(7), vec![B256::repeat_byte(8)], vec![9; 100].into());
    type Change = fn(&mut block::ExpectedReceipt, Log);
    let cases: [(&str, Change); 5] = [
        ("gasUsed", |receipt, _| receipt.cumulative_gas_used += 5),
        ("status", |receipt, _| receipt.success = Some(false)),
        ("logs", |receipt, _| receipt.logs.as_mut().unwrap().truncate(3)),
        ("logs[2]", |receipt, other| receipt.logs.as_mut().unwrap()[2] = other),
        ("logsBloom", |receipt, _| {
            receipt.logs = None;
            receipt.logs_bloom = Some(Bloom::ZERO);
        }),
    ];
    for (field, change) in cases {
        let mut block = swaps();
        block.expected.receipts_root = B256::ZERO;
        // The last one differs too: the first must be reported.
        for place in [4, 9] {
            change(&mut block.expected.receipts.as_mut().unwrap()[place], other.clone());
        }
        let json = wrong(&block);
        let first = &json["first_transaction"];
        assert_eq!((first["index"].as_u64(), first["field"].as_str()), (Some(4), Some(field)), "{json:#}");
        assert_eq!(first["hash"], block.transactions[4].hash.to_string());
        assert_ne!(first["expected"], first["got"]);
        assert!(json["mismatch"].as_str().unwrap().contains("the first transaction that differs is 4 ("));
        if field == "logs[2]" {
            let expected = first["expected"].as_str().unwrap();
            assert!(expected.starts_with("0x0707") && expected.ends_with("09… (100 bytes)"), "{expected}");
        }
    }
}

#[test]
fn a_transaction_that_is_not_valid_there_is_the_first() {
    let mut block = swaps();
    block.transactions[6].nonce = 99;
    let json = wrong(&block);
    assert_eq!(json["first_transaction"]["index"], 6);
    assert!(json["first_transaction"]["got"].as_str().unwrap().contains("nonce"), "{json:#}");
}

#[test]
fn receipts_of_other_transactions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.json");
    block::write(&swaps(), &path).unwrap();
    let whole: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let refused = |file: Value, because: &str| {
        let error = Block::from_json("1.json", file.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(because), "{error}");
    };
    let mut short = whole.clone();
    short["receipts"].as_array_mut().unwrap().pop();
    refused(short, "9 `receipts` for 10 transactions");
    let mut other = whole.clone();
    other["receipts"][3]["transactionHash"] = B256::repeat_byte(1).to_string().into();
    refused(other, "receipt 3 is of another transaction");
    let mut right = whole.clone();
    right["receipts"][3]["transactionHash"] = whole["block"]["transactions"][3]["hash"].clone();
    assert!(Block::from_json("1.json", right.to_string().as_bytes()).is_ok());
}
