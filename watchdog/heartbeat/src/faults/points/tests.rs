//! Tests of fault points alone; `tests/tests/inject.rs` shows on real processes how a sidecar
//! reacts to them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::*;

/// Only a broken build waits this long.
const GENEROUS: Duration = Duration::from_secs(60);

fn points() -> &'static Points {
    Box::leak(Box::new(Points::new()))
}

fn ordered(points: &Points, order: &str) -> String {
    points.obey(order.parse().unwrap_or_else(|error| panic!("{order}: {error}"))).expect(order)
}

/// Passes a point on a separate thread, which sends a message if it returns.
fn passing(points: &'static Points, place: &'static str) -> Receiver<()> {
    let (back, comes_back) = channel();
    let pass = move || {
        points.pass(place);
        let _ = back.send(());
    };
    std::thread::Builder::new().name("passing".to_owned()).spawn(pass).expect("a thread");
    comes_back
}

fn held(points: &Points, many: usize) {
    let began = Instant::now();
    while points.lock().held != many {
        assert!(began.elapsed() < GENEROUS, "{}", points.list());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_point_that_is_not_armed_is_passed() {
    let points = points();
    assert!(!points.are_active());
    points.pass("anywhere");
    ordered(points, "arm panic at commit thread nobody");
    assert!(points.are_active());
    points.pass("commit");
    points.pass("elsewhere");
    assert_eq!(points.list(), "ok: held: 0; armed: panic at commit thread nobody once for 10m");
    assert_eq!(points.told_struck(), "ok: struck: none");
}

#[test]
fn who_hangs_or_spins_goes_on_once_it_is_disarmed() {
    for kind in ["hang", "spin", "slow 1h"] {
        let points = points();
        ordered(points, &format!("arm {kind} at here"));
        let back = passing(points, "here");
        held(points, 1);
        assert_eq!(back.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        assert!(
            points
                .told_struck()
                .starts_with(&format!("ok: struck: {kind} at here thread passing at_monotonic_ns="))
        );
        ordered(points, "disarm");
        assert_eq!(back.recv_timeout(GENEROUS), Ok(()), "{kind}");
        held(points, 0);
        assert!(!points.are_active());
    }
}

#[test]
fn who_hangs_or_spins_goes_on_when_the_time_is_up() {
    for kind in ["hang", "spin", "slow 1h"] {
        let points = points();
        ordered(points, &format!("arm {kind} for 20ms"));
        assert_eq!(passing(points, "here").recv_timeout(GENEROUS), Ok(()), "{kind}");
    }
}

#[test]
fn a_fault_happens_once_at_the_ordered_passing() {
    let points = points();
    ordered(points, "arm end at here after 2");
    points.pass("here");
    points.pass("there");
    points.pass("here");
    let ends = passing(points, "here");
    // The sender was dropped with the thread: nothing was sent.
    assert_eq!(ends.recv_timeout(GENEROUS), Err(RecvTimeoutError::Disconnected));
    assert!(!points.are_active());
    points.pass("here");
}

#[test]
fn always_strikes_everybody_and_leaves_others_their_turn() {
    let points = points();
    ordered(points, "arm slow 1us");
    ordered(points, "arm end after 1");
    points.pass("here");
    assert_eq!(passing(points, "here").recv_timeout(GENEROUS), Err(RecvTimeoutError::Disconnected));
    points.pass("here");
    assert_eq!(points.list(), "ok: held: 0; armed: slow 1us always for 10m");
    assert_eq!(points.told_struck().matches("at_monotonic_ns=").count(), 2, "{}", points.told_struck());
}

#[test]
fn what_lasts_is_over_when_its_time_is() {
    let points = points();
    ordered(points, "arm slow 1us for 1us");
    points.pass("here");
    std::thread::sleep(Duration::from_millis(1));
    points.pass("here");
    assert!(!points.are_active());
}

#[test]
fn a_thread_is_known_by_its_registered_name_for_as_long_as_it_is_registered() {
    let points = points();
    ordered(points, "arm slow 1us thread exec-s0");
    points.pass("here");
    assert_eq!(points.told_struck(), "ok: struck: none");
    let outer = Named::new("exec-s0");
    drop(Named::new("other"));
    points.pass("here");
    assert!(points.told_struck().contains("thread exec-s0 "), "{}", points.told_struck());
    drop(outer);
    assert_ne!(name_of_this_thread(), "exec-s0");
}

#[test]
fn no_more_is_armed_than_a_test_needs() {
    let points = points();
    for _ in 0..MOST_ARMED {
        ordered(points, "arm hang");
    }
    assert_eq!(points.obey("arm hang".parse().expect("an order")), Err(TooMany));
    ordered(points, "disarm");
    for _ in 0..MOST_STRUCK * 2 {
        ordered(points, "arm slow 1us once");
        points.pass("here");
    }
    assert_eq!(points.told_struck().matches("at_monotonic_ns=").count(), MOST_STRUCK);
}

#[test]
fn an_armed_fault_does_not_strike_where_another_process_armed_it() {
    let points = points();
    ordered(points, "arm end");
    // The state that a forked child finds.
    points.owner.store(std::process::id() + 1, Ordering::Relaxed);
    points.pass("here");
    assert!(points.are_active());
}
