//! A person's request by name: the next observation condemns, whatever the process does by then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::clock::Monotonic;
use shard_judge::incarnation::Incarnation;
use shard_judge::observation::{Observation, TaskState};
use shard_judge::policy::Policy;
use shard_judge::testing;
use shard_judge::verdict::Reason;
use shard_judge::{Judge, Note};

const WHY: &str = "uid 1000 asked for the kill: wrong answers";

fn policy() -> Policy {
    Policy { stopped_at_most: Duration::from_millis(500), ..testing::policy(Vec::new()) }
}

fn seen(at_ms: u64, incarnation: u64) -> Observation {
    let process = testing::process(testing::identity(incarnation));
    Observation { at: Monotonic(at_ms * 1_000_000), process: Some(process), ..Observation::default() }
}

fn asked(judge: &Judge) -> Option<Reason> {
    judge.incarnation().and_then(Incarnation::condemned).map(|condemned| condemned.reason)
}

#[test]
fn a_request_does_not_outlive_the_process_that_was_meant() {
    let mut judge = Judge::new(Monotonic(0));
    judge.observe(&policy(), &seen(10, 1));
    assert!(judge.request(WHY));
    let decision = judge.observe(&policy(), &seen(20, 2));
    assert!(!decision.condemned, "another incarnation stands there now");
    assert_eq!(asked(&judge), None);
}

#[test]
fn a_process_that_ended_before_is_not_said_to_be_killed() {
    let mut judge = Judge::new(Monotonic(0));
    judge.observe(&policy(), &seen(10, 1));
    assert!(judge.request(WHY));
    let mut ended = seen(20, 1);
    ended.process.as_mut().unwrap().exited = true;
    let decision = judge.observe(&policy(), &ended);
    assert!(!decision.condemned);
    let gone =
        |note: &Note| matches!(note, Note::Opened(condemned) if condemned.reason == Reason::ProcessGone);
    assert!(judge.notes().iter().any(gone));
}

#[test]
fn a_condemnation_that_a_person_joined_is_not_lifted() {
    let mut judge = Judge::new(Monotonic(0));
    let mut stopped = seen(10, 1);
    stopped.process.as_mut().unwrap().leader = Some(TaskState::Stopped);
    for at in (10..700).step_by(10) {
        stopped.at = Monotonic(at * 1_000_000);
        judge.observe(&policy(), &stopped);
    }
    assert_eq!(asked(&judge), Some(Reason::Stopped));
    assert!(judge.request(WHY));
    let decision = judge.observe(&policy(), &seen(710, 1));
    assert!(decision.condemned, "it runs again, and is killed all the same");
    assert_eq!(asked(&judge), Some(Reason::Stopped), "the first reason stands");
    assert!(judge.notes().iter().all(|note| !matches!(note, Note::Lifted { .. })));
}
