//! Row 16: a block that ends every shard that runs it. The watchdog stops killing for it, the shard
//! refuses it, the coordinator executes it apart from them, and everything else goes on. Rows 29
//! and 62: what else holds a kill back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::incident;
use shard_tests::poison::poisoned;
use shard_tests::restraint::{self, Stalling};
use shard_tests::sidecar::Sidecar;
use shard_tests::{api, wait};

/// The only work of `stalling-target`.
const KEY: u64 = 7;

fn has(incident: &Value, step: &str) -> bool {
    incident::step_at(incident, step).is_some()
}

#[test]
fn row_29_kills_that_bring_no_finished_work_end_until_a_person_clears_them() {
    restraint::braked();
}

#[test]
fn row_62_of_shards_that_stand_still_at_once_those_that_recover_within_the_jitter_live() {
    let (lived, of) = restraint::jittered();
    // One of them is killed before it goes on in one of some hundred runs; all are in none.
    assert!(lived > 0, "{lived} of {of} lived");
}

fn metric(sidecar: &Sidecar, name: &str) -> Option<f64> {
    let page = api::get(sidecar.http, "/metrics")?.body;
    page.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn row_16_a_block_that_ends_every_shard_costs_each_two_lives_at_most_and_is_executed_apart() {
    poisoned("panic");
}

#[test]
fn row_16_a_block_at_which_every_shard_stands_still_is_killed_for_twice_at_most() {
    poisoned("deadlock");
}

/// Waits until it is left alone for its only work, and checks that it stays so.
fn left_alone(target: &Stalling, kills: usize) -> Value {
    let status = target.left_alone(kills, "a target that is spared", |status| status["spared"] == true);
    assert_eq!(status["verdict"], "crash_loop", "{status:#}");
    assert_eq!(status["crash_loop_keys"], serde_json::json!([KEY]), "{status:#}");
    status
}

#[test]
fn row_16_a_shard_that_stalls_at_the_same_work_is_killed_twice_and_then_left_alone_until_it_is_cleared() {
    let alone = Stalling::start(&[]);
    let status = left_alone(&alone, 2);
    assert!(status["no_kill"].to_string().contains("crash_loop"), "{status:#}");
    assert_eq!(metric(&alone.sidecar, "shard_watchdog_crash_loop_keys{"), Some(1.0));
    let ready = api::get(alone.sidecar.http, "/shard/readyz").unwrap();
    assert!(ready.body.starts_with("crash_loop"), "{}", ready.body);
    // A withheld kill is an incident too, and here the latest one.
    let latest = alone.withheld();
    assert!(!has(&latest, "signal"), "{latest:#}");
    assert!(latest["observations"].to_string().contains("crash loop"), "{latest:#}");
    shard_tests::replayed::prove(&alone.sidecar.config, &alone.sidecar.evidence, &latest);

    // The crash loop is remembered across a restart of the sidecar.
    let sidecar: i32 = alone.supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    let from = alone.supervisor.line_count();
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(sidecar).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    alone
        .supervisor
        .line("another sidecar", from, |line| line.starts_with("supervise: sidecar pid ").then_some(()));
    let again = left_alone(&alone, 2);
    assert_eq!(again["pid"], status["pid"]);

    // Another key has no effect; for this one the target is killed again, twice.
    let other = alone.clear(&["8"]);
    assert!(other.contains("not in a crash loop"), "{other}");
    assert_eq!(alone.sidecar.status().unwrap()["spared"], true);
    let cleared = alone.clear(&["7"]);
    assert!(cleared.contains("may lead to a kill again"), "{cleared}");
    wait::until("the kill that was due", || (alone.killed() > 2).then_some(()));
    left_alone(&alone, 4);
}
