use std::net::SocketAddr;

use revm::primitives::{Address, B256};
use serde_json::json;
use shard_executor::block::load_chain;
use shard_executor::local::Local;

use crate::blocks;
use crate::process::{Shard, assert_verified, coordinator, shards};

#[test]
fn one_two_and_four_shards_end_in_the_state_of_the_sequential_run() {
    let chain = blocks::real();
    for count in [1, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), count);
        let all: Vec<_> = shards.iter().collect();
        let mut coordinator = coordinator(&all, &chain.path, &["--block-deadline", "60s"]);
        assert_eq!(coordinator.wait(), 0, "{count} shards: {}", coordinator.rest().1);
        assert_eq!(assert_verified(&coordinator.rest().0, &chain), chain.digests.len(), "{count} shards");
    }
}

#[test]
fn shards_of_several_threads_end_in_the_state_of_the_sequential_run() {
    let chain = blocks::real();
    for (count, threads) in [(1, 4), (2, 2), (3, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let on_threads = |id| {
            Shard::start_with(folder.path(), id, anywhere, |shard| {
                shard.args(["--threads", &threads.to_string()]);
            })
        };
        let shards: Vec<_> = (0..count).map(on_threads).collect();
        let all: Vec<_> = shards.iter().collect();
        let mut coordinator = coordinator(&all, &chain.path, &["--block-deadline", "60s"]);
        assert_eq!(coordinator.wait(), 0, "{count} shards of {threads} threads: {}", coordinator.rest().1);
        let verified = assert_verified(&coordinator.rest().0, &chain);
        assert_eq!(verified, chain.digests.len(), "{count} shards of {threads} threads");
    }
}

#[test]
fn a_chain_carries_its_state_from_block_to_block_and_from_run_to_run() {
    let chain = blocks::generated(4, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 3);
    let all: Vec<_> = shards.iter().collect();
    let mut coordinator = coordinator(&all, &chain.path, &["--block-deadline", "60s", "--repeat", "3"]);
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, &chain), 12);
}

/// A block of BPO2 with this base fee, whose only transaction has a blob and stores the price of
/// blob gas.
fn with_a_blob(base_fee: &str) -> serde_json::Value {
    let (alice, code) = (Address::repeat_byte(0xa1), Address::repeat_byte(0xc0));
    let mut hash = B256::repeat_byte(5);
    hash[0] = 1;
    json!({
        "block": {
            "number": "0x2", "hash": B256::repeat_byte(2), "parentHash": B256::repeat_byte(1), "miner": Address::ZERO,
            "timestamp": "0x64", "gasLimit": "0x1c9c380", "gasUsed": "0xa860",
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "receiptsRoot": "0x0000000000000000000000000000000000000000000000000000000000000000",
            "baseFeePerGas": base_fee, "excessBlobGas": "0xc850bf0", "blobGasUsed": "0x20000",
            "parentBeaconBlockRoot": B256::ZERO, "withdrawals": [],
            "transactions": [{
                "hash": B256::repeat_byte(3), "type": "0x3", "chainId": "0x539", "from": alice, "to": code,
                "nonce": "0x0", "value": "0x0", "input": "0x", "gas": "0x186a0", "maxFeePerGas": "0x64",
                "maxPriorityFeePerGas": "0x0", "maxFeePerBlobGas": "0xffffffffff", "blobVersionedHashes": [hash],
            }],
        },
        // BLOBBASEFEE, PUSH0, SSTORE, STOP.
        "pre": { alice.to_string(): { "balance": "0xffffffffffffffffff" }, code.to_string(): { "code": "0x4a5f5500" } },
        "parent": {
            "number": "0x1", "hash": B256::repeat_byte(1), "timestamp": "0x58", "gasLimit": "0x1c9c380", "gasUsed": "0xe4e1c0",
            "baseFeePerGas": "0x7", "excessBlobGas": "0xc850bf0", "blobGasUsed": "0x1c0000",
        },
        "chain": { "id": 1337, "fork": "bpo2" },
    })
}

#[test]
fn a_shard_knows_the_schedule_of_blobs_and_the_coordinator_the_rules_for_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.json");
    let shards = shards(folder.path(), 2);
    let all: Vec<_> = shards.iter().collect();
    let said = |file: &serde_json::Value| {
        std::fs::write(&path, file.to_string()).unwrap();
        let local = Local::new(1).unwrap();
        let (report, _) = local.run(&load_chain(&path).unwrap()[0], None, &|| {}).unwrap();
        let mut coordinator = coordinator(&all, &path, &["--block-deadline", "60s"]);
        let code = coordinator.wait();
        let (lines, _) = coordinator.rest();
        let line = lines.iter().find(|line| line.contains("\"block\":2")).unwrap().clone();
        assert!(line.contains(&report.digest.to_string()), "{line}, in order {report:?}");
        assert_eq!(code, i32::from(!report.verified), "{line}");
        (line, report.mismatch)
    };
    let mut file = with_a_blob("0x7");
    // Only the receipts root is not known yet.
    let (line, mismatch) = said(&file);
    let mismatch = mismatch.unwrap();
    assert!(line.contains("\"field\":\"receiptsRoot\"") && !line.contains("\"field\":\"gasUsed\""), "{line}");
    let root = mismatch.split("came out as ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    file["block"]["receiptsRoot"] = json!(root);
    assert_eq!(said(&file).1, None);
    file["block"]["baseFeePerGas"] = json!("0x8");
    assert!(said(&file).0.contains("its baseFeePerGas is 8, and has to be 7"));
}

#[test]
fn a_block_that_does_not_match_its_header_is_told_and_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let plan =
        shard_executor::generate::Plan { transactions: 10, conflict: 0.0, seed: 3, ..Default::default() };
    let mut block = shard_executor::generate::Generator::new(plan).next_block().unwrap();
    block.expected.gas_used += 1;
    let path = folder.path().join("blocks");
    std::fs::create_dir(&path).unwrap();
    shard_executor::block::write(&block, &path.join("1.json")).unwrap();
    let shards = shards(folder.path(), 1);
    let mut coordinator = coordinator(&[&shards[0]], &path, &["--block-deadline", "60s"]);
    assert_eq!(coordinator.wait(), 1, "{}", coordinator.rest().1);
    let (lines, _) = coordinator.rest();
    let line = lines.iter().find(|line| line.contains("\"verified\":false")).unwrap();
    assert!(line.contains("\"differences\":[{") && line.contains("\"field\":\"gasUsed\""), "{line}");
    assert!(line.contains("every transaction came out as the file's `receipts` say"), "{line}");
}
