//! A cluster with a block that ends every shard that runs it, and how the cluster copes.

use serde_json::{Value, json};

use crate::cluster::{Blocks, Cluster, Plan};
use crate::incident;

/// The block with the armed fault.
const POISON: u64 = 2;

/// Runs blocks, one of which makes every shard end by itself (`panic`), or stand still until it is
/// killed (`deadlock`). Asserts that the block costs no shard more than two lives, is executed
/// apart from the shards, and that everything else continues. Returns the number of shards in a
/// crash loop because of it, and of deaths.
#[track_caller]
pub fn poisoned(fault: &str) -> (usize, usize) {
    let shard_arguments = vec!["--arm".to_owned(), format!("arm {fault} block {POISON}")];
    // The coordinator's own count would suffice too; here the watchdogs' report is what counts. If
    // one shard restarts later than the other, one part can meet all four lives, as many as retries
    // allow by default; only the fifth shard knows better.
    let environment = [("SHARD_EXECUTOR_POISON_AFTER", "100"), ("SHARD_EXECUTOR_RETRIES", "8")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let mut cluster = Cluster::start(&Plan {
        shard_arguments,
        environment,
        coordinator: false,
        supervise: ["--settled-after", "0s"].map(str::to_owned).to_vec(),
        blocks: Blocks::Generated { blocks: 4, transactions: 40 },
        ..Plan::default()
    });
    let blocks = cluster.blocks();
    cluster.run_blocks(&blocks, "60s");
    let told = cluster.coordinator().event_after("quarantined", 0);
    assert_eq!(told["block"], POISON, "{told:#}");
    assert!(told["reason"].to_string().contains("more than one death"), "{told:#}");
    let verified = cluster.coordinator().verified_block_after(POISON, 0);
    // All blocks, this one included, run repeatedly, and nothing dies any more.
    let next = cluster.coordinator().verified_block_after(POISON, verified.at);
    cluster.coordinator().verified_block_after(POISON + 1, next.at);
    let (mut looping, mut died) = (0, 0);
    for shard in &cluster.shards {
        let deaths: Vec<Value> = shard
            .sidecar
            .incidents()
            .into_iter()
            .filter(|one| one["thread"]["work_key"] == POISON && has(one, "exited"))
            .collect();
        assert!(deaths.len() <= 2, "at most two deaths of a shard: {deaths:#?}");
        died += deaths.len();
        if deaths.len() == 2 {
            looping += 1;
            // The other shard has continued with the blocks; this one may still be coming back.
            let status = shard.sidecar.wait_for("crash_loop");
            assert_eq!(status["crash_loop_keys"], json!([POISON]), "{status:#}");
            assert!(has(&deaths[1], "crash_loop"), "{:#}", deaths[1]);
            assert!(deaths[1]["observations"].to_string().contains("earlier death"), "{:#}", deaths[1]);
            shard.supervisor.line("the log line", 0, |line| line.contains("\"crash_loop\"").then_some(()));
        }
    }
    assert!(looping > 0, "one shard at least died of it twice");
    assert!(cluster.coordinator_mut().process.is_running());
    (looping, died)
}

fn has(incident: &Value, step: &str) -> bool {
    incident::step_at(incident, step).is_some()
}
