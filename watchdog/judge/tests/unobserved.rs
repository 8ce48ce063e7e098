//! A thread that the watchdog has no descriptors to look at: never healthy, and never killed for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::observation::{Claim, Presence, TaskState, ThreadObservation, WorkerObservation};
use shard_judge::policy::On;
use shard_judge::verdict::{Reason, Unobserved, Verdict};

#[path = "scene/scene.rs"]
mod scene;

use scene::{LOOK, STALL_AFTER, Scene};

const LONG: Duration = Duration::from_secs(60);

/// A second thread, of which nothing can be seen.
fn with_one_out_of_sight() -> Scene {
    let mut scene = Scene::begin();
    let name = "exec-s1".into();
    let second = ThreadObservation {
        slot: 1,
        tid: 102,
        name,
        presence: Presence::Unopened,
        task: None,
        ..scene.thread().clone()
    };
    scene.now.threads.push(second);
    scene
}

#[test]
fn a_thread_out_of_sight_is_degraded_at_once_and_never_killed_for() {
    let mut scene = with_one_out_of_sight();
    // At work for ever, as far as its own words go.
    scene.now.threads[1].activity = 1;
    let decision = scene.pass(LOOK);
    assert_eq!(decision.verdict, Verdict::Degraded);
    let why = scene.judge.why().to_owned();
    assert!(why.starts_with("1 of 2 watched threads are out of sight"), "{why}");
    assert!(why.contains("by 2 at least (LimitNOFILE="), "{why}");
    let decision = scene.run(LONG);
    assert_eq!((decision.verdict, decision.condemned), (Verdict::Degraded, false));
    let trial = &scene.judge.incarnation().unwrap().threads()[1];
    assert_eq!(trial.unobserved, Some(Unobserved::NoDescriptors));
    // In sight again.
    scene.now.threads[1].presence = Presence::Present;
    scene.now.threads[1].activity = 2;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
}

#[test]
fn nothing_that_excuses_another_thread_hides_it() {
    let mut scene = with_one_out_of_sight();
    scene.work();
    scene.thread().task.as_mut().unwrap().state = TaskState::Traced;
    assert_eq!(scene.run(STALL_AFTER * 2).verdict, Verdict::Degraded);
}

#[test]
fn the_others_are_judged_as_ever() {
    let mut scene = with_one_out_of_sight();
    scene.work();
    assert!(scene.run(STALL_AFTER * 2).condemned);
    let condemned = scene.judge.incarnation().unwrap().condemned().unwrap();
    assert_eq!((condemned.reason, condemned.slot), (Reason::Stalled, Some((0, 1))));
}

#[test]
fn who_has_left_or_is_ignored_is_missed_by_nobody() {
    let mut scene = with_one_out_of_sight();
    scene.now.threads[1].claim = Claim::Left;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
    let mut scene = with_one_out_of_sight();
    scene.policy.rules[0].on = On::Ignore;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
}

#[test]
fn a_worker_out_of_sight_is_degraded_until_it_is_seen_whatever_its_thread_does() {
    let mut scene = Scene::begin();
    let worker = |presence| WorkerObservation { lane: 1, generation: 1, presence, task: None };
    scene.work();
    scene.thread().workers = vec![worker(Presence::Unopened)];
    let decision = scene.run(STALL_AFTER * 2);
    assert_eq!(
        (decision.verdict, decision.condemned),
        (Verdict::Degraded, false),
        "it may be what it waits for"
    );
    // Nobody asks after the workers of a thread that makes progress.
    scene.thread().workers.clear();
    scene.thread().progress += 1;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Degraded);
    scene.thread().workers = vec![worker(Presence::Gone)];
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
}
