//! A kernel, or a container's profile, that lacks some call: the sidecar still watches, or reports
//! what is missing and what to do about it. No missing call ends it without a message, or makes it
//! spin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;
use std::time::Duration;

use shard_tests::collector::TracedTarget;
use shard_tests::lacking;
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

/// A target and a sidecar that lacks a call.
struct Scene {
    sidecar: Sidecar,
    watchdog: Process,
    _target: Process,
    _folder: tempfile::TempDir,
}

#[track_caller]
fn without(call: libc::c_long, errno: i32) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "0", TracedTarget::THREAD, &Settings::default());
    let mut command = Command::new(binary("traced-target"));
    command.arg(folder.path()).arg(&sidecar.heartbeat);
    let target = Process::start("target", command);
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config);
    lacking::refuse(&mut command, call, errno);
    let watchdog = Process::start("sidecar", command);
    Scene { sidecar, watchdog, _target: target, _folder: folder }
}

/// How long the watch thread of a sidecar has run or wanted to run: a thread that does not sleep
/// always does one of the two, however busy the machine is.
#[track_caller]
fn awake(pid: i32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named =
        |task: &std::path::PathBuf| std::fs::read(task.join("comm")).is_ok_and(|comm| comm == b"watch\n");
    let watch = tasks.map(|task| task.unwrap().path()).find(named).expect("a watch thread");
    let text = std::fs::read_to_string(watch.join("schedstat")).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    Duration::from_nanos(numbers[0] + numbers[1])
}

#[test]
fn without_epoll_pwait2_it_watches_and_sleeps_in_between() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let scene = without(libc::SYS_epoll_pwait2, errno);
        scene.sidecar.wait_for("healthy");
        let (before, began) = (awake(scene.watchdog.pid()), std::time::Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        let (awake, of) = (awake(scene.watchdog.pid()).saturating_sub(before), began.elapsed());
        assert!(awake < of / 2, "awake for {awake:?} of {of:?}");
    }
}

#[test]
fn what_has_another_way_is_not_missed() {
    for call in [libc::SYS_getrandom, libc::SYS_statx, libc::SYS_sched_setscheduler, libc::SYS_prlimit64] {
        let scene = without(call, libc::ENOSYS);
        scene.sidecar.wait_for("healthy");
    }
}

#[test]
fn without_pidfds_nothing_is_watched_and_the_status_says_why() {
    let scene = without(libc::SYS_pidfd_open, libc::ENOSYS);
    wait::until("the reason in the status", || {
        let status = scene.sidecar.status()?;
        let reason = status["reason"].as_str()?;
        let said =
            reason.contains("pidfd_open") && reason.contains("Linux 5.3") && reason.contains("seccomp");
        (status["verdict"] == "unguarded" && said).then_some(())
    });
}

#[test]
fn without_what_it_sleeps_on_it_ends_with_a_sentence() {
    for (call, name) in [(libc::SYS_epoll_create1, "epoll_create1"), (libc::SYS_eventfd2, "eventfd2")] {
        let mut scene = without(call, libc::ENOSYS);
        assert_eq!(scene.watchdog.wait("its end").code(), Some(1), "{name}");
        scene.watchdog.line("what is missing and what to do", 0, |line| {
            (line.contains(name) && line.contains("Linux") && line.contains("seccomp")).then_some(())
        });
    }
}

#[test]
fn a_supervisor_that_cannot_see_ends_starts_nothing_and_says_so() {
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["supervise", "--", "true"]);
    lacking::refuse(&mut command, libc::SYS_waitid, libc::ENOSYS);
    let mut process = Process::start("supervise", command);
    process.line("what is missing", 0, |line| line.contains("waitid").then_some(()));
    assert_eq!(process.wait("its end").code(), Some(71));
}
