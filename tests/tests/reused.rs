//! Rows 50 and 65: reused ids. In a separate pid namespace, in which the next id can be chosen, a
//! stranger gets the pid of a dead target and a thread the id of a lost one: the sidecar never
//! mistakes one for the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use serde_json::Value;
use shard_tests::puppet::{Nursery, THREAD, order, order_unanswered};
use shard_tests::ward::Ward;
use shard_tests::{skip, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);

fn signals(incident: &Value) -> usize {
    incident["timeline"].as_array().unwrap().iter().filter(|entry| entry["step"] == "signal").count()
}

/// The incident of the lost thread, whose process was killed once.
#[track_caller]
fn assert_lost(incident: &Value, tid: Option<i32>) {
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_eq!(incident["thread"]["name"], THREAD, "{incident:#}");
    if let Some(tid) = tid {
        assert_eq!(incident["thread"]["tid"], tid, "{incident:#}");
    }
    assert_eq!(signals(incident), 1, "{incident:#}");
}

/// A namespace in which ids are reused, or `None` and a note where it cannot be made.
fn nursery(test: &str) -> Option<Nursery> {
    match Nursery::open() {
        Ok(nursery) => Some(nursery),
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            skip::note(test, &why);
            None
        }
    }
}

#[test]
fn row_50_a_stranger_with_the_pid_of_a_dead_target_is_never_watched_nor_signalled() {
    let test = "row_50_a_stranger_with_the_pid_of_a_dead_target_is_never_watched_nor_signalled";
    let Some(nursery) = nursery(test) else { return };
    let ward = Ward::start(nursery);
    let watchdog = ward.start_sidecar("pidfd");
    assert_eq!(ward.sidecar.wait_for("healthy")["pid"], ward.pid);
    ward.end(ward.pid, "KILL");
    // It maps the very segment, which names its pid: only its start time shows that it is another
    // process.
    ward.stranger(ward.pid);
    let nobody = |status: &Value| status["pid"].is_null() && status["verdict"] != "healthy";
    ward.sidecar.wait_for("dead");
    wait::holds_for(A_WHILE, "nobody is watched", || {
        ward.sidecar.status().is_none_or(|status| nobody(&status))
    });
    // A sidecar that begins with the stale segment does not believe it either.
    ward.end(watchdog, "TERM");
    ward.start_sidecar("pidfd");
    let refused = wait::until("the refusal", || {
        let status = ward.sidecar.status()?;
        status["reason"].as_str()?.contains("started at another time").then_some(status)
    });
    assert!(nobody(&refused), "{refused:#}");
    let next = ward.start_target();
    let healthy = ward.sidecar.wait_for("healthy");
    assert_eq!(healthy["pid"], next, "{healthy:#}");
    assert!(ward.nursery.is_alive(ward.pid), "nobody has signalled the stranger");
    let incidents = ward.sidecar.incidents();
    assert!(incidents.iter().all(|incident| signals(incident) == 0), "{incidents:#?}");
}

/// The id of a lost thread is given to another thread of the same process and name while the
/// sidecar does not observe.
#[track_caller]
fn thread_id_given_out_again(test: &str, events: &str) {
    let Some(nursery) = nursery(test) else { return };
    let ward = Ward::start(nursery);
    let watchdog = ward.start_sidecar(events);
    ward.sidecar.wait_for("healthy");
    ward.nursery.signal(watchdog, "STOP");
    let tid = order(ward.port, "reuse").number("is");
    ward.nursery.signal(watchdog, "CONT");
    let incident = ward.sidecar.incident_with("exited");
    assert_lost(&incident, Some(tid));
    wait::until("its end", || (!ward.nursery.is_alive(ward.pid)).then_some(()));
}

#[test]
fn row_50_a_thread_id_given_out_again_does_not_hide_that_its_owner_is_gone() {
    let test = "row_50_a_thread_id_given_out_again_does_not_hide_that_its_owner_is_gone";
    thread_id_given_out_again(test, "pidfd");
}

#[test]
fn row_50_a_thread_id_given_out_again_is_seen_by_polling_too() {
    thread_id_given_out_again("row_50_a_thread_id_given_out_again_is_seen_by_polling_too", "poll");
}

/// All of it was over when the sidecar began: the segment says "at work", and another thread has
/// that id.
#[test]
fn row_50_a_thread_id_given_out_again_before_the_sidecar_began_is_seen_at_adoption() {
    let test = "row_50_a_thread_id_given_out_again_before_the_sidecar_began_is_seen_at_adoption";
    let Some(nursery) = nursery(test) else { return };
    let ward = Ward::start(nursery);
    order(ward.port, "reuse");
    ward.start_sidecar("pidfd");
    let incident = ward.sidecar.incident_with("exited");
    assert_lost(&incident, None);
    wait::until("its end", || (!ward.nursery.is_alive(ward.pid)).then_some(()));
}

/// Its thread is lost, which is detected and answered: it is really watched.
#[track_caller]
fn watched_again(ward: &Ward) {
    let watched = ward.sidecar.wait_for("healthy");
    assert_eq!(watched["pid"], ward.pid, "{watched:#}");
    assert_eq!(watched["restored"], true, "{watched:#}");
    wait::holds_for(A_WHILE, "it is left alone while it is well", || ward.nursery.is_alive(ward.pid));
    let tid = &watched["threads"][0]["tid"];
    assert!(tid.is_number(), "{watched:#}");
    order_unanswered(ward.port, "lose");
    let lost = wait::until("the incident of the lost thread", || {
        ward.sidecar.incidents().into_iter().find(|incident| incident["reason"] == "thread_gone")
    });
    wait::until("its end", || (!ward.nursery.is_alive(ward.pid)).then_some(()));
    assert_eq!(&lost["thread"]["tid"], tid, "{lost:#}");
}

#[test]
fn row_65_a_target_that_was_restored_from_a_checkpoint_is_watched_again() {
    let test = "row_65_a_target_that_was_restored_from_a_checkpoint_is_watched_again";
    let Some(nursery) = nursery(test) else { return };
    let ward = Ward::start(nursery);
    ward.start_sidecar("pidfd");
    let before = ward.sidecar.wait_for("healthy");
    assert_eq!((&before["pid"], &before["restored"]), (&ward.pid.into(), &false.into()), "{before:#}");
    ward.end(ward.pid, "KILL");
    ward.sidecar.incident_with("exited");
    ward.restore(ward.pid);
    watched_again(&ward);
}

#[test]
fn row_65_a_sidecar_that_begins_after_the_restore_finds_the_target_too() {
    let test = "row_65_a_sidecar_that_begins_after_the_restore_finds_the_target_too";
    let Some(nursery) = nursery(test) else { return };
    let ward = Ward::start(nursery);
    ward.end(ward.pid, "KILL");
    ward.restore(ward.pid);
    ward.start_sidecar("poll");
    watched_again(&ward);
}
