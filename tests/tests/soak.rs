//! The soak, for less than a minute: what it asserts is asserted by itself, and that it had something to assert on here.

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
fn a_short_soak_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("soak.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
    command.args(["--for", "30s", "--seed", "1", "--json"]).arg(&json);
    let mut soak = Process::start("soak", command);
    // Starting and ending a cluster on a busy machine takes a while, too.
    let status = wait::within(Duration::from_secs(150), "the end of the soak", || soak.ended());
    assert!(status.success(), "{status}\n{}", soak.lines().join("\n"));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&figures["violations"], &figures["seed"]), (&0.into(), &1.into()));
    assert!(figures["blocks_verified"].as_u64() > Some(20), "{figures:#}");
    assert!(figures["faults"].as_u64() > Some(5), "{figures:#}");
    assert!(figures["coordinators"].as_u64() > Some(1), "{figures:#}");
}
