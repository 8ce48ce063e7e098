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
use shard_tests::{faults, wait};

/// Commands that wait without being received condemn the executor thread.
fn commands_kill(limits: &str) -> Settings {
    let limits = format!("{limits}\nconsumer = \"exec-s*\"");
    // Stalls must not come first: the channel is under test.
    Settings { stall_after: "30s".to_owned(), ..Settings::default() }
        .channel_rule("commands", &limits, "kill")
}

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

/// Row 9: no sidecar watches that thread, so the shard's own guard ends the process. A sidecar that
/// sees the thread go does not kill a process that ends by itself.
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

/// Row 23: the executor thread is idle, and so never stalled; the command that it does not take
/// gives it away.
#[test]
fn row_23_commands_that_nobody_receives_condemn_their_consumer() {
    let settings = commands_kill("max_age = \"1s\"");
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let fired = cluster.inject(0, &["arm deaf"]);
    let times = FaultTimes::record(23, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "channel_lag", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "exec-s0", "{incident:#}");
    let observed = incident["observations"].to_string();
    assert!(observed.contains("commands"), "it names the channel: {incident:#}");
    assert!(times.verdict_ms >= 1000.0, "not before its threshold: {times:?}");
    cluster.assert_common_rule(&[0]);
}

/// Row 52: far more commands than usual, for longer than the rule allows; but they are received,
/// one after the other.
#[test]
fn row_52_a_flood_that_drains_is_reported_and_nobody_is_killed() {
    /// In addition to the shard's own parts, and below the 32 that its queue holds.
    const MORE: u32 = 25;
    let settings = commands_kill("max_age = \"1s\"\nmax_depth = 10");
    let plan = Plan { settings, block_deadline: "60s".to_owned(), ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    // 20 transactions in a part, 10 ms each: the flood takes some 5 s, several times the allowed
    // age.
    for shard in &cluster.shards {
        faults::order(&shard.faults, &["arm slow 10ms"]);
    }
    let fired = cluster.inject_coordinator(&[&format!("arm flood {MORE}")]);
    let flooded = wait::until("a report of the flood", || {
        let mut statuses = cluster.shards.iter().filter_map(|shard| Some((shard, shard.sidecar.status()?)));
        statuses.find(|(_, status)| status["verdict"] == "degraded")
    });
    let (shard, status) = flooded;
    let reported = shard_tests::clock::monotonic_ns();
    assert!(status["reason"].to_string().contains("commands"), "{status:#}");
    let healthy = shard.sidecar.wait_for("healthy");
    let drained = shard_tests::clock::monotonic_ns();
    assert_eq!(healthy["kills_left"], 3, "{healthy:#}");
    Record::row(52)
        .time("reported_ms", fired, reported)
        .time("drained_ms", fired, drained)
        .fact("why", &status["reason"])
        .keep();
    for shard in &cluster.shards {
        faults::order(&shard.faults, &["disarm"]);
    }
    cluster.verified_after(drained);
    cluster.assert_common_rule(&[]);
}
