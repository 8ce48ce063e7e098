//! The control run, for half a minute: what it asserts is asserted by itself, and that it had something to assert on here.

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

#[test]
fn a_short_control_run_kills_nobody_who_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("control.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.args(["--for", "30s", "--seed", "3", "--json"]).arg(&json);
    let mut control = Process::start("control", command);
    // What is under way when the time is over is brought to its end, on a machine that it makes busy itself.
    let status = wait::within(Duration::from_secs(420), "the end of the run", || control.ended());
    assert!(status.success(), "{status}\n{}", control.lines().join("\n"));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&figures["wrong_kills"], &figures["stalls"]), (&0.into(), &figures["stalls_seen"]));
    assert!(figures["controls"].as_u64() > Some(0), "{figures:#}");
}
