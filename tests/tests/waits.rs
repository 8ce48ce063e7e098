//! Rows 44, 46 and 60, and the naming of stalls: what a thread waits for in this machine's kernel,
//! as reported by the real sidecar in enforce mode.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::cgroup::Cgroup;
use shard_tests::process::Process;
use shard_tests::puppet::Stage;
use shard_tests::sidecar::Settings;
use shard_tests::{skip, wait};

/// What was made for a test; `None`: the test is noted as skipped, and in CI it fails.
fn or_skipped<T>(made: Result<T, String>, test: &str) -> Option<T> {
    made.inspect_err(|why| {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        skip::note(test, why);
    })
    .ok()
}

fn signal(pid: i32, signal: Signal) {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(pidfd, signal).unwrap();
}

#[track_caller]
fn excused_as(stage: &Stage, kind: &str) {
    wait::until(&format!("the excuse {kind}, not {:?}", stage.sidecar.status()), || {
        stage.sidecar.status().filter(|status| status["threads"][0]["kind"] == kind)
    });
}

/// Stays excused well past the threshold.
#[track_caller]
fn stays_excused(stage: &Stage, pid: i32) {
    wait::holds_for(Duration::from_secs(4), "excused, and alive", || {
        stage.sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
}

#[track_caller]
fn goes_on_unharmed(stage: &Stage, pid: i32) {
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
}

#[test]
fn row_60_a_thread_that_its_cgroup_gives_no_memory_is_excused_until_it_gets_it() {
    let test = "row_60_a_thread_that_its_cgroup_gives_no_memory_is_excused_until_it_gets_it";
    let Some(memory) = or_skipped(Cgroup::make("memory"), test) else { return };
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    memory.set("memory.limit_in_bytes", "16M");
    // A thread that takes more waits until there is more.
    memory.set("memory.oom_control", "1");
    memory.take(pid);
    stage.order("wait memory");
    excused_as(&stage, "memory_throttled");
    stays_excused(&stage, pid);
    memory.set("memory.limit_in_bytes", "-1");
    goes_on_unharmed(&stage, pid);
}

/// The freezer of version 1 finds it stopped, and shows `D` in the place where it was.
#[test]
fn row_46_a_shard_that_is_stopped_and_then_frozen_is_excused_also_where_no_cgroup_can_be_seen() {
    let test = "row_46_a_shard_that_is_stopped_and_then_frozen_is_excused_also_where_no_cgroup_can_be_seen";
    let Some(freezer) = or_skipped(Cgroup::make("freezer"), test) else { return };
    let stage = Stage::start_without_cgroups(&Settings::default());
    let pid = stage.sidecar.pid();
    freezer.take(pid);
    signal(pid, Signal::STOP);
    excused_as(&stage, "stopped");
    freezer.set("freezer.state", "FROZEN");
    excused_as(&stage, "frozen");
    stays_excused(&stage, pid);
    freezer.set("freezer.state", "THAWED");
    signal(pid, Signal::CONT);
    goes_on_unharmed(&stage, pid);
}

/// What an incident calls a stall of this kind.
#[track_caller]
fn kind_of(how: &str) -> String {
    let stage = Stage::start(&Settings::default());
    stage.order(&format!("wait {how}"));
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert!(incident["tracer"].is_null(), "{incident:#}");
    incident["thread"]["kind"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_parent_of_a_vfork_is_blocked_and_waits_for_no_device() {
    assert_eq!(kind_of("vfork"), "blocked");
}

#[test]
fn a_lock_with_priority_inheritance_that_never_comes_is_a_deadlock() {
    assert_eq!(kind_of("priority-lock"), "deadlock");
}

#[test]
fn who_waits_for_a_page_that_another_process_owes_is_blocked() {
    assert_eq!(kind_of("page"), "blocked");
}

#[test]
fn who_waits_for_a_decision_on_its_system_call_is_blocked() {
    assert_eq!(kind_of("decision"), "blocked");
}

#[test]
fn who_waits_for_a_file_system_that_nobody_serves_is_blocked_and_waits_for_no_device() {
    let test = "who_waits_for_a_file_system_that_nobody_serves_is_blocked_and_waits_for_no_device";
    let there = if rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists() {
        Ok(())
    } else {
        Err("needs root and /dev/fuse".to_owned())
    };
    if or_skipped(there, test).is_some() {
        assert_eq!(kind_of("file-system"), "blocked");
    }
}

#[test]
fn who_waits_for_permission_to_open_a_file_is_blocked_and_waits_for_no_device() {
    let test = "who_waits_for_permission_to_open_a_file_is_blocked_and_waits_for_no_device";
    let root =
        if rustix::process::geteuid().is_root() { Ok(()) } else { Err("needs root (fanotify)".to_owned()) };
    if or_skipped(root, test).is_some() {
        assert_eq!(kind_of("permission"), "blocked");
    }
}

#[test]
fn row_44_a_tracer_that_stops_the_shard_at_each_system_call_excuses_it_and_is_named() {
    let test = "row_44_a_tracer_that_stops_the_shard_at_each_system_call_excuses_it_and_is_named";
    let strace = Path::new("/usr/bin/strace");
    let there = if strace.is_file() {
        Ok(())
    } else {
        Err("strace is not installed (apt-get install strace)".to_owned())
    };
    if or_skipped(there, test).is_none() {
        return;
    }
    let stage = Stage::start(&Settings { stall_after: "500ms".to_owned(), ..Settings::default() });
    let pid = stage.sidecar.pid();
    let mut command = Command::new(strace);
    command.args(["-f", "-q", "-o", "/dev/null", "-p", &pid.to_string()]);
    let tracer = Process::start("strace", command);
    wait::until("the tracer on it", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t"))?;
        (tracer != "0").then_some(())
    });
    // A healthy step of a twentieth of a second now takes seconds of CPU time.
    stage.order("wait calls");
    excused_as(&stage, "traced");
    let at = |key: &Value| stage.sidecar.status().filter(|status| status["threads"][0]["work_key"] != *key);
    let step = at(&Value::Null).expect("a status")["threads"][0]["work_key"].clone();
    wait::until("the end of that step", || at(&step));
    goes_on_unharmed(&stage, pid);
    // A thread that sleeps for ever is still killed, tracer or not.
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    assert_eq!(incident["tracer"]["name"], "strace", "{incident:#}");
    assert!(incident["observations"].to_string().contains("(strace) traced it"), "{incident:#}");
    drop(tracer);
}
