//! Row 56, and the deadline of a piece of work, with a target of the harness's own: a slow start is
//! no fault, and a target may request less time than its rule gives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_tests::collector::Traced;
use shard_tests::incident;
use shard_tests::sidecar::Settings;
use shard_tests::wait;

fn booting(grace: &str) -> (tempfile::TempDir, Traced) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { judge: format!("startup_grace = {grace:?}"), ..Settings::default() };
    let traced = Traced::start_in_boot(folder.path(), "slow", &settings);
    (folder, traced)
}

#[test]
fn row_56_a_slow_start_within_its_grace_is_starting_and_no_incident() {
    let (_folder, traced) = booting("1h");
    let sidecar = &traced.sidecar;
    let starting = sidecar.wait_for("starting");
    assert_eq!(starting["threads"][0]["health"], "starting", "{starting:#}");
    wait::holds_for(Duration::from_secs(4), "starting, longer than any other threshold", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "starting")
    });
    traced.boots_no_longer();
    let healthy = sidecar.wait_for("healthy");
    assert_eq!(healthy["pid"], starting["pid"]);
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
}

#[test]
fn row_56_a_start_that_outlasts_its_grace_is_degraded_and_kills_nobody() {
    let (_folder, traced) = booting("1s");
    let sidecar = &traced.sidecar;
    let degraded = sidecar.wait_for("degraded");
    wait::holds_for(Duration::from_secs(3), "degraded, and the same process", || {
        sidecar.status().is_none_or(|s| s["verdict"] == "degraded" && s["pid"] == degraded["pid"])
    });
    traced.boots_no_longer();
    assert_eq!(sidecar.wait_for("healthy")["pid"], degraded["pid"]);
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
}

#[test]
fn a_piece_of_work_that_gives_itself_less_time_is_condemned_after_that() {
    let folder = tempfile::tempdir().unwrap();
    // By its rule nothing would happen before the test has given up.
    let settings = Settings { stall_after: "1h".to_owned(), ..Settings::default() };
    let traced = Traced::start(folder.path(), "hasty", &settings, &[]);
    let stands = traced.stand_still();
    let told = traced.sidecar.incident("recovered");
    assert_eq!(
        (&told["reason"], &told["thread"]["kind"]),
        (&"stalled".into(), &"deadlock".into()),
        "{told:#}"
    );
    let verdict = incident::step_at(&told, "verdict").unwrap();
    let after = Duration::from_nanos(verdict.saturating_sub(stands));
    // The line that reports the beginning is printed after the work began.
    assert!(after >= shard_tests::collector::DEADLINE / 2, "{after:?}");
    let rests_on = told["observations"].to_string();
    assert!(rests_on.contains("the work's own deadline allows 300 ms, less than the 1 h"), "{rests_on}");
    traced.sidecar.wait_for("healthy");
}
