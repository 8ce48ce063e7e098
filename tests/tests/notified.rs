//! What shard, coordinator, sidecar and supervisor report to a service manager, and when.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use shard_tests::manager::Manager;
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, blocks, wait};

/// The shortest interval at which the sidecar meets every request: it then observes every 10 ms.
const PATIENCE: Duration = Duration::from_millis(40);

/// Another process from which the manager requests signs of life: no process has this number.
const NOBODY: u32 = u32::MAX >> 1;

/// An idle sidecar: there is no target, and its loop sleeps for as long as no verdict can change.
fn sidecar(folder: &Path) -> (Sidecar, Command) {
    let sidecar = Sidecar::configure(folder, "0", "exec-s0", &Settings::default());
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    (sidecar, command)
}

#[test]
fn a_sidecar_is_ready_without_a_target_and_lives_as_long_as_its_loop_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let (sidecar, mut command) = sidecar(folder.path());
    manager.manages(&mut command, Some(PATIENCE), None);
    let mut process = Process::start("sidecar", command);
    let first = manager.until("READY=1");
    assert_eq!(first.last().unwrap(), "READY=1\nWATCHDOG=1\n");
    // The verdict is sent separately, sooner or later than that, and its reason may change.
    let status = "STATUS=unguarded: no heartbeat segment at";
    if !first.iter().any(|message| message.starts_with(status)) {
        manager.until(status);
    }
    // At rest the sign of life is sent again and again.
    for _ in 0..20 {
        manager.until("WATCHDOG=1");
    }
    // Whether the new config is good or not, the reload ends.
    for text in [std::fs::read_to_string(&sidecar.config).unwrap(), "[nonsense]\n".to_owned()] {
        std::fs::write(&sidecar.config, text).unwrap();
        process.signal(Signal::HUP);
        let reload = manager.until("RELOADING=1").pop().unwrap();
        assert!(reload.contains("\nMONOTONIC_USEC="), "{reload}");
        manager.until("READY=1");
    }
    process.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert!(process.wait("the sidecar's end").success());
    // The loop ends after that, and with it the signs of life.
    while let Some(last) = manager.heard() {
        assert_eq!(last, "WATCHDOG=1\n");
    }
}

#[test]
fn a_sidecar_whom_nobody_asks_gives_no_sign_of_life_but_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let (_, mut command) = sidecar(folder.path());
    manager.manages(&mut command, Some(PATIENCE), Some(NOBODY));
    let process = Process::start("sidecar", command);
    manager.until("READY=1");
    wait::holds_for(10 * PATIENCE, "the manager asks another process", || {
        manager.heard().is_none_or(|message| !message.contains("WATCHDOG=1"))
    });
    process.signal(Signal::TERM);
    manager.until("STOPPING=1");
}

#[test]
fn a_manager_that_cannot_be_told_is_named_and_no_reason_to_stay_away() {
    let folder = tempfile::tempdir().unwrap();
    let (sidecar, mut command) = sidecar(folder.path());
    command.env("NOTIFY_SOCKET", "not/absolute");
    let process = Process::start("sidecar", command);
    process.line("a warning", 0, |line| {
        (line.contains("NOTIFY_SOCKET") && line.contains("not/absolute")).then_some(())
    });
    sidecar.wait_for("unguarded");
}

#[test]
fn shard_and_coordinator_are_ready_when_they_run_and_say_when_they_stop() {
    let folder = tempfile::tempdir().unwrap();
    let listen = api::free_address();
    let of = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        Manager::listen(&folder)
    };
    let (shards, coordinators) = (of("s"), of("c"));

    let mut command = Command::new(binary("shard-executor"));
    command.args(["shard", "--id", "0", "--listen", &listen.to_string(), "--heartbeat"]);
    command.arg(folder.path().join("0.heartbeat"));
    shards.manages(&mut command, None, None);
    let mut shard = Process::start("shard", command);
    // A program that waits for the unit may use it: by then it listens.
    assert_eq!(shards.until("READY=1"), ["READY=1\nSTATUS=shard 0 runs\n"]);
    std::net::TcpStream::connect_timeout(&listen, Duration::from_secs(10)).unwrap();

    let blocks = blocks::generated(folder.path(), 1, 20);
    let mut command = Command::new(binary("shard-executor"));
    command.args(["coordinator", "--repeat", "0", "--shards", &listen.to_string(), "--blocks"]).arg(blocks);
    coordinators.manages(&mut command, None, None);
    let mut coordinator = Process::start("coordinator", command);
    assert_eq!(coordinators.until("READY=1"), ["READY=1\nSTATUS=the coordinator runs\n"]);
    coordinator.line("a block", 0, |line| line.contains("verified").then_some(()));

    for (process, manager) in [(&mut coordinator, &coordinators), (&mut shard, &shards)] {
        process.signal(Signal::TERM);
        manager.until("STOPPING=1");
        assert!(process.wait("its end").success());
    }
}

#[test]
fn a_supervisor_is_the_service_and_its_children_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let (sidecar, _) = sidecar(folder.path());
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("supervise").arg("--config").arg(&sidecar.config);
    command.args(["--", "sh", "-c", "env; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]);
    manager.manages(&mut command, Some(PATIENCE), None);
    let mut process = Process::start("supervise", command);
    manager.until("READY=1");
    process.line("the environment of the command", 0, |line| {
        line.starts_with("SHARD_WATCHDOG_SUPERVISED=").then_some(())
    });
    sidecar.wait_for("unguarded");
    // It only sleeps, and still shows that it lives.
    for _ in 0..20 {
        assert_eq!(manager.until("WATCHDOG=1"), ["WATCHDOG=1\n"], "and nobody else says a word");
    }
    let environment = process.lines();
    let passed =
        |line: &&String| ["NOTIFY_SOCKET=", "WATCHDOG_USEC="].iter().any(|name| line.starts_with(name));
    assert_eq!(environment.iter().find(passed), None);
    process.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert!(process.wait("the supervisor's end").success());
}
