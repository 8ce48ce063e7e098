//! Faults without a remedy end in bounded time with a reason: a shard that does not start, a part
//! that kills every shard, and a coordinator whose only shard is lost and not restarted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::net::TcpListener;

use serde_json::json;
use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::Record;
use shard_tests::process::Process;
use shard_tests::{api, unstarted};

/// Waits until that shard has ended three times, and stores the record.
#[track_caller]
fn does_not_start(case: &str, code: i32, says: &str, arguments: &[&str]) {
    let told = unstarted::does_not_start(case, code, says, arguments);
    Record::row(17)
        .case(case)
        .fact("said", &json!(told.said))
        .time("three_starts_ms", told.began, told.ended)
        .fact("waits_ms", &json!(told.waits))
        .keep();
}

#[test]
fn row_17_a_shard_whose_address_is_taken_ends_and_is_started_again_later_and_later() {
    let address = api::free_address();
    let _taken = TcpListener::bind(address).unwrap();
    does_not_start("bind", 2, "cannot listen on", &["--listen", &address.to_string()]);
}

#[test]
fn row_17_a_shard_that_is_never_ready_ends_and_is_started_again_later_and_later() {
    let (address, folder) = (api::free_address().to_string(), tempfile::tempdir().unwrap());
    let faults = folder.path().join("0.faults");
    let arguments = ["--listen", &address, "--faults", faults.to_str().unwrap(), "--arm", "arm never-ready"];
    does_not_start("never-ready", 2, "did not start within", &arguments);
}

/// Row 24: two of three shards die at once, and the third does their parts until they are back.
#[test]
fn row_24_two_shards_that_die_at_once_cost_retries_and_nothing_else() {
    let mut cluster = Cluster::start(&Plan { shards: 3, ..Plan::coordinator_first() });
    let fired = cluster.inject(0, &["arm panic after 3"]);
    cluster.inject(1, &["arm panic after 3"]);
    let verified = cluster.verified_after(monotonic_ns());
    for number in [0, 1] {
        let incident = cluster.shards[number].sidecar.incident("recovered");
        assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    }
    Record::row(24).time("verified_ms", fired, verified.at).keep();
    cluster.assert_common_rule(&[0, 1]);
}

/// Row 24: the part kills every shard that gets it, including those of the retries, and again after
/// each restart.
#[test]
fn row_24_a_part_that_every_shard_dies_of_ends_in_a_typed_error() {
    let shard_arguments = ["--arm", "arm panic after 3"].map(str::to_owned).to_vec();
    // Whether the block is to blame is not tested here; see the executor's own tests for blocks
    // that are.
    let environment = vec![("SHARD_EXECUTOR_POISON_AFTER".to_owned(), "0".to_owned())];
    let mut cluster = Cluster::start(&Plan {
        shard_arguments,
        environment,
        coordinator: false,
        ..Plan::coordinator_first()
    });
    let blocks = cluster.blocks();
    let began = monotonic_ns();
    cluster.run_blocks(&blocks, "8s");
    let coordinator = cluster.coordinator_mut();
    let status = coordinator.process.wait("the coordinator's end");
    let ended = monotonic_ns();
    assert_eq!(status.code(), Some(3), "{status}");
    let said = sentence(&coordinator.process);
    assert!(said.contains("block ") && said.contains("part ") && said.contains("shard "), "{said}");
    let retries = coordinator.events().iter().filter(|event| event["event"] == "retry").count();
    assert!(retries <= 6, "three a part at the most: {:#?}", coordinator.events());
    Record::row(24)
        .case("all")
        .time("answer_ms", began, ended)
        .fact("said", &json!(said))
        .fact("retries", &json!(retries))
        .keep();
    for shard in &cluster.shards {
        for incident in shard.sidecar.told_incidents() {
            assert_eq!(incident["reason"], "process_gone", "nobody was killed: {incident:#}");
        }
    }
}

/// The final message of the coordinator.
#[track_caller]
fn sentence(coordinator: &Process) -> String {
    coordinator.line("why it ended", 0, |line| line.starts_with("shard-executor").then(|| line.to_owned()))
}

/// The audit's proof of concept: the executor thread dies and its process lives on. The hook and
/// the guard are off.
const LOST: [&str; 3] = ["hook off", "guard off", "arm panic after 3"];

#[test]
fn poc_a_lost_thread_of_the_only_shard_with_no_watchdog_is_a_typed_error_in_time() {
    let plan =
        Plan { shards: 1, watched: false, block_deadline: "4s".to_owned(), ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    let fired = cluster.inject(0, &LOST);
    let coordinator = cluster.coordinator_mut();
    let status = coordinator.process.wait("the coordinator's end");
    let ended = monotonic_ns();
    assert_eq!(status.code(), Some(3), "{status}");
    let said = sentence(&coordinator.process);
    assert!(said.contains("block ") && said.contains("shard 0"), "{said}");
    Record::named("poc-one-shard").time("answer_ms", fired, ended).fact("said", &json!(said)).keep();
    assert!(cluster.shards[0].supervisor.is_running(), "nobody ended the shard");
}

#[test]
fn poc_a_lost_thread_of_one_of_two_shards_with_no_watchdog_is_a_verified_result_in_time() {
    let mut cluster = Cluster::start(&Plan { watched: false, ..Plan::coordinator_first() });
    let fired = cluster.inject(0, &LOST);
    let retry = cluster.coordinator().event_after("retry", fired);
    let verified = cluster.coordinator().verified_block_after(retry["block"].as_u64().unwrap(), fired);
    Record::named("poc-two-shards")
        .time("verified_ms", fired, verified.at)
        .fact("reason", &retry["reason"])
        .keep();
    cluster.verified_after(verified.at);
    cluster.assert_common_rule(&[]);
}

#[test]
fn poc_a_lost_thread_of_the_only_shard_with_a_watchdog_is_a_verified_result_in_time() {
    let mut cluster = Cluster::start(&Plan { shards: 1, ..Plan::coordinator_first() });
    let fired = cluster.inject(0, &LOST);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    let verified = cluster.verified_after(fired);
    Record::named("poc-watched").time("verified_ms", fired, verified.at).keep();
    cluster.assert_common_rule(&[0]);
}
