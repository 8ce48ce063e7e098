//! A machine that was suspended, a process whose core is being written, a watchdog that was late:
//! none of these may bring a verdict nearer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::Note;
use shard_judge::observation::{Claim, Declared, Presence, Survivors, TaskState, WaitChannel};
use shard_judge::testing::at_work::{self, EXIT_WITHIN, LOOK, STALL_AFTER, STOPPED_AT_MOST};
use shard_judge::testing::{Scene, ns};
use shard_judge::verdict::{ExcuseKind, Health, Reason, Verdict};

const HOUR: Duration = Duration::from_secs(3_600);
/// The time that a core excuses by default.
const CORE_CAP: Duration = Duration::from_secs(600);

/// Most of the threshold has been counted.
fn nearly_stalled() -> Scene {
    let mut history = at_work::begin(0);
    history.run(STALL_AFTER - 3 * LOOK);
    history
}

#[test]
fn a_suspend_on_top_of_a_late_watchdog_is_told_as_a_suspend() {
    let mut history = nearly_stalled();
    history.now.suspended_ns += ns(HOUR);
    assert!(!history.pass(STALL_AFTER).condemned);
    assert_eq!(history.excused(ExcuseKind::Suspended), HOUR + STALL_AFTER);
    assert_eq!(history.excused(ExcuseKind::ObserverLate), Duration::ZERO);
}

#[test]
fn suspends_from_before_the_first_look_and_impossible_ones_are_nothing() {
    let mut history = at_work::begin(0);
    assert_eq!(history.excused(ExcuseKind::Suspended), Duration::ZERO, "77 ns when it began");
    for suspended in [0, u64::MAX, 0, u64::MAX, 1] {
        history.now.suspended_ns = suspended;
        assert!(!history.pass(LOOK).condemned);
    }
    assert!(history.run(2 * STALL_AFTER).condemned, "the dead are found all the same");
}

#[test]
fn neither_a_suspend_nor_a_late_watchdog_brings_the_deadlines_of_the_process_nearer() {
    for suspended in [false, true] {
        let away = |history: &mut Scene| {
            if suspended {
                history.now.suspended_ns += ns(HOUR);
                // Some kernels let the monotonic clock run on for a while.
                history.pass(HOUR / 60)
            } else {
                history.pass(HOUR)
            }
        };
        let mut history = at_work::begin(0);
        history.process().declared = Declared::Stopping;
        history.progress();
        history.run(EXIT_WITHIN / 2);
        let decision = away(&mut history);
        assert_eq!((decision.verdict, decision.condemned), (Verdict::Dying, false));
        assert!(!history.run(EXIT_WITHIN / 3).condemned);
        assert!(history.run(EXIT_WITHIN / 3).condemned);
        assert_eq!(history.reason(), Some(Reason::ExitHung));

        let mut history = at_work::begin(0);
        history.shows(TaskState::Stopped, None, 0);
        history.process().leader = Some(TaskState::Stopped);
        history.run(STOPPED_AT_MOST / 2);
        let decision = away(&mut history);
        assert_eq!((decision.verdict, decision.condemned), (Verdict::Excused, false));
        assert!(!history.run(STOPPED_AT_MOST / 3).condemned);
        assert!(history.run(STOPPED_AT_MOST / 3).condemned);
        assert_eq!(history.reason(), Some(Reason::Stopped));

        // It unwinds: it could not end while nothing ran.
        let mut history = at_work::begin(0);
        history.thread().claim = Claim::Dropped;
        history.process().survivors = Survivors::Some;
        history.pass(LOOK);
        assert!(!away(&mut history).condemned);
        assert!(!history.pass(LOOK).condemned);
        assert!(history.run(Duration::from_secs(1)).condemned, "and it did not come afterwards");
        assert_eq!(history.reason(), Some(Reason::ThreadGone));
    }
}

/// Its core is being written from the next observation on.
fn dumps(history: &mut Scene) {
    let process = history.process();
    (process.core_dumping, process.survivors) = (true, Survivors::None);
    // As the probe reports it: no view of a thread that is on its way out.
    history.thread().task = None;
}

#[test]
fn a_core_that_is_written_excuses_everything_for_as_long_as_its_cap() {
    let gone = |history: &mut Scene| history.thread().presence = Presence::Gone;
    let dropped = |history: &mut Scene| history.thread().claim = Claim::Dropped;
    let idle = |history: &mut Scene| history.thread().activity += 1;
    type Change = fn(&mut Scene);
    let changes: [(&str, Change); 4] =
        [("at work", |_| ()), ("a thread has ended", gone), ("unwinding", dropped), ("idle", idle)];
    for (what, change) in changes {
        let mut history = nearly_stalled();
        change(&mut history);
        dumps(&mut history);
        let counted = history.trial().counted();
        let decision = history.run(CORE_CAP / 2);
        assert_eq!((decision.verdict, decision.condemned), (Verdict::Excused, false), "{what}");
        assert!(history.judge.why().contains("core"), "{}", history.judge.why());
        if what == "at work" {
            assert_eq!(history.trial().counted(), counted);
        }
        if what != "a thread has ended" {
            assert_eq!(history.trial().excuse, Some(ExcuseKind::CoreDumping), "{what}");
            assert!(history.excused(ExcuseKind::CoreDumping) >= CORE_CAP / 2 - 2 * LOOK, "{what}");
        }
    }
}

#[test]
fn past_its_cap_a_core_is_told_once_and_kills_nobody() {
    let mut history = nearly_stalled();
    dumps(&mut history);
    let mut told = 0;
    let began = history.now.at;
    while history.now.at.since(began) < 2 * CORE_CAP {
        let decision = history.pass(LOOK);
        assert_eq!((decision.verdict, decision.condemned), (Verdict::Excused, false));
        told += history.noted(|note| matches!(note, Note::ExcuseOver { kind: ExcuseKind::CoreDumping, .. }));
    }
    assert_eq!(told, 1);
    assert!(history.trial().over_cap);
    assert!(history.judge.why().contains("longer than the cap allows"), "{}", history.judge.why());
}

#[test]
fn a_core_in_the_middle_of_a_stop_keeps_what_its_exit_has_used() {
    let mut history = at_work::begin(0);
    history.process().declared = Declared::Stopping;
    history.progress();
    history.run(EXIT_WITHIN / 2);
    dumps(&mut history);
    history.run(2 * EXIT_WITHIN);
    history.process().core_dumping = false;
    assert!(!history.run(EXIT_WITHIN / 3).condemned);
    assert!(history.run(EXIT_WITHIN / 3).condemned);
}

#[test]
fn a_process_that_dies_of_a_signal_with_a_core_is_one_that_ended_by_itself() {
    let mut history = nearly_stalled();
    dumps(&mut history);
    history.run(Duration::from_secs(10));
    history.process().core_dumping = false;
    history.pass(LOOK);
    history.process().exited = true;
    assert_eq!(history.pass(LOOK).verdict, Verdict::Restarting);
    let gone = |note: &Note| matches!(note, Note::Opened(opened) if opened.reason == Reason::ProcessGone);
    assert_eq!(history.noted(gone), 1);
}

#[test]
fn a_core_is_looked_at_20_times_a_second() {
    let mut history = at_work::begin(0);
    history.policy.rules[0].stall_after = Duration::from_millis(500);
    dumps(&mut history);
    let decision = history.pass(LOOK);
    assert_eq!(decision.look_at.since(history.now.at), Duration::from_millis(50));
}

#[test]
fn what_was_before_its_first_look_is_not_a_threads_own() {
    type Before = fn(&mut Scene) -> Duration;
    let befores: [(&str, Before); 3] = [
        ("some time", |_| Duration::from_millis(90)),
        ("a late watchdog", |_| HOUR),
        ("a suspend", |history| {
            history.now.suspended_ns += ns(HOUR);
            LOOK
        }),
    ];
    for (what, before) in befores {
        let mut history = at_work::begin(0);
        let mut second = history.now.threads[0].clone();
        (second.slot, second.tid) = (1, 102);
        history.now.threads.push(second);
        let elapsed = before(&mut history);
        history.pass(elapsed);
        let trial = &history.incarnation().threads()[1];
        assert_eq!(
            (trial.counted(), trial.excuse, trial.health),
            (Duration::ZERO, None, Health::Working),
            "{what}"
        );
        history.pass(LOOK);
        assert_eq!(history.incarnation().threads()[1].counted(), LOOK, "{what}: from then on it is");
    }
}

#[test]
fn progress_ends_an_excuse_that_was_over_its_cap() {
    let mut history = at_work::begin(0);
    history.shows(TaskState::Sleeping, Some(WaitChannel::Frozen), 0);
    history.run(CORE_CAP + LOOK);
    assert!(history.trial().over_cap);
    history.progress();
    assert!(!history.trial().over_cap);
    history.pass(LOOK);
    assert!(!history.trial().over_cap, "and the next one begins anew");
}
