//! Rows about the queues inside a shard and the threads at their ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::{FaultTimes, Record};
use shard_tests::sidecar::Settings;

/// Row 9: the thread that carries results to the coordinator is gone, while its process lives.
#[track_caller]
fn lost_sender(order: &str, case: &str) {
    let settings = Settings::default().thread_rule("send-s*", "1s");
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let fired = cluster.inject(0, &["hook off", "guard off", order]);
    let sidecar = &cluster.shards[0].sidecar;
    FaultTimes::keep(Record::row(9).case(case), sidecar, &cluster, fired);
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "send-s0", "{incident:#}");
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_09_a_sending_thread_that_panics_is_declared_gone_and_its_process_killed() {
    lost_sender("arm send-panic", "panic");
}

#[test]
fn row_09_a_sending_thread_that_returns_is_declared_gone_and_its_process_killed() {
    lost_sender("arm send-exit", "exit");
}

/// Row 9: no sidecar watches that thread, so the shard's own guard ends the process. A sidecar that sees it go does not
/// kill what ends by itself.
#[test]
fn row_09_a_shard_ends_itself_when_its_sending_thread_returns() {
    let mut cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm send-exit"]);
    let sidecar = &cluster.shards[0].sidecar;
    FaultTimes::keep(Record::row(9).case("guard"), sidecar, &cluster, fired);
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    cluster.shards[0]
        .supervisor
        .line("exit code 14", 0, |line| line.contains("ended (exit code 14)").then_some(()));
    cluster.assert_common_rule(&[0]);
}
