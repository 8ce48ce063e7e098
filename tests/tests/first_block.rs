//! Row 59: the first block after a start needs tables (point evaluation, pairings, the curves of
//! signatures). None of them is built inside timed work, so the watchdog has nothing to detect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;

use shard_executor::block;
use shard_executor::warm_up;
use shard_tests::cluster::{Blocks, Cluster, Plan};
use shard_tests::{blocks, skip};

/// Number of runs: the first counts, and the others show that nothing was killed a little later.
const RUNS: usize = 5;

/// Verifies `folder` over shards that have executed nothing, with sidecars that kill after a second
/// without progress.
#[track_caller]
fn is_verified_at_once(folder: &Path) {
    let plan = Plan {
        coordinator: false,
        blocks: Blocks::Generated { blocks: 1, transactions: 1 },
        ..Plan::default()
    };
    assert_eq!((&*plan.settings.mode, &*plan.settings.stall_after), ("enforce", "1s"), "the point of it");
    let mut cluster = Cluster::start(&plan);
    cluster.run_blocks(folder, "20s");
    let mut at = 0;
    for run in 0..RUNS {
        let verified = cluster.verified_after(at);
        assert_eq!(verified.retries, 0, "run {run}");
        at = verified.at;
        for shard in &cluster.shards {
            let status = shard.sidecar.status().unwrap();
            // It may be excused while others have the processor: that is not the block's fault.
            let verdict = status["verdict"].as_str().unwrap();
            assert!(["starting", "healthy", "excused"].contains(&verdict), "run {run}: {status:#}");
        }
    }
    for shard in &cluster.shards {
        let status = shard.sidecar.wait_for("healthy");
        assert_eq!(status["pid"], shard.first_pid, "the same process: {status:#}");
        assert!(shard.sidecar.incidents().is_empty(), "{:#?}", shard.sidecar.incidents());
    }
    let told: Vec<_> =
        cluster.coordinator().events().into_iter().filter(|told| told["event"] == "retry").collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn row_59_a_first_block_that_calls_every_precompile_is_verified_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let block = warm_up::block().unwrap();
    block::write(&block, &folder.path().join("1.json")).unwrap();
    is_verified_at_once(folder.path());
}

#[test]
fn row_59_a_first_block_of_mainnet_with_point_evaluations_is_verified_at_once() {
    const NAME: &str = "row_59_a_first_block_of_mainnet_with_point_evaluations_is_verified_at_once";
    let Some(file) = blocks::with_point_evaluation() else {
        return skip::note(
            NAME,
            "block 19932703 is not in ../shared/cases, and SHARD_BLOCK_WITH_POINT names none",
        );
    };
    is_verified_at_once(&file);
}
