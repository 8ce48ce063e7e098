//! Rows 22, 54 and 55: identity. A thread that takes the place or name of another, and a target
//! that forks or becomes another program. Only the right one is ever watched or signalled.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::puppet::{Stage, THREAD, order};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);

fn polling() -> Settings {
    Settings { thread_events: "poll".to_owned(), ..Settings::default() }
}

fn signals(incident: &Value) -> usize {
    incident["timeline"].as_array().unwrap().iter().filter(|entry| entry["step"] == "signal").count()
}

/// The incident of a lost thread: this thread of this process, which was killed once.
#[track_caller]
fn assert_lost(incident: &Value, tid: Option<i32>) {
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], THREAD, "{incident:#}");
    if let Some(tid) = tid {
        assert_eq!(incident["thread"]["tid"], tid, "{incident:#}");
    }
    assert_eq!(signals(incident), 1, "{incident:#}");
}

/// Nothing happens to it from which it would not recover by itself: on a busy machine it may be
/// late or starved for a moment.
#[track_caller]
fn healthy_for_a_while(sidecar: &Sidecar, pid: &Value, incidents: usize) {
    wait::holds_for(A_WHILE, "the same process, in nobody's way", || {
        sidecar.status().is_none_or(|status| {
            let fine = ["healthy", "excused", "degraded"].map(Value::from).contains(&status["verdict"]);
            fine && status["pid"] == *pid
        })
    });
    assert_eq!(sidecar.wait_for("healthy")["pid"], *pid);
    assert_eq!(sidecar.incidents().len(), incidents, "{:#?}", sidecar.incidents());
}

fn exists(pid: i32) -> bool {
    rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

/// Kills a process that this test once started.
#[track_caller]
fn kill(pid: i32) {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
}

/// The sidecar may be faster than the order, whose answer then never comes.
#[track_caller]
fn replaced(settings: &Settings, how: &str) {
    let stage = Stage::start(settings);
    let before = stage.sidecar.status().unwrap();
    let tid = i32::try_from(before["threads"][0]["tid"].as_i64().unwrap()).unwrap();
    stage.order_unanswered(how);
    let incident = stage.sidecar.incident("recovered");
    assert_lost(&incident, Some(tid));
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], before["pid"], "another process by now");
    assert_eq!(stage.sidecar.incidents().len(), 1);
}

#[test]
fn row_22_a_thread_replaced_by_another_of_its_name_is_gone() {
    replaced(&Settings::default(), "replace unregistered");
}

#[test]
fn row_22_a_thread_replaced_by_another_of_its_name_is_gone_by_polling_too() {
    replaced(&polling(), "replace unregistered");
}

/// The other one is watched like the first, is at work and makes progress.
#[test]
fn row_22_a_registered_replacement_makes_nothing_good() {
    replaced(&Settings::default(), "replace");
}

#[test]
fn row_54_a_new_name_and_a_second_thread_of_the_old_one_are_healthy() {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.status().unwrap()["pid"].clone();
    let tid = stage.order("rename somebody-else").number("tid");
    let comm = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap();
    assert_eq!(comm, "somebody-else\n", "the kernel calls it so");
    let double = stage.order("double").number("tid");
    assert_ne!(double, tid);
    healthy_for_a_while(&stage.sidecar, &pid, 0);
    // The second one ends: it was never the watched one.
    assert_eq!(stage.order("undouble").number("was"), double);
    healthy_for_a_while(&stage.sidecar, &pid, 0);
    let status = stage.sidecar.status().unwrap();
    assert_eq!(status["threads"][0]["tid"], tid, "{status:#}");
    assert_eq!(status["threads"][0]["name"], THREAD, "{status:#}");
    // The watched one stays watched, whatever its name.
    stage.order_unanswered("lose");
    assert_lost(&stage.sidecar.incident("recovered"), Some(tid));
}

#[test]
fn row_55_a_fork_is_neither_watched_nor_killed_with_its_parent() {
    let stage = Stage::start(&Settings::default());
    let parent = stage.sidecar.status().unwrap()["pid"].clone();
    let child = stage.order("fork").number("child");
    healthy_for_a_while(&stage.sidecar, &parent, 0);
    stage.order_unanswered("lose");
    assert_lost(&stage.sidecar.incident("recovered"), None);
    let now = stage.sidecar.wait_for("healthy")["pid"].clone();
    assert!(now != parent && now != child, "{now} after {parent}, whose child is {child}");
    assert!(exists(child), "the child outlived the kill of its parent");
    kill(child);
    // Its end does not matter.
    healthy_for_a_while(&stage.sidecar, &now, 1);
}

#[test]
fn row_55_a_target_that_becomes_another_program_is_let_go_unharmed() {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    stage.order_unanswered("exec other");
    let status = stage.sidecar.wait_for("unguarded");
    assert!(status["pid"].is_null(), "{status:#}");
    wait::holds_for(A_WHILE, "another program is no target", || {
        stage.sidecar.status().is_none_or(|status| status["verdict"] == "unguarded")
    });
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sleep\n");
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
    // The next process that the supervisor starts is watched again.
    kill(pid);
    assert_ne!(stage.sidecar.wait_for("healthy")["pid"], pid);
}

#[test]
fn row_55_a_target_that_execs_itself_is_watched_on_as_another_incarnation() {
    let stage = Stage::start(&Settings::default());
    let before = stage.sidecar.status().unwrap();
    let port = api::free_address();
    stage.order_unanswered(&format!("exec again {port}"));
    let after = wait::until("the next incarnation of the same process", || {
        let status = stage.sidecar.status()?;
        let other = status["incarnation"] != before["incarnation"] && status["verdict"] == "healthy";
        (other && status["pid"] == before["pid"]).then_some(status)
    });
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
    let tid = i32::try_from(after["threads"][0]["tid"].as_i64().unwrap()).unwrap();
    assert_eq!(order(port, "rename again").number("tid"), tid, "its new thread, not the old one");
    healthy_for_a_while(&stage.sidecar, &before["pid"], 0);
}
