//! What a thread is doing, since when, and which piece of work it finished first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use shard_judge::clock::Monotonic;
use shard_judge::observation::{Claim, Presence, TaskState};
use shard_judge::testing::at_work::{self, LOOK, STALL_AFTER};
use shard_judge::testing::{Scene, ns};
use shard_judge::verdict::{ExcuseKind, StallKind};

/// An even activity: the thread is idle.
fn idle() -> Scene {
    let mut history = at_work::begin(0);
    history.thread().activity += 1;
    history.progress();
    // Nothing is remembered of the work that it began with.
    let mut anew = at_work::begin(0);
    anew.now = history.now;
    anew.judge = shard_judge::Judge::new(Monotonic(0));
    anew.look();
    anew
}

#[test]
fn progress_ends_no_work() {
    let mut history = at_work::begin(0);
    let began = history.trial().work_since;
    assert!(began.is_some());
    for _ in 0..10 {
        history.progress();
        assert_eq!(history.trial().work_since, began);
    }
    assert_eq!(history.trial().finished, None);
}

#[test]
fn the_same_work_begun_again_is_as_old_as_its_new_beginning() {
    let mut history = at_work::begin(0);
    history.run(LOOK * 10);
    history.thread().activity += 2;
    history.progress();
    assert_eq!(history.trial().work_since, Some(history.now.at));
}

#[test]
fn another_work_is_as_old_as_its_first_look_whatever_the_activity_says() {
    let mut history = at_work::begin(0);
    history.run(LOOK * 10);
    history.thread().attempt += 1;
    history.progress();
    assert_eq!(history.trial().work_since, Some(history.now.at));
}

#[test]
fn an_idle_thread_is_at_nothing() {
    let mut history = at_work::begin(0);
    history.thread().activity += 1;
    history.progress();
    let trial = history.trial();
    assert_eq!((trial.work_since, trial.work, trial.finished), (None, None, Some(Some(7))));
}

#[test]
fn work_begun_inside_the_first_is_no_end_of_it() {
    let mut history = idle();
    history.thread().activity += 1;
    history.progress();
    assert_eq!(history.trial().work, Some((7, 1)));
    // A step of it, then work of its own inside it.
    history.progress();
    (history.thread().work_key, history.thread().activity) = (8, history.now.threads[0].activity + 2);
    history.progress();
    assert_eq!(history.trial().finished, None);
    // Work is never nested three deep: by now it has moved on.
    (history.thread().work_key, history.thread().activity) = (9, history.now.threads[0].activity + 2);
    history.progress();
    assert_eq!(history.trial().finished, Some(Some(8)));
}

#[test]
fn a_clock_runs_only_against_who_works_is_here_and_lives() {
    let mut history = at_work::begin(0);
    let left = |history: &Scene| history.trial().runs_against(&history.policy.rules[0]);
    history.pass(LOOK);
    assert_eq!(left(&history), Some(STALL_AFTER - LOOK));
    history.thread().activity += 1;
    history.progress();
    assert_eq!(left(&history), None, "it is idle");

    let mut history = at_work::begin(0);
    history.thread().claim = Claim::Left;
    history.pass(LOOK);
    assert_eq!(left(&history), None, "it has left");

    let mut history = at_work::begin(0);
    history.thread().presence = Presence::Gone;
    history.pass(LOOK);
    assert_eq!(left(&history), None, "it is gone");
}

#[test]
fn only_of_a_stall_a_verdict_says_how_the_thread_stands_still() {
    let mut history = at_work::begin(0);
    history.run(STALL_AFTER / 2);
    assert_eq!(history.trial().faulty().kind, None);
    history.run(STALL_AFTER);
    assert_eq!(history.trial().faulty().kind, Some(StallKind::Deadlock));
}

#[test]
fn of_who_is_said_to_have_left_for_a_moment_nothing_before_it_counts() {
    let mut history = at_work::begin(0);
    history.run(STALL_AFTER - LOOK);
    history.thread().claim = Claim::Left;
    history.pass(LOOK);
    history.thread().claim = Claim::Live;
    history.pass(LOOK);
    assert!(!history.run(STALL_AFTER - LOOK).condemned);
    assert!(history.run(LOOK * 2).condemned, "and then it does");
}

#[test]
fn where_the_time_of_a_thread_has_gone_is_told_and_adds_up() {
    let mut history = at_work::begin(0);
    let began = history.now.at;
    history.run(STALL_AFTER / 2);
    history.progress();
    history.thread().activity += 1;
    history.run(STALL_AFTER);
    history.thread().activity += 1;
    history.pass(LOOK);
    history.shows(TaskState::Stopped, None, 0);
    history.run(STALL_AFTER / 4);
    let spent = history.trial().spent();
    let excused = spent.excused_ns[ExcuseKind::Stopped as usize];
    assert_eq!(spent.idle_ns, ns(STALL_AFTER));
    assert_eq!(spent.counted_ns, ns(STALL_AFTER / 2));
    assert!(excused >= ns(STALL_AFTER / 4 - 2 * LOOK), "{spent:?}");
    let all = spent.idle_ns + spent.working_ns + spent.counted_ns + spent.unclear_ns + excused;
    assert_eq!(all, ns(history.now.at.since(began)), "{spent:?}");
}

#[test]
fn each_piece_of_work_is_counted_once_however_many_begin_between_two_observations() {
    for (from, to, begun) in
        [(0, 1, 1), (0, 2, 1), (0, 3, 2), (0, 4, 2), (1, 2, 0), (1, 3, 1), (1, 4, 1), (1, 5, 2), (3, 3, 0)]
    {
        let mut history = at_work::begin(0);
        history.thread().generation += 1;
        history.thread().activity = from;
        history.pass(LOOK);
        history.thread().activity = to;
        history.pass(LOOK);
        assert_eq!(history.trial().begun(), begun, "from {from} to {to}");
        history.pass(LOOK);
        assert_eq!(history.trial().begun(), 0, "none since then");
    }
}
