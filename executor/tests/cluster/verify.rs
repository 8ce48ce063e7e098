use std::net::SocketAddr;

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
