//! The fault kit (`tests/faults`) beside the real sidecar: each script does what its header
//! promises, the sidecar reports what the header says, and nothing of the fault remains once it is
//! over, however it ended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

#[path = "fault_kit/around.rs"]
mod around;
#[path = "fault_kit/held.rs"]
mod held;
#[path = "fault_kit/lists.rs"]
mod lists;
#[path = "fault_kit/network.rs"]
mod network;
#[path = "fault_kit/refused.rs"]
mod refused;
#[path = "fault_kit/undone.rs"]
mod undone;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::puppet::THREAD;
use shard_tests::sidecar::Sidecar;
use shard_tests::{fault_kit, skip, wait};

/// Waits for one of these excuses. On a busy machine the sidecar's own lateness may come first.
#[track_caller]
fn excused_as(sidecar: &Sidecar, kinds: &[&str]) {
    wait::until(&format!("one of the excuses {kinds:?}, not {:?}", sidecar.status()), || {
        let status = sidecar.status()?;
        kinds.contains(&status["threads"][0]["kind"].as_str()?).then_some(())
    });
}

/// Excused by that name for longer than the threshold (a second), and nothing is killed.
#[track_caller]
fn stays_excused_as(sidecar: &Sidecar, kind: &str) {
    let pid = sidecar.pid();
    excused_as(sidecar, &[kind]);
    wait::holds_for(Duration::from_millis(1_500), "excused, and alive", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
}

/// Waits until time was excused by that name. Reading the status may miss a brief excuse.
#[track_caller]
fn was_excused_as(sidecar: &Sidecar, kind: &str) {
    wait::until(&format!("time excused as {kind}"), || {
        sidecar.status()?["excused_seconds"][kind].as_f64().filter(|told| *told > 0.0)
    });
}

/// The same process as before, healthy, and never condemned.
#[track_caller]
fn unharmed(sidecar: &Sidecar, pid: i32) {
    assert_eq!(sidecar.wait_for("healthy")["pid"], pid);
    assert!(sidecar.told_incidents().is_empty(), "{:#?}", sidecar.told_incidents());
}

/// Makes the target lose its watched thread from outside, and waits until its process was killed
/// and another one works.
#[track_caller]
fn loses_its_thread(sidecar: &Sidecar) -> Value {
    let pid = sidecar.pid();
    let arguments = ["--pid", &pid.to_string(), "--thread", THREAD];
    let ended = fault_kit::run("kill-thread", fault_kit::command("kill-thread", &arguments));
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let told = wait::until("an incident that has recovered", || {
        let mut told = sidecar.told_incidents().into_iter();
        told.find(|incident| incident["status"] == "recovered")
    });
    assert_eq!(
        (&told["reason"], &told["thread"]["name"]),
        (&"thread_gone".into(), &THREAD.into()),
        "{told:#}"
    );
    assert_ne!(sidecar.wait_for("healthy")["pid"], pid, "another one works");
    told
}

/// The letter by which the kernel shows the state of a thread.
fn state(pid: i32, tid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Kills a process that is not the harness's own child, but was started by it.
#[track_caller]
fn kill(pid: i32) {
    send(pid, Signal::KILL);
    wait::until("its end", || (!Path::new(&format!("/proc/{pid}/fd/0")).exists()).then_some(()));
}

#[track_caller]
fn pause(pid: i32) {
    send(pid, Signal::STOP);
    wait::until("its stop", || (state(pid, pid) == Some('T')).then_some(()));
}

#[track_caller]
fn send(pid: i32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, signal).unwrap();
}

/// Whether this version 1 controller exists; if not, the test is noted as skipped, and in CI it
/// fails.
fn version_1(test: &str, controller: &str) -> bool {
    let there = Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").is_file();
    if !there {
        let why = format!("there is no cgroup controller {controller} of version 1");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        skip::note(test, &why);
    }
    there && fault_kit::has(test, &[])
}

/// Where the scripts put a target, in version 1 or 2.
fn made(hierarchy: &str, pid: i32) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("shard-fault-{pid}"))
}
