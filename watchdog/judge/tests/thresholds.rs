//! How long a thread may stand still (its rule, the deadline of its work, the warning before, the
//! grace of a start), and how the kind of a stall is determined.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use globset::Glob;
use shard_judge::observation::{Declared, TaskState, WaitChannel};
use shard_judge::policy::{SAMPLES_APART, SHORTEST_DEADLINE};
use shard_judge::testing::at_work::{self, GRACE, LOOK, STALL_AFTER, WARN_AFTER};
use shard_judge::verdict::{Health, Reason, StallKind, Verdict};
use shard_judge::{Judge, Note};

const SECOND: u64 = 1_000_000_000;
/// The time between two observations at this threshold.
const TWO_LOOKS: Duration = Duration::from_millis(100);

#[test]
fn a_deadline_shortens_the_threshold_and_never_lengthens_it() {
    for (deadline, threshold) in [
        (0, STALL_AFTER),
        (2 * SECOND, Duration::from_secs(2)),
        (5 * SECOND, STALL_AFTER),
        (3_600 * SECOND, STALL_AFTER),
        (u64::MAX, STALL_AFTER),
        (u64::MAX - 1, STALL_AFTER),
    ] {
        let mut history = at_work::begin(deadline);
        let took = history.run_as_asked(2 * STALL_AFTER).unwrap();
        assert!(took >= threshold && took <= threshold + TWO_LOOKS, "{deadline}: {took:?}");
        let condemned = history.incarnation().condemned().unwrap();
        assert_eq!((condemned.reason, condemned.threshold), (Reason::Stalled, Some(threshold)));
        let told = condemned.observations.iter().any(|told| told.contains("the work's own deadline"));
        assert_eq!(told, threshold < STALL_AFTER, "{:#?}", condemned.observations);
    }
}

#[test]
fn a_deadline_that_nobody_could_judge_by_becomes_the_shortest_that_can() {
    for deadline in [1, 1_000_000, 149_999_999] {
        let mut history = at_work::begin(deadline);
        let took = history.run_as_asked(2 * STALL_AFTER).unwrap();
        assert!(took >= SHORTEST_DEADLINE && took <= SHORTEST_DEADLINE + TWO_LOOKS, "{deadline}: {took:?}");
        assert_eq!(history.trial().kind(), StallKind::Deadlock, "two samples were there to tell it by");
    }
}

#[test]
fn a_threshold_below_the_shortest_deadline_is_kept() {
    let mut history = at_work::begin(1);
    history.policy.rules[0].stall_after = Duration::from_millis(100);
    let took = history.run_as_asked(STALL_AFTER).unwrap();
    assert!(took < SHORTEST_DEADLINE, "{took:?}");
}

#[test]
fn each_piece_of_work_has_a_deadline_of_its_own() {
    let mut history = at_work::begin(SECOND);
    history.thread().activity += 2;
    history.thread().deadline_ns = 0;
    history.progress();
    assert!(!history.run(STALL_AFTER - 2 * LOOK).condemned);
    history.thread().activity += 1;
    history.progress();
    assert!(!history.run(2 * STALL_AFTER).condemned, "an idle thread has none");
}

#[test]
fn a_deadline_that_comes_and_goes_opens_one_incident() {
    let mut history = at_work::begin(0);
    let (mut opened, mut lifted) = (0, 0);
    for look in 0..1_000 {
        history.thread().deadline_ns = if look % 2 == 0 { 1 } else { u64::MAX };
        history.pass(LOOK);
        opened += history.noted(|note| matches!(note, Note::Opened(_)));
        lifted += history.noted(|note| matches!(note, Note::Lifted { .. }));
    }
    assert_eq!((opened, lifted), (1, 0));
}

#[test]
fn what_stands_still_for_less_than_its_threshold_is_late_and_no_more() {
    for deadline in [0, SECOND] {
        let mut history = at_work::begin(deadline);
        let (warn, stall) = if deadline == 0 {
            (WARN_AFTER, STALL_AFTER)
        } else {
            (Duration::from_secs(1), Duration::from_secs(1))
        };
        while history.now.at.since(history.began) < stall - 2 * LOOK {
            let decision = history.pass(LOOK);
            let counted = history.trial().counted();
            let (health, verdict) = if counted >= warn {
                (Health::Late, Verdict::Degraded)
            } else {
                (Health::Working, Verdict::Healthy)
            };
            assert_eq!((history.trial().health, decision.verdict), (health, verdict), "{counted:?}");
            assert!(!decision.condemned);
        }
        assert_eq!(history.progress().verdict, Verdict::Healthy, "and nothing is left of it");
        assert_eq!(history.trial().health, Health::Working);
    }
}

#[test]
fn a_slow_start_within_the_grace_is_starting_and_no_incident() {
    let mut history = at_work::begin(0);
    // Its threads have not registered yet, and then it declares that it is up.
    let thread = history.now.threads.pop().unwrap();
    history.process().declared = Declared::Boot;
    history.judge = Judge::new(history.now.at);
    let began = history.now.at;
    let mut incidents = 0;
    while history.now.at.since(began) < GRACE - LOOK {
        let decision = history.pass(LOOK);
        assert_eq!((decision.verdict, decision.condemned), (Verdict::Starting, false));
        incidents += history.noted(|note| matches!(note, Note::Opened(_)));
    }
    history.now.threads.push(thread);
    history.process().declared = Declared::Running;
    assert_eq!(history.pass(LOOK).verdict, Verdict::Healthy);
    assert_eq!(incidents, 0);
}

#[test]
fn a_start_that_takes_longer_than_its_grace_is_degraded() {
    let mut history = at_work::begin(0);
    history.now.threads.clear();
    history.process().declared = Declared::Boot;
    history.policy.rules[0].glob = Glob::new("exec-s0").unwrap().compile_matcher();
    history.judge = Judge::new(history.now.at);
    assert_eq!(history.run(GRACE - LOOK).verdict, Verdict::Starting);
    assert_eq!(history.run(2 * LOOK).verdict, Verdict::Degraded);
}

#[test]
fn no_stall_is_told_from_samples_that_are_nearer_than_50_ms() {
    for threshold in [1, 4, 20, 49, 51, 100, 300].map(Duration::from_millis) {
        let mut history = at_work::begin(0);
        let rule = &mut history.policy.rules[0];
        (rule.stall_after, rule.warn_after) = (threshold, threshold);
        let took = history.run_as_asked(STALL_AFTER).unwrap();
        let (earlier, last) = history.trial().clock.samples().unwrap();
        let apart = last.watched - earlier.watched;
        assert!(apart >= SAMPLES_APART, "{threshold:?}: {apart:?}");
        let late = took.saturating_sub(threshold.max(SAMPLES_APART + LOOK));
        assert!(late <= LOOK, "{threshold:?}: {took:?}");
        assert_eq!(history.trial().kind(), StallKind::Deadlock);
    }
}

/// The kind reported for a thread that shows `before` until shortly before the verdict, and `then`
/// from there on.
fn kind(
    before: (TaskState, Option<WaitChannel>),
    then: (TaskState, Option<WaitChannel>),
    last: Duration,
) -> StallKind {
    let mut history = at_work::begin(0);
    history.shows(before.0, before.1, 0);
    history.run(STALL_AFTER - last);
    history.shows(then.0, then.1, 0);
    assert!(history.run(2 * last + LOOK).condemned);
    history.trial().kind()
}

#[test]
fn both_samples_must_say_the_same() {
    let lock = (TaskState::Sleeping, Some(WaitChannel::Futex));
    let socket = (TaskState::Sleeping, Some(WaitChannel::Other));
    let disk = (TaskState::DiskSleep, Some(WaitChannel::Other));
    // The newer one alone proves nothing.
    for then in [socket, disk] {
        assert_eq!(kind(lock, then, LOOK), StallKind::Unknown, "{then:?}");
    }
    // What came before the older one does not matter.
    let long = SAMPLES_APART * 3;
    assert_eq!(kind(socket, lock, long), StallKind::Deadlock);
    assert_eq!(kind(lock, socket, long), StallKind::Blocked);
    assert_eq!(kind(lock, disk, long), StallKind::IoWait);
}

#[test]
fn who_computed_before_it_locked_up_is_deadlocked_and_no_livelock() {
    let mut history = at_work::begin(0);
    let mut cpu = 0;
    while history.trial().counted() < STALL_AFTER * 9 / 10 {
        cpu += u64::try_from(LOOK.as_nanos()).unwrap();
        history.shows(TaskState::Running, None, cpu);
        history.pass(LOOK);
    }
    history.shows(TaskState::Sleeping, Some(WaitChannel::Futex), cpu);
    assert!(history.run(STALL_AFTER).condemned);
    assert_eq!(history.trial().kind(), StallKind::Deadlock);
}

#[test]
fn a_loop_beside_busy_neighbours_is_a_livelock() {
    let mut history = at_work::begin(0);
    let mut cpu = 0;
    // Half of a CPU, in slices as long as one observation interval.
    for look in 0..5_000 {
        cpu += if look % 2 == 0 { 10_000_000 } else { 0 };
        history.shows(TaskState::Running, None, cpu);
        if history.pass(LOOK).condemned {
            break;
        }
    }
    assert_eq!((history.reason(), history.trial().kind()), (Some(Reason::Stalled), StallKind::Livelock));
}

#[test]
fn the_next_look_is_when_the_threshold_is_reached_if_time_counts_and_the_usual_one_if_not() {
    let left = Duration::from_millis(3);
    let mut history = at_work::begin(0);
    history.run(STALL_AFTER - LOOK);
    let decision = history.pass(LOOK - left);
    assert_eq!(history.trial().counted(), STALL_AFTER - left);
    assert_eq!(decision.look_at, history.now.at.plus(left));
    history.shows(TaskState::Stopped, None, 0);
    let decision = history.pass(LOOK);
    assert_eq!(decision.look_at, history.now.at.plus(history.policy.look_every()), "no verdict comes nearer");
}
