use std::time::{Duration, Instant};

use shard_executor::block::Block;
use shard_executor::partition::partition;

use crate::support::{blocks, run, run_on};

#[test]
fn every_block_verifies_in_order() {
    for report in run(&blocks(), 1) {
        assert!(report.verified, "block {}: {:?}", report.number, report.mismatch);
        assert_eq!(report.reexecuted, 0);
    }
}

#[test]
fn sharded_runs_end_in_the_state_of_the_sequential_run() {
    let blocks = blocks();
    let reference = run(&blocks, 1);
    for shards in [2, 3, 4, 8] {
        for (sharded, sequential) in run(&blocks, shards).iter().zip(&reference) {
            assert!(
                sharded.verified,
                "block {} with {shards} shards: {:?}",
                sharded.number, sharded.mismatch
            );
            assert_eq!(sharded.digest, sequential.digest, "block {} with {shards} shards", sharded.number);
        }
    }
}

#[test]
fn threads_and_shards_end_in_the_state_of_the_sequential_run() {
    let blocks = blocks();
    let reference = run(&blocks, 1);
    for shards in 1..=8 {
        for threads in 2..=4 {
            for (spread, sequential) in run_on(&blocks, shards, threads).iter().zip(&reference) {
                let what = format!("block {}, {shards} shards of {threads} threads", spread.number);
                assert!(spread.verified, "{what}: {:?}", spread.mismatch);
                assert_eq!(spread.digest, sequential.digest, "{what}");
            }
        }
    }
}

#[test]
fn every_transaction_is_in_exactly_one_part_and_in_order() {
    for block in blocks() {
        for parts in 1..=5 {
            let split = partition(&block, parts);
            assert_eq!(split, partition(&block, parts), "the same block splits the same way");
            assert_eq!(split.len(), parts);
            assert!(split.iter().all(|part| part.is_sorted()));
            let mut all = split.concat();
            all.sort_unstable();
            assert_eq!(all, (0..block.transactions.len()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_block_survives_being_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    for block in blocks() {
        for name in ["block.json", "block.json.gz"] {
            let path = folder.path().join(name);
            shard_executor::block::write(&block, &path).unwrap();
            let again = Block { path: block.path.clone(), ..Block::load(&path).unwrap() };
            assert_eq!(again, *block);
        }
    }
}

#[test]
fn a_wrong_header_is_told_field_by_field() {
    let mut block = (**blocks().last().unwrap()).clone();
    if block.pre.is_none() {
        return; // a generated chain: its last block cannot stand alone
    }
    block.expected.gas_used += 1;
    block.expected.receipts_root.0[0] ^= 1;
    let report = run(&vec![block.into()], 2).remove(0);
    let mismatch = report.mismatch.unwrap();
    assert!(!report.verified);
    assert!(mismatch.contains("gasUsed") && mismatch.contains("receiptsRoot"), "{mismatch}");
    assert!(!mismatch.contains("logsBloom"), "{mismatch}");
}

#[test]
fn threads_end_when_the_runner_does() {
    let started = Instant::now();
    drop(shard_executor::local::Local::new(4).unwrap());
    assert!(started.elapsed() < Duration::from_secs(1));
}
