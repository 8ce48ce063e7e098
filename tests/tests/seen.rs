//! Rows of the fault matrix that must be detected: the thread or process is lost, the sidecar
//! reports why, the supervisor restarts it, the same block verifies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::{FaultTimes, Record};
use shard_tests::sidecar::Settings;

fn polling() -> Plan {
    Plan { settings: Settings { thread_events: "poll".to_owned(), ..Settings::default() }, ..Plan::default() }
}

/// The steps of an incident, in their order.
fn steps(incident: &Value) -> Vec<&str> {
    incident["timeline"].as_array().unwrap().iter().filter_map(|entry| entry["step"].as_str()).collect()
}

/// Row 1: panic on the executor thread, panic hook off.
#[track_caller]
fn lost_thread(plan: &Plan) {
    let cluster = Cluster::start(plan);
    let fired = cluster.inject(0, &["hook off", "arm panic after 3"]);
    FaultTimes::record(1, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "exec-s0");
    assert!(incident["thread"]["work_key"].is_u64(), "it says which block was in flight: {incident:#}");
    assert_eq!(cluster.shards[0].sidecar.incidents().len(), 1);
    assert!(cluster.shards[1].sidecar.incidents().is_empty(), "the other shard did not notice");
}

#[test]
fn row_01_a_lost_executor_thread_is_killed_and_restarted() {
    lost_thread(&Plan::default());
}

#[test]
fn row_01_a_lost_executor_thread_is_seen_by_polling_too() {
    lost_thread(&polling());
}

#[test]
fn row_02_a_panic_ends_its_process_and_is_not_killed_again() {
    let mut cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm panic after 3"]);
    FaultTimes::record(2, &cluster, 0, fired);
    let incidents = cluster.shards[0].sidecar.incidents();
    let [incident] = &incidents[..] else { panic!("one incident: {incidents:#?}") };
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    assert!(!steps(incident).contains(&"signal"), "nothing was killed: {incident:#}");
    let said = incident["last_words"].to_string();
    assert!(said.contains("a test armed this panic") && said.contains("exec-s0"), "{incident:#}");
    cluster.shards[0]
        .supervisor
        .line("exit code 12", 0, |line| line.contains("ended (exit code 12)").then_some(()));
    cluster.assert_common_rule(&[0]);
}

/// Row 3: one of two workers panics while the other waits for it. The executor thread waits for
/// both and lives.
#[test]
fn row_03_a_lost_pool_worker_is_no_progress_of_the_thread_that_waits() {
    let mut cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["hook off", "arm worker-panic after 3"]);
    FaultTimes::record(3, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["thread"]["name"], "exec-s0", "{incident:#}");
    assert!(steps(&incident).contains(&"signal"), "{incident:#}");
    cluster.assert_common_rule(&[0]);
}

fn on_two_threads() -> Plan {
    let shard_arguments = vec!["--threads".to_owned(), "2".to_owned()];
    Plan { shard_arguments, ..Plan::default() }
}

/// Row 3 with a shard's real helpers: one spins for ever in the middle of a transaction, and the
/// executor thread, which has to settle that transaction next, waits for it.
#[test]
fn row_03_a_helper_that_spins_is_no_progress_of_its_owner() {
    let mut cluster = Cluster::start(&on_two_threads());
    let fired = cluster.inject(0, &["arm helper-spin"]);
    FaultTimes::keep(Record::row(3).case("helper-spin"), &cluster.shards[0].sidecar, &cluster, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "exec-s0", "{incident:#}");
    cluster.assert_common_rule(&[0]);
}

/// The same with a panic, hook off: nothing waits for a helper that is gone, and its owner ends
/// rather than go on without it.
#[test]
fn row_03_a_helper_that_panics_takes_its_owner_along() {
    let mut cluster = Cluster::start(&on_two_threads());
    let fired = cluster.inject(0, &["hook off", "arm helper-panic"]);
    FaultTimes::keep(Record::row(3).case("helper-panic"), &cluster.shards[0].sidecar, &cluster, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], "exec-s0", "{incident:#}");
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_05_a_lock_that_is_never_given_back_is_a_deadlock() {
    let mut cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm deadlock after 3"]);
    let times = FaultTimes::record(5, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert_eq!(incident["thread"]["kind"], "deadlock", "{incident:#}");
    assert!(times.verdict_ms >= 1000.0, "not before its threshold: {times:?}");
    cluster.assert_common_rule(&[0]);
}

/// Row 21: the thread lives on inside its own panic hook.
#[test]
fn row_21_a_panic_hook_that_hangs_is_killed() {
    let mut cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm hook-hang after 3"]);
    FaultTimes::record(21, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert!(steps(&incident).contains(&"signal"), "{incident:#}");
    assert!(incident["last_words"].to_string().contains("exec-s0"), "{incident:#}");
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_04_an_endless_loop_is_a_livelock() {
    let cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm spin after 3"]);
    let times = FaultTimes::record(4, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert_eq!(incident["thread"]["kind"], "livelock", "{incident:#}");
    assert!(times.verdict_ms >= 1000.0, "not before its threshold: {times:?}");
}

#[test]
fn row_12_a_killed_process_is_seen_restarted_and_not_killed_again() {
    let cluster = Cluster::start(&Plan::default());
    let before = cluster.shards[0].sidecar.status().unwrap();
    let pid = i32::try_from(before["pid"].as_i64().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let at = monotonic_ns();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    FaultTimes::record(12, &cluster, 0, at);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    assert!(!steps(&incident).contains(&"signal"), "nothing was killed: {incident:#}");
    assert_ne!(cluster.shards[0].sidecar.status().unwrap()["pid"], before["pid"]);
}

#[test]
fn row_19_a_zombie_leader_is_killed() {
    let cluster = Cluster::start(&Plan::default());
    let fired = cluster.inject(0, &["arm leader-exit"]);
    FaultTimes::record(19, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "leader_gone", "{incident:#}");
}

#[test]
fn row_26_an_exit_that_never_finishes_is_killed() {
    let judge = "exit_within = \"1s\"".to_owned();
    let cluster =
        Cluster::start(&Plan { settings: Settings { judge, ..Settings::default() }, ..Plan::default() });
    let fired = cluster.inject(0, &["arm exit-hang"]);
    let times = FaultTimes::record(26, &cluster, 0, fired);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "exit_hung", "{incident:#}");
    assert!(times.verdict_ms >= 1000.0, "not before its deadline: {times:?}");
}

#[test]
fn observe_mode_says_and_does_not_kill() {
    let settings = Settings { mode: "observe".to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let pid = cluster.shards[0].sidecar.status().unwrap()["pid"].clone();
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let status = cluster.shards[0].sidecar.wait_for("condemned");
    assert_eq!(status["pid"], pid);
    shard_tests::wait::holds_for(std::time::Duration::from_secs(1), "the process lives on", || {
        cluster.shards[0].sidecar.status().is_some_and(|s| s["pid"] == pid && s["verdict"] == "condemned")
    });
    let incident = cluster.shards[0].sidecar.incident("open");
    let steps = steps(&incident);
    assert!(steps.contains(&"withheld") && !steps.contains(&"signal"), "{incident:#}");
    // The survivor does the dead shard's part too.
    cluster.verified_after(monotonic_ns());
}
