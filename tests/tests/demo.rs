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
fn recovers(fault: &str, more: &[&str]) -> String {
    sweep::adopt_orphans();
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("demo-{}-{fault}", std::process::id());
    let mut command = Command::new(binary("shard-watchdog"));
    command
        .args(["demo", "--fault", fault, "--blocks"])
        .arg(blocks::any(folder.path()))
        .args(more)
        .env(sweep::MARK, &mark);
    let mut demo = Process::start("demo", command);
    let status = demo.wait("the end of the demo");
    let told = demo.lines().join("\n");
    drop(demo);
    sweep::sweep(&mark);
    assert!(status.success(), "{status}:\n{told}");
    assert!(told.contains("recovered:"), "it says so:\n{told}");
    told
}

#[test]
fn the_demo_recovers_from_a_lost_thread_and_says_how_fast_the_machine_is() {
    let told = recovers("panic", &[]);
    assert!(told.contains("demo: machine: "), "{told}");
    assert!(told.contains("a known piece of work took "), "{told}");
}

#[test]
fn the_demo_recovers_from_a_deadlock() {
    recovers("deadlock", &[]);
}

#[test]
fn row_67_a_slow_machine_gets_as_much_more_time_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().join("keep");
    let told = recovers("exit", &["--slow", "3", "--keep", keep.to_str().unwrap()]);
    assert!(told.contains("3 times slower than usual (as given)"), "{told}");
    let config = |name: &str| std::fs::read_to_string(keep.join(name)).unwrap();
    assert!(config("0.toml").contains("stall_after = \"3000ms\""), "{}", config("0.toml"));
    assert!(config("coordinator.toml").contains("stall_after = \"30000ms\""));
}
