//! The runs that take hours, for half a minute each: they assert their own results, and this test
//! that they had something to assert on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shard_tests::process::Process;
use shard_tests::wait;

/// Runs the program for 30 s and returns its figures if it ended well. Starting and ending a
/// cluster takes a while on a busy machine, and work under way at the end is completed.
#[track_caller]
fn short(program: &str, seed: u64, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(program);
    command.args(["--for", "30s", "--seed", &seed.to_string(), "--json"]).arg(&json).args(more);
    let mut run = Process::start(program, command);
    let status = wait::within(Duration::from_secs(420), "the end of the run", || run.ended());
    assert!(status.success(), "{status}\n{}", run.lines().join("\n"));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(figures["seed"], seed);
    figures
}

#[test]
fn a_short_soak_ends_well() {
    let figures = short(env!("CARGO_BIN_EXE_soak"), 1, &[]);
    assert_eq!(figures["violations"], 0);
    assert!(figures["blocks_verified"].as_u64() > Some(20), "{figures:#}");
    assert!(figures["faults"].as_u64() > Some(5), "{figures:#}");
    assert!(figures["coordinators"].as_u64() > Some(1), "{figures:#}");
}

#[test]
fn a_short_control_run_kills_nobody_who_is_healthy_and_everybody_who_is_stalled() {
    // No hogs: other scenarios run beside it. It begins with a freezer, a killed sidecar, and
    // stalls beside each.
    let figures = short(env!("CARGO_BIN_EXE_control"), 188, &["--hogs", "0"]);
    assert_eq!((&figures["wrong_kills"], &figures["stalls_seen"]), (&0.into(), &figures["stalls"]));
    assert!(figures["controls"].as_u64() > Some(0), "{figures:#}");
}
