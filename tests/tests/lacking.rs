//! A kernel, or a container's profile, without some call: the sidecar watches all the same, or says what is missing and what to
//! do about it. Nothing of that kind ends it without a sentence, and nothing makes it spin.

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

/// CPU time that a process has used, in clock ticks of a hundredth of a second.
#[track_caller]
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_epoll_pwait2_it_watches_and_does_not_spin() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let scene = without(libc::SYS_epoll_pwait2, errno);
        scene.sidecar.wait_for("healthy");
        let before = ticks(scene.watchdog.pid());
        std::thread::sleep(Duration::from_secs(2));
        let used = ticks(scene.watchdog.pid()) - before;
        // It uses some hundredths of a core; one that does not sleep uses all of one, unless the machine is busy, and then
        // a quarter of one at the least.
        assert!(used < 50, "{used} hundredths of a second in two");
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
