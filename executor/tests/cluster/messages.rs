//! Messages that are lost, refused or too many: each costs at most what a deadline allows, and the
//! results stay those of the sequential run.

use crate::blocks::{self, Chain};
use crate::process::{PATIENCE, Shard, assert_verified, coordinator, depth, events, shards, wait_until};

/// Runs all blocks over `shards`, with these orders for the coordinator; returns its exit code and
/// output.
fn run(shards: &[Shard], chain: &Chain, orders: &[&str], more: &[&str]) -> (i32, Vec<String>, String) {
    let shards: Vec<_> = shards.iter().collect();
    let mut arguments = more.to_vec();
    let faults = chain.faults();
    if !orders.is_empty() {
        arguments.extend(["--faults", &faults]);
    }
    for order in orders {
        arguments.extend(["--arm", order]);
    }
    let mut coordinator = coordinator(&shards, &chain.path, &arguments);
    let code = coordinator.wait();
    let (lines, said) = coordinator.rest();
    (code, lines, said)
}

/// Asserts that all blocks verified with exactly one retry; returns its event.
fn one_retry(chain: &Chain, (code, lines, said): &(i32, Vec<String>, String)) -> serde_json::Value {
    assert_eq!(*code, 0, "{said}");
    assert_eq!(assert_verified(lines, chain), chain.digests.len());
    let retries = events(lines, "retry");
    assert_eq!(retries.len(), 1, "{lines:?}");
    assert_eq!(retries[0]["attempt"], 1);
    retries[0].clone()
}

#[test]
fn a_part_that_is_lost_on_its_way_costs_a_deadline() {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    let ran = run(&shards, &chain, &["arm drop-part"], &["--block-deadline", "10s"]);
    let retry = one_retry(&chain, &ran);
    assert_eq!(
        (&retry["step"], &retry["reason"]),
        (&"result".into(), &"no result within its deadline".into())
    );
    assert!(ran.2.contains("fault drop-part fired at_monotonic_ns="), "{}", ran.2);
}

#[test]
fn a_result_that_is_lost_on_its_way_costs_a_deadline() {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    shards[1].arm("arm drop-result");
    let retry = one_retry(&chain, &run(&shards, &chain, &[], &["--block-deadline", "10s"]));
    assert!(retry["from"].as_str().unwrap().starts_with("shard 1 at "), "{retry}");
    assert_eq!(retry["step"], "result");
}

/// A shard whose message was lost stays silent until it gets another request.
#[test]
fn a_shard_whose_message_was_lost_is_asked_again_in_time() {
    let chain = blocks::generated(2, 40);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    // So that the blocks meanwhile do not use up the machine.
    shards[0].arm("arm slow 5ms");
    let both: Vec<_> = shards.iter().collect();
    let more =
        ["--block-deadline", "4s", "--repeat", "0", "--faults", &chain.faults(), "--arm", "arm drop-part"];
    let mut coordinator = coordinator(&both, &chain.path, &more);
    coordinator.wait_for_event("retry");
    assert_eq!(coordinator.wait_for_event("block")["parts"], 2);
    assert_eq!(coordinator.wait_for_event("block")["parts"], 1, "the other one has it all");
    let until = std::time::Instant::now() + PATIENCE;
    while coordinator.wait_for_event("block")["parts"] != 2 {
        assert!(std::time::Instant::now() < until, "it is not asked again within {PATIENCE:?}");
    }
}

#[test]
fn a_state_request_that_is_not_answered_fails_by_its_own_deadline() {
    let chain = blocks::generated(2, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    let ran = run(&shards, &chain, &["arm mute-state 1"], &["--block-deadline", "20s"]);
    let retry = one_retry(&chain, &ran);
    assert_eq!(retry["step"], "state");
    assert!(retry["reason"].as_str().unwrap().starts_with("STATE_LATE: state request "), "{retry}");
}

#[test]
fn state_that_nobody_ever_answers_ends_in_an_error_that_names_everything() {
    let chain = blocks::generated(1, 20);
    let folder = tempfile::tempdir().unwrap();
    let mut shards = shards(folder.path(), 2);
    let (code, lines, said) = run(&shards, &chain, &["arm mute-state"], &["--block-deadline", "4s"]);
    assert_eq!(code, 3, "{said}");
    let number = chain.digests.keys().next().unwrap();
    assert!(said.contains(&format!("block {number}, part ")), "{said}");
    assert!(said.contains("given up after 4 attempts, last on shard "), "{said}");
    assert!(said.contains(" at step state: STATE_LATE: "), "{said}");
    let summary = &events(&lines, "summary")[0];
    assert_eq!((&summary["complete"], &summary["blocks"]), (&false.into(), &0.into()));
    assert!(shards.iter_mut().all(|shard| shard.process.is_running()), "a silent coordinator ends no shard");
    let (code, lines, said) = run(&shards, &chain, &[], &["--block-deadline", "60s"]);
    assert_eq!((code, assert_verified(&lines, &chain)), (0, 1), "{said}");
}

#[test]
fn a_part_that_is_answered_with_an_error_leaves_the_next_block_clean() {
    let chain = blocks::generated(3, 60);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    shards[1].arm("arm part-error");
    let ran = run(&shards, &chain, &[], &["--block-deadline", "60s"]);
    let retry = one_retry(&chain, &ran);
    assert_eq!(retry["step"], "execute");
    assert_eq!(retry["reason"], "EXECUTION: a test ordered this error");
    let blocks = events(&ran.1, "block");
    for clean in &blocks[1..] {
        assert_eq!((&clean["retries"], &clean["parts"]), (&0.into(), &2.into()), "{clean}");
    }
}

#[test]
fn a_part_that_every_shard_refuses_is_given_up_within_its_retries() {
    let chain = blocks::generated(1, 30);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    for shard in &shards {
        shard.arm("arm part-error");
        shard.arm("arm part-error");
    }
    let (code, _, said) = run(&shards, &chain, &[], &["--block-deadline", "60s", "--retries", "1"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("given up after 2 attempts, last on shard "), "{said}");
    assert!(said.contains(" at step execute: EXECUTION: a test ordered this error"), "{said}");
}

#[test]
fn a_flood_is_executed_discarded_and_counted_and_leaves_nothing_behind() {
    const FLOOD: u64 = 20;
    let chain = blocks::generated(3, 40);
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 1);
    let (code, lines, said) = run(&shards, &chain, &["arm flood 20"], &["--block-deadline", "60s"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(assert_verified(&lines, &chain), 3);
    assert!(events(&lines, "retry").is_empty(), "{lines:?}");
    // The last result of the flood arrived before that of the next block.
    assert_eq!(events(&lines, "summary")[0]["discarded"], FLOOD);
    let told = events(&lines, "discarded");
    assert!((1..=2).contains(&told.len()), "each kind is told once: {told:?}");
    assert!(told.iter().all(|told| told["what"].as_str().unwrap().starts_with("result of another ")));
    let heartbeat = folder.path().join("0.heartbeat");
    for channel in ["commands", "state", "results"] {
        wait_until("the queues are empty", || depth(&heartbeat, channel) == 0);
    }
}
