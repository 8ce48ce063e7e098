//! A thread that the watchdog has no descriptors to observe, or of which the kernel shows nothing:
//! never healthy, and never a reason to kill.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::observation::{Claim, Declared, Presence, TaskState, ThreadObservation, WorkerObservation};
use shard_judge::policy::On;
use shard_judge::testing::Scene;
use shard_judge::testing::well::{self, LOOK, STALL_AFTER};
use shard_judge::verdict::{Reason, Unobserved, Verdict};

const LONG: Duration = Duration::from_secs(60);

/// A second thread, of which nothing can be seen.
fn with_one_out_of_sight() -> Scene {
    let mut scene = well::begin();
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
    // At work for ever, by its own words.
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
    scene.begin_work(1);
    scene.thread().task.as_mut().unwrap().state = TaskState::Traced;
    assert_eq!(scene.run(STALL_AFTER * 2).verdict, Verdict::Degraded);
}

#[test]
fn the_others_are_judged_as_ever() {
    let mut scene = with_one_out_of_sight();
    scene.begin_work(1);
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
    let mut scene = well::begin();
    let worker = |presence| WorkerObservation { lane: 1, generation: 1, presence, task: None };
    scene.begin_work(1);
    scene.thread().workers = vec![worker(Presence::Unopened)];
    let decision = scene.run(STALL_AFTER * 2);
    assert_eq!(
        (decision.verdict, decision.condemned),
        (Verdict::Degraded, false),
        "it may be what it waits for"
    );
    // The workers of a thread that makes progress are not asked about.
    scene.thread().workers.clear();
    scene.thread().progress += 1;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Degraded);
    scene.thread().workers = vec![worker(Presence::Gone)];
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
}

/// The verdicts shortly before and after the moment at which a thread at work, hidden like this,
/// counts as out of sight.
fn seen_after_three_seconds(hide: impl Fn(&mut Scene)) -> (Verdict, Verdict) {
    let mut scene = well::begin();
    scene.begin_work(1);
    scene.pass(LOOK);
    hide(&mut scene);
    let silent = Duration::from_millis(2_900);
    let before = scene.run(silent).verdict;
    (before, scene.run(Duration::from_millis(300)).verdict)
}

#[test]
fn a_thread_that_nobody_can_observe_is_never_called_healthy_for_long() {
    let worker = |presence| WorkerObservation { lane: 1, generation: 1, presence, task: None };
    let expected = (Verdict::Healthy, Verdict::Degraded);
    assert_eq!(seen_after_three_seconds(|scene| scene.thread().task = None), expected, "at work");
    let unknown = |scene: &mut Scene| {
        (scene.thread().presence, scene.thread().task) = (Presence::Unknown, None);
    };
    assert_eq!(seen_after_three_seconds(unknown), expected);
    let idle = |scene: &mut Scene| {
        scene.thread().activity += 1;
        scene.thread().presence = Presence::Unknown;
    };
    assert_eq!(seen_after_three_seconds(idle), expected, "idle: its end would not be seen");
    // Nothing counts against a thread whose worker may be kept from running.
    for presence in [Presence::Unknown, Presence::Present] {
        let hidden = |scene: &mut Scene| {
            // A threshold so long that the thread's own silence is no stall yet.
            scene.policy.rules[0].stall_after = Duration::from_secs(60);
            scene.policy.rules[0].warn_after = Duration::from_secs(60);
            scene.thread().workers = vec![worker(presence)];
        };
        assert_eq!(seen_after_three_seconds(hidden), expected, "{presence:?}");
    }
    let ended = |scene: &mut Scene| {
        scene.policy.rules[0].stall_after = Duration::from_secs(60);
        scene.policy.rules[0].warn_after = Duration::from_secs(60);
        scene.thread().workers = vec![worker(Presence::Gone)];
    };
    assert_eq!(seen_after_three_seconds(ended).1, Verdict::Healthy, "a worker that has ended hides nothing");
}

#[test]
fn a_thread_that_was_never_observed_is_not_called_healthy_at_all() {
    let mut scene = well::begin();
    let mut other = scene.now.threads[0].clone();
    (other.slot, other.presence, other.task) = (1, Presence::Unknown, None);
    scene.now.threads.push(other);
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Degraded);
    scene.now.threads[1].presence = Presence::Present;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
    scene.now.threads[1].presence = Presence::Unknown;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy, "one look that fails");
}

#[test]
fn what_is_out_of_sight_is_named_and_nobody_is_killed_blindly() {
    let mut scene = well::begin();
    scene.begin_work(1);
    scene.pass(LOOK);
    scene.thread().task = None;
    let decision = scene.run(Duration::from_secs(60));
    assert!(!decision.condemned, "{}", scene.judge.why());
    assert_eq!(decision.verdict, Verdict::Degraded);
    let why = scene.judge.why();
    assert!(why.contains("thread exec-s0") && why.contains("/proc/100/task/101/stat"), "{why}");
    assert_eq!(scene.judge.incarnation().unwrap().threads()[0].unobserved, Some(Unobserved::Unreadable));
    // One answer is enough.
    scene.thread().task = well::asleep();
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
}

#[test]
fn a_look_that_fails_now_and_then_changes_no_verdict() {
    let mut scene = well::begin();
    scene.policy.rules[0].stall_after = Duration::from_secs(600);
    scene.policy.rules[0].warn_after = Duration::from_secs(600);
    scene.begin_work(1);
    for round in 0..50 {
        scene.thread().presence = Presence::Unknown;
        scene.thread().task = None;
        let verdict = scene.run(Duration::from_millis(2_000)).verdict;
        assert_eq!(verdict, Verdict::Healthy, "round {round}");
        scene.thread().presence = Presence::Present;
        scene.thread().task = well::asleep();
        assert_eq!(scene.pass(LOOK).verdict, Verdict::Healthy);
    }
}

#[test]
fn silence_that_means_nothing_puts_nobody_out_of_sight() {
    type Change = fn(&mut Scene);
    let unreadable: Change = |scene| scene.process().segment_readable = false;
    let ending: Change = |scene| scene.process().declared = Declared::Stopping;
    let core: Change = |scene| scene.process().core_dumping = true;
    for change in [unreadable, ending, core] {
        let mut scene = well::begin();
        scene.begin_work(1);
        scene.pass(LOOK);
        change(&mut scene);
        scene.thread().task = None;
        scene.run(Duration::from_secs(10));
        let trial = &scene.judge.incarnation().unwrap().threads()[0];
        assert_eq!(trial.unobserved, None, "{}", scene.judge.why());
    }
    // Time without observations does not count either.
    let mut scene = well::begin();
    scene.begin_work(1);
    scene.pass(LOOK);
    scene.thread().task = None;
    scene.pass(LOOK);
    scene.pass(Duration::from_secs(60));
    assert_ne!(scene.pass(LOOK).verdict, Verdict::Degraded, "{}", scene.judge.why());
}
