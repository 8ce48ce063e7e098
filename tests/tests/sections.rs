//! Sections of a piece of work, and what follows a stall by its kind, in a real cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::FaultTimes;
use shard_tests::sidecar::Settings;
use shard_tests::{faults, incident, wait};

/// A cluster whose executor threads have this threshold and these further lines in their rule. The
/// deadline of a block must not come first.
fn cluster(stall_after: &str, rule: &str) -> Cluster {
    let settings =
        Settings { stall_after: stall_after.to_owned(), rule: rule.to_owned(), ..Settings::default() };
    Cluster::start(&Plan { settings, block_deadline: "60s".to_owned(), ..Plan::default() })
}

#[test]
fn row_28_a_hang_in_one_section_of_the_work_is_killed_by_its_own_threshold() {
    let cluster = cluster("60s", "sections = { executing = \"1s\" }");
    let fired = cluster.inject(0, &["arm deadlock after 3"]);
    let times = FaultTimes::record(28, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert_eq!(incident["thread"]["section"], "executing", "{incident:#}");
    assert!(incident["why"].as_str().unwrap().contains("in its section executing"), "{incident:#}");
    assert!(times.verdict_ms >= 1000.0, "not before the section's threshold: {times:?}");
}

#[test]
fn a_kind_of_stall_that_is_only_reported_is_not_killed_and_another_is() {
    let cluster = cluster("1s", "on = { deadlock = \"report\" }");
    let sidecar = cluster.shards[0].sidecar.clone();
    let pid = sidecar.pid();
    cluster.inject(0, &["arm deadlock after 3"]);
    let status = sidecar.wait_for("degraded");
    wait::until("a stall that is reported", || {
        let status = sidecar.status()?;
        status["reason"].as_str().is_some_and(|why| why.contains("only reports")).then_some(())
    });
    wait::holds_for(Duration::from_secs(2), "reported, and the same process", || {
        sidecar.status().is_none_or(|status| status["pid"] == pid && status["kills_left"] == 3)
    });
    assert!(sidecar.incidents().is_empty(), "{status:#}");
    faults::order(&cluster.shards[0].faults, &["disarm"]);
    cluster.verified_after(monotonic_ns());
    cluster.inject(0, &["arm spin after 3"]);
    let killed = sidecar.incident("recovered");
    assert_eq!(killed["thread"]["kind"], "livelock", "{killed:#}");
    assert!(incident::step_at(&killed, "signal").is_some(), "{killed:#}");
}
