//! Rows in which a message between coordinator and shard is missing, late or an error: the
//! coordinator detects it by its own deadlines, and no sidecar has a reason to act.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use serde_json::{Value, json};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::Record;
use shard_tests::{faults, wait};

/// Waits for the retry that the fault caused and for its block, records both times and asserts the
/// common rule. No shard may have noticed anything.
#[track_caller]
fn retried(record: Record, cluster: &mut Cluster, fired: u64) -> Value {
    let retry = cluster.coordinator().event_after("retry", fired);
    let told = retry["at_monotonic_ns"].as_u64().unwrap();
    let block = retry["block"].as_u64().unwrap();
    let verified = cluster.coordinator().verified_block_after(block, fired);
    record
        .time("answer_ms", fired, told)
        .time("verified_ms", fired, verified.at)
        .fact("reason", &retry["reason"])
        .keep();
    cluster.verified_after(verified.at);
    cluster.assert_common_rule(&[]);
    retry
}

/// Row 6: one state request gets no answer; its shard reports a typed error, long before the
/// block's deadline.
#[test]
fn row_06_an_unanswered_state_request_is_a_typed_error_and_one_retry() {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let fired = cluster.inject_coordinator(&["arm mute-state 1"]);
    let retry = retried(Record::row(6), &mut cluster, fired);
    assert!(retry["reason"].as_str().unwrap().contains("STATE_LATE"), "{retry}");
}

/// Row 6: no request gets an answer any more, so no retry helps: the coordinator ends in time, and
/// reports what was missing.
#[test]
fn row_06_state_requests_that_are_never_answered_end_in_a_typed_error() {
    let plan = Plan { block_deadline: "4s".to_owned(), ..Plan::coordinator_first() };
    let mut cluster = Cluster::start(&plan);
    let fired = cluster.inject_coordinator(&["arm mute-state"]);
    let coordinator = cluster.coordinator_mut();
    let status = coordinator.process.wait("the coordinator's end");
    let ended = shard_tests::clock::monotonic_ns();
    assert_eq!(status.code(), Some(3), "{status}");
    let said = coordinator
        .process
        .line("why", 0, |line| line.starts_with("shard-executor").then(|| line.to_owned()));
    assert!(said.contains("block ") && said.contains("shard ") && said.contains("state"), "{said}");
    Record::row(6).case("never").time("answer_ms", fired, ended).fact("said", &json!(said)).keep();
    cluster.assert_unharmed_except(&[]);
}

#[test]
fn row_07_a_part_that_is_lost_on_its_way_is_sent_again() {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let fired = cluster.inject_coordinator(&["arm drop-part"]);
    let retry = retried(Record::row(7), &mut cluster, fired);
    assert!(retry["reason"].as_str().unwrap().contains("deadline"), "{retry}");
}

#[test]
fn row_07_a_result_that_is_lost_on_its_way_is_asked_for_again() {
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let fired = cluster.inject(0, &["arm drop-result"]);
    let retry = retried(Record::row(7).case("result"), &mut cluster, fired);
    assert!(retry["reason"].as_str().unwrap().contains("deadline"), "{retry}");
}

/// Row 14: results of other attempts arrive while their block runs and after it is over. None is
/// accepted, all are counted, and the first is reported.
#[test]
fn row_14_results_of_another_attempt_or_block_are_discarded_and_counted() {
    const LATE: u64 = 12;
    let mut cluster = Cluster::start(&Plan::coordinator_first());
    let port = &cluster.coordinator().faults;
    assert_eq!(faults::counter(port, "discarded"), 0, "nothing was late so far");
    let fired = cluster.inject_coordinator(&[&format!("arm flood {LATE}")]);
    let counted = wait::until("all of them counted", || {
        let counted = faults::counter(port, "discarded");
        (counted >= LATE).then_some(counted)
    });
    let told = cluster.coordinator().event_after("discarded", fired);
    // Each also requests state before it has a result, and those requests are as stale; only they
    // may add to the count.
    let after = cluster.verified_after(told["at_monotonic_ns"].as_u64().unwrap());
    cluster.verified_after(after.at);
    Record::row(14)
        .time("told_ms", fired, told["at_monotonic_ns"].as_u64().unwrap())
        .fact("discarded", &json!(counted))
        .fact("first", &told)
        .keep();
    cluster.assert_common_rule(&[]);
}

/// Row 15: one shard answers with an error while the others succeed; nothing of that attempt
/// remains for the next block.
#[test]
fn row_15_an_error_of_one_shard_is_retried_and_the_next_block_is_clean() {
    let mut cluster = Cluster::start(&Plan { shards: 3, ..Plan::coordinator_first() });
    let fired = cluster.inject(1, &["arm part-error"]);
    let retry = retried(Record::row(15), &mut cluster, fired);
    assert!(retry["reason"].as_str().unwrap().contains("EXECUTION"), "{retry}");
    assert!(retry["from"].as_str().unwrap().contains("shard 1"), "{retry}");
    let block = retry["block"].as_u64().unwrap();
    let failed = cluster.coordinator().verified_block_after(block, fired);
    assert_eq!(failed.retries, 1, "one part went out again: {failed:?}");
    let next = cluster.verified_after(failed.at);
    assert_eq!(next.retries, 0, "the next block is clean: {next:?}");
}
