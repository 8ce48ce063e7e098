//! The main job, as the README's first command runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use shard_tests::process::{Process, binary};
use shard_tests::{blocks, sweep};

#[track_caller]
fn recovers(fault: &str) {
    sweep::adopt_orphans();
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("demo-{}-{fault}", std::process::id());
    let mut command = Command::new(binary("shard-watchdog"));
    command
        .args(["demo", "--fault", fault, "--blocks"])
        .arg(blocks::any(folder.path()))
        .env(sweep::MARK, &mark);
    let mut demo = Process::start("demo", command);
    let status = demo.wait("the end of the demo");
    let told = demo.lines().join("\n");
    drop(demo);
    sweep::sweep(&mark);
    assert!(status.success(), "{status}:\n{told}");
    assert!(told.contains("recovered:"), "it says so:\n{told}");
}

#[test]
fn the_demo_recovers_from_a_lost_thread() {
    recovers("panic");
}

#[test]
fn the_demo_recovers_from_a_deadlock() {
    recovers("deadlock");
}
