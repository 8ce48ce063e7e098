//! Row 25: the coordinator's own thread dies or hangs, which stops the whole chain; its sidecar
//! ends the process and its supervisor starts the next one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_tests::cluster::{Blocks, Cluster, Plan};
use shard_tests::figures::{FaultTimes, Record};
use shard_tests::sidecar::Settings;

#[track_caller]
fn recovers(case: &str, orders: &[&str], reason: &str, kind: Option<&str>) {
    let coordinator_sidecar = Some(Settings { thread: Some("coord".to_owned()), ..Settings::default() });
    // A restarted coordinator begins with the first block again, and each block that was retried
    // before must come round.
    let blocks = Blocks::Generated { blocks: 10, transactions: 40 };
    let mut cluster = Cluster::start(&Plan { coordinator_sidecar, blocks, ..Plan::default() });
    let sidecar = cluster.coordinator().sidecar.clone().unwrap();
    let before = sidecar.pid();
    let fired = cluster.inject_coordinator(orders);
    FaultTimes::keep(Record::row(25).case(case), &sidecar, &cluster, fired);
    // The thread is between two blocks for some microseconds in 20 ms. Whether the sidecar happens
    // to observe it there decides when it reports the recovery.
    let incident = sidecar.incident_with("restarted");
    assert_eq!(incident["reason"], reason, "{incident:#}");
    assert_eq!(incident["thread"]["name"], "coord", "{incident:#}");
    assert_eq!(incident["target"]["pid"], before, "{incident:#}");
    if let Some(kind) = kind {
        assert_eq!(incident["thread"]["kind"], kind, "{incident:#}");
    }
    assert_eq!(sidecar.incidents().len(), 1);
    assert_ne!(sidecar.pid(), before, "another process coordinates now");
    cluster.assert_common_rule(&[]);
}

#[test]
fn row_25_a_coordinating_thread_that_panics_is_restarted() {
    recovers("panic", &["hook off", "arm panic"], "thread_gone", None);
}

#[test]
fn row_25_a_coordinating_thread_that_returns_is_restarted() {
    recovers("exit", &["guard off", "arm exit"], "thread_gone", None);
}

#[test]
fn row_25_a_coordinating_thread_in_a_deadlock_is_restarted() {
    recovers("deadlock", &["arm deadlock"], "stalled", Some("deadlock"));
}

#[test]
fn row_25_a_coordinating_thread_in_an_endless_loop_is_restarted() {
    recovers("spin", &["arm spin"], "stalled", Some("livelock"));
}
