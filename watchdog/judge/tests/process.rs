//! The process as a whole: how it ends, when it is observed next, and which of its threads a
//! verdict names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::Note;
use shard_judge::observation::{Declared, Presence, Survivors, TaskState};
use shard_judge::testing::Scene;
use shard_judge::testing::at_work::{self, EXIT_WITHIN, GRACE, LOOK, STALL_AFTER, STOPPED_AT_MOST};
use shard_judge::verdict::{Reason, Verdict};

/// A second thread under the same rule, at work on `key` if that is not zero.
fn with_second(history: &mut Scene, key: u64) {
    let mut second = history.now.threads[0].clone();
    (second.slot, second.tid, second.name) = (1, 102, "exec-s1".into());
    (second.activity, second.work_key) = (u64::from(key != 0), key);
    history.now.threads.push(second);
}

/// The work that the last observation's incident names.
fn named(history: &Scene) -> Option<u64> {
    history.judge.notes().iter().find_map(|note| match note {
        Note::Opened(opened) => opened.thread.as_ref().and_then(|thread| thread.work_key),
        _ => None,
    })
}

#[test]
fn an_exit_is_orderly_if_only_its_last_word_says_so() {
    let mut history = at_work::begin(0);
    history.pass(LOOK);
    history.process().declared = Declared::Stopping;
    history.process().exited = true;
    history.pass(LOOK);
    assert_eq!(history.noted(|note| matches!(note, Note::Opened(_))), 0);
    assert_eq!(history.judge.verdict(), Verdict::Unguarded);
}

#[test]
fn an_exit_names_the_work_that_began_after_the_last_look_on_its_own_thread() {
    let mut history = at_work::begin(0);
    history.thread().activity += 1;
    history.progress();
    with_second(&mut history, 0);
    history.pass(LOOK);
    // The second one begins something and the process is gone.
    (history.now.threads[1].activity, history.now.threads[1].work_key) = (1, 9);
    history.process().exited = true;
    history.pass(LOOK);
    assert_eq!(named(&history), Some(9));
}

#[test]
fn who_stands_still_behind_a_segment_that_cannot_be_read_is_not_condemned() {
    let mut history = at_work::begin(0);
    history.process().segment_readable = false;
    assert!(!history.run(2 * STALL_AFTER).condemned);
    history.process().segment_readable = true;
    assert!(history.run(2 * LOOK).condemned, "and is once it can");
}

#[test]
fn what_a_person_asks_for_tells_when_the_process_was_last_seen_well() {
    let mut history = at_work::begin(0);
    history.pass(LOOK);
    let seen = history.now.at;
    history.judge.request("a person");
    history.pass(Duration::from_secs(60));
    let condemned = history.incarnation().condemned().unwrap();
    assert_eq!((condemned.reason, condemned.last_progress), (Reason::Requested, seen));

    // A late observation has seen nothing of the time before it.
    let mut history = at_work::begin(0);
    let seen = history.now.at;
    history.pass(Duration::from_secs(60));
    history.judge.request("a person");
    history.pass(LOOK);
    assert_eq!(history.incarnation().condemned().unwrap().last_progress, seen);
}

#[test]
fn a_thread_that_is_gone_at_its_first_look_is_lost_at_that_look() {
    let mut history = at_work::begin(0);
    with_second(&mut history, 9);
    history.now.threads[1].presence = Presence::Gone;
    history.process().survivors = Survivors::Some;
    assert!(history.pass(LOOK).condemned);
    assert_eq!((history.reason(), named(&history)), (Some(Reason::ThreadGone), Some(9)));
}

#[test]
fn of_two_that_stall_at_once_the_first_is_named() {
    let mut history = at_work::begin(0);
    with_second(&mut history, 9);
    history.now.threads[0].progress += 1;
    history.now.threads[1].task = None;
    let task = history.now.threads[0].task.take();
    history.pass(LOOK);
    for thread in &mut history.now.threads {
        thread.task = task;
    }
    assert!(history.run(2 * STALL_AFTER).condemned);
    assert_eq!(named(&history), Some(7));
}

#[test]
fn an_exit_that_does_not_come_about_after_all_hangs_not() {
    let mut history = at_work::begin(0);
    history.thread().activity += 1;
    history.progress();
    history.process().survivors = Survivors::None;
    history.pass(LOOK);
    history.process().survivors = Survivors::Some;
    history.pass(LOOK);
    history.process().survivors = Survivors::NotAsked;
    assert!(!history.run(2 * EXIT_WITHIN).condemned);
}

#[test]
fn the_loop_wakes_when_an_exit_or_a_stop_has_had_its_time() {
    let left = Duration::from_millis(3);
    for (stopped, limit) in [(false, EXIT_WITHIN), (true, STOPPED_AT_MOST)] {
        let mut history = at_work::begin(0);
        history.thread().activity += 1;
        history.progress();
        if stopped {
            history.process().leader = Some(TaskState::Stopped);
        } else {
            history.process().declared = Declared::Stopping;
        }
        history.pass(LOOK);
        let since = history.now.at;
        history.run(limit - LOOK);
        history.pass(since.plus(limit - left).since(history.now.at));
        let decision = history.pass(Duration::ZERO);
        assert_eq!(decision.look_at, since.plus(limit), "stopped: {stopped}");
        history.now.at = decision.look_at;
        assert!(history.look().condemned);
    }
}

#[test]
fn a_condemned_process_is_looked_at_for_the_ladders_sake() {
    let mut history = at_work::begin(0);
    let decision = history.run(2 * STALL_AFTER);
    assert!(decision.condemned);
    assert_eq!(decision.look_at, history.now.at.plus(Duration::from_millis(50)));
}

/// The thread that the last observation's incident names.
fn named_thread(history: &Scene) -> Option<String> {
    history.judge.notes().iter().find_map(|note| match note {
        Note::Opened(opened) => opened.thread.as_ref().map(|thread| thread.name.clone()),
        _ => None,
    })
}

#[test]
fn an_end_names_who_was_at_work_and_rather_who_said_at_what() {
    // The first is idle, the second works on something.
    let mut history = at_work::begin(0);
    history.thread().activity += 1;
    history.progress();
    with_second(&mut history, 9);
    history.now.threads[1].work_key = 0;
    history.pass(LOOK);
    history.process().exited = true;
    history.pass(LOOK);
    assert_eq!(named_thread(&history).as_deref(), Some("exec-s1"));

    // The first does not say what it works on, the second does.
    let mut history = at_work::begin(0);
    history.thread().work_key = 0;
    history.thread().activity += 2;
    history.progress();
    with_second(&mut history, 9);
    history.pass(LOOK);
    history.process().exited = true;
    history.pass(LOOK);
    assert_eq!(named_thread(&history).as_deref(), Some("exec-s1"));
}

#[test]
fn a_stop_is_condemned_for_as_long_as_it_lasts_and_a_config_has_it_so() {
    type End = fn(&mut Scene);
    let ends: [(&str, End); 2] = [
        ("it runs again", |history| history.process().leader = Some(TaskState::Sleeping)),
        ("a reload says otherwise", |history| {
            history.policy.stopped_kills = false;
            history.judge.rules_changed(&history.policy);
        }),
    ];
    for (what, end) in ends {
        let mut history = at_work::begin(0);
        history.thread().activity += 1;
        history.progress();
        history.process().leader = Some(TaskState::Stopped);
        assert!(history.run(STOPPED_AT_MOST + 2 * LOOK).condemned);
        for _ in 0..10 {
            assert!(history.pass(LOOK).condemned, "{what}");
        }
        end(&mut history);
        assert!(!history.pass(LOOK).condemned, "{what}");
        assert_eq!(history.noted(|note| matches!(note, Note::Lifted { .. })), 1, "{what}");
    }
}

#[test]
fn what_a_person_asks_for_tells_who_was_at_work_and_no_other() {
    let mut history = at_work::begin(0);
    with_second(&mut history, 0);
    history.pass(LOOK);
    history.judge.request("a person");
    history.pass(LOOK);
    let told = &history.incarnation().condemned().unwrap().observations;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[1].contains("exec-s0"), "{told:#?}");
}

#[test]
fn it_is_looked_at_soon_again_while_nobody_knows_whether_the_process_goes_on() {
    let soon = Duration::from_millis(2);
    let mut history = at_work::begin(0);
    history.thread().presence = Presence::Gone;
    history.process().survivors = Survivors::Alone;
    assert_eq!(history.pass(LOOK).look_at, history.now.at.plus(soon));

    let mut history = at_work::begin(0);
    history.process().leader = Some(TaskState::Zombie);
    history.process().survivors = Survivors::Alone;
    assert_eq!(history.pass(LOOK).look_at, history.now.at.plus(soon));
    history.now.at = history.now.at.plus(soon);
    assert!(history.look().condemned);
    assert_eq!(history.reason(), Some(Reason::LeaderGone));
}

#[test]
fn the_loss_of_a_thread_tells_what_it_was_at() {
    for (working, told) in [(true, "it was at work on 7 (attempt 1)"), (false, "it was idle")] {
        let mut history = at_work::begin(0);
        if !working {
            history.thread().activity += 1;
            history.progress();
        }
        history.thread().presence = Presence::Gone;
        history.process().survivors = Survivors::Some;
        assert!(history.pass(LOOK).condemned);
        let observations = &history.incarnation().condemned().unwrap().observations;
        assert!(observations.iter().any(|line| line == told), "{observations:#?}");
    }
}

#[test]
fn a_thread_that_no_rule_is_about_changes_no_verdict() {
    let mut history = at_work::begin(0);
    with_second(&mut history, 0);
    history.now.threads[1].name = "net".into();
    history.pass(LOOK);
    history.now.threads[1].presence = Presence::Gone;
    assert_eq!(history.pass(LOOK).verdict, Verdict::Healthy);
}

#[test]
fn a_start_is_one_until_its_grace_is_over_and_not_after() {
    let mut history = at_work::begin(0);
    let first = history.now.at;
    history.process().declared = Declared::Boot;
    history.thread().activity += 1;
    history.progress();
    history.run(GRACE - 3 * LOOK);
    assert_eq!(history.pass(LOOK).verdict, Verdict::Starting);
    assert_eq!(history.pass(LOOK).verdict, Verdict::Healthy);
    assert_eq!(history.now.at.since(first), GRACE);
}
