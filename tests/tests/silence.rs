//! Row 27: an executor thread that begins no work although there is some. It is idle, so it never
//! stalls; blocks that are finished without it give it away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_tests::cluster::{Blocks, Cluster, Plan};
use shard_tests::figures::FaultTimes;
use shard_tests::sidecar::Settings;
use shard_tests::wait;

/// A cluster whose executor threads may begin no work for three seconds while blocks are finished.
fn cluster(on_idle: &str) -> Cluster {
    let rule = format!(
        "[[thread]]\nname = \"exec-s*\"\nstall_after = \"3s\"\nidle_at_most = \"3s\"\nidle_witness = [\"blocks\"]\n\
         on_idle = {on_idle:?}\n"
    );
    // The rule that every config of a scenario begins with is about another thread.
    let settings = Settings { thread: Some("send-s*".to_owned()), append: rule, ..Settings::default() };
    let blocks = Blocks::Generated { blocks: 10, transactions: 40 };
    Cluster::start(&Plan { settings, block_deadline: "4s".to_owned(), blocks, ..Plan::default() })
}

#[test]
fn row_27_a_thread_that_begins_no_work_is_killed_where_a_witness_shows_that_there_was_some() {
    let mut cluster = cluster("kill");
    let fired = cluster.inject(0, &["arm deaf"]);
    let times = FaultTimes::record(27, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "silent", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "exec-s0", "{incident:#}");
    let observed = incident["observations"].to_string();
    assert!(observed.contains("channel blocks went on"), "it names the witness: {incident:#}");
    assert!(times.verdict_ms >= 3_000.0, "not before its horizon: {times:?}");
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_27_a_thread_that_begins_no_work_is_reported_and_its_process_lives() {
    let mut cluster = cluster("report");
    cluster.inject(0, &["arm deaf"]);
    let status = cluster.shards[0].sidecar.wait_for("degraded");
    let why = status["reason"].as_str().unwrap_or_default();
    assert!(why.contains("exec-s0 has begun no work") && why.contains("channel blocks"), "{status:#}");
    let other = &cluster.shards[1].sidecar;
    wait::holds_for(Duration::from_secs(4), "the shard that does the work stays healthy", || {
        other.verdict() != "degraded"
    });
    cluster.assert_common_rule(&[]);
}
