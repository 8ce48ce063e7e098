//! The first piece of work after a start may take longer, where a rule says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::testing::Scene;
use shard_judge::testing::at_work::{self, LOOK, STALL_AFTER, WARN_AFTER};
use shard_judge::verdict::Health;

const WARM_UP: Duration = Duration::from_secs(30);
/// The time between two observations at this threshold.
const TWO_LOOKS: Duration = Duration::from_millis(100);

/// A thread that stands still at its piece of work with this number, the first being 1.
fn stands_still(work: u64, deadline: Duration) -> Scene {
    let mut history = at_work::begin(deadline.as_nanos().try_into().unwrap());
    history.policy.rules[0].warm_up = WARM_UP;
    history.thread().activity = 2 * work - 1;
    history.progress();
    history
}

#[test]
fn only_the_first_piece_of_work_may_take_longer() {
    for (work, threshold) in [(1, WARM_UP), (2, STALL_AFTER), (1_000, STALL_AFTER)] {
        let mut history = stands_still(work, Duration::ZERO);
        let took = history.run_as_asked(2 * WARM_UP).unwrap();
        assert!(took >= threshold && took <= threshold + TWO_LOOKS, "{work}: {took:?}");
        let condemned = history.incarnation().condemned().unwrap();
        assert_eq!(condemned.threshold, Some(threshold));
        let told =
            condemned.observations.iter().any(|told| told.contains("the thread's first piece of work"));
        assert_eq!(told, work == 1, "{:#?}", condemned.observations);
        let deadline = condemned.observations.iter().any(|told| told.contains("deadline"));
        assert!(!deadline, "it has none: {:#?}", condemned.observations);
    }
}

#[test]
fn a_deadline_of_its_own_holds_for_the_first_piece_of_work_too() {
    for deadline in [Duration::from_secs(2), Duration::from_secs(20)] {
        let took = stands_still(1, deadline).run_as_asked(2 * WARM_UP).unwrap();
        assert!(took >= deadline && took <= deadline + TWO_LOOKS, "{took:?}");
    }
}

#[test]
fn the_warning_comes_as_long_before_the_verdict_as_for_any_other_work() {
    let before = STALL_AFTER - WARN_AFTER;
    let mut history = stands_still(1, Duration::ZERO);
    history.run(WARM_UP - before - 2 * LOOK);
    assert_eq!(history.trial().health, Health::Working);
    history.run(4 * LOOK);
    assert_eq!(history.trial().health, Health::Late);
}

#[test]
fn a_warm_up_that_is_shorter_than_the_threshold_changes_nothing() {
    let mut history = stands_still(1, Duration::ZERO);
    history.policy.rules[0].warm_up = STALL_AFTER / 2;
    let took = history.run_as_asked(2 * WARM_UP).unwrap();
    assert!(took >= STALL_AFTER && took <= STALL_AFTER + TWO_LOOKS, "{took:?}");
}

#[test]
fn it_may_take_longer_if_it_has_not_yet_lasted_for_as_long_as_it_may_warm_up() {
    for (lasted, threshold) in [(WARM_UP - LOOK, WARM_UP), (WARM_UP, STALL_AFTER)] {
        let mut history = stands_still(1, Duration::ZERO);
        let began = history.trial().work_since.unwrap();
        history.run(Duration::from_secs(20));
        let rest = lasted - history.now.at.since(began) - LOOK;
        history.progress();
        history.run_with(rest, |history| history.thread().progress += 1);
        assert_eq!(history.trial().last_beat.since(began), lasted);
        history.began = history.now.at;
        let took = history.run_as_asked(2 * WARM_UP).unwrap();
        assert!(took >= threshold && took <= threshold + TWO_LOOKS, "{lasted:?}: {took:?}");
    }
}

#[test]
fn a_first_piece_of_work_that_never_ends_is_judged_like_any_other_in_the_end() {
    let mut history = stands_still(1, Duration::ZERO);
    // It makes progress for as long as it may warm up.
    for _ in 0..=WARM_UP.as_millis() / 1_000 {
        history.run(Duration::from_secs(1));
        history.progress();
    }
    let took = history.run_as_asked(2 * WARM_UP).unwrap();
    assert!(took >= STALL_AFTER && took <= STALL_AFTER + TWO_LOOKS, "{took:?}");
}
