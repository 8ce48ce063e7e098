//! What the judge adds up over all threads in one pass: a thread that needs attention is never
//! hidden by others that do not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::sync::Arc;
use std::time::Duration;

use shard_judge::observation::{Presence, TaskState};
use shard_judge::policy::On;
use shard_judge::testing::well::{self, LOOK, STALL_AFTER, asleep};
use shard_judge::testing::{self, Scene};
use shard_judge::verdict::{ExcuseKind, Health, Verdict};

/// Adds another thread in a slot of its own, and returns its place.
fn add(scene: &mut Scene, name: &str) -> usize {
    let mut thread = scene.now.threads[0].clone();
    let slot = scene.now.threads.len();
    (thread.slot, thread.tid) = (slot.try_into().unwrap(), 101 + i32::try_from(slot).unwrap());
    thread.name = Arc::from(name);
    scene.now.threads.push(thread);
    scene.pass(LOOK);
    slot
}

#[test]
fn a_starved_thread_that_no_rule_is_about_excuses_who_may_wait_for_it() {
    let mut scene = well::begin();
    let helper = add(&mut scene, "send-s0");
    scene.now.threads[helper].activity += 1;
    scene.now.threads[helper].task.as_mut().unwrap().state = TaskState::Running;
    scene.begin_work(1);
    let decision = scene.run(STALL_AFTER * 5);
    assert!(!decision.condemned, "{}", scene.judge.why());
    let threads = scene.judge.incarnation().unwrap().threads();
    assert_eq!((threads[helper].rule, threads[0].excuse), (None, Some(ExcuseKind::Starved)));
    // It gets its CPU, and time counts again.
    scene.now.threads[helper].activity += 1;
    scene.now.threads[helper].task = asleep();
    assert!(scene.run(STALL_AFTER * 2).condemned);
}

#[test]
fn a_thread_that_has_ended_is_missing_beside_one_that_has_not() {
    let mut scene = well::begin();
    let other = add(&mut scene, "exec-s1");
    scene.policy.rules[0].count = 2;
    scene.policy.rules[0].on = On::Report;
    scene.pass(LOOK);
    assert!(scene.judge.incarnation().unwrap().missing().is_empty());
    scene.now.threads[other].presence = Presence::Gone;
    scene.pass(LOOK);
    let incarnation = scene.judge.incarnation().unwrap();
    assert_eq!(incarnation.threads()[other].health, Health::Gone);
    assert_eq!(incarnation.missing(), [0]);
    assert_eq!(scene.judge.verdict(), Verdict::Starting, "{}", scene.judge.why());
}

#[test]
fn a_rule_is_unmatched_where_too_few_threads_or_no_channel_have_its_name() {
    let unmatched = |count, channel: &str| {
        let mut scene = well::begin();
        scene.policy.rules[0].count = count;
        scene.policy.channels = vec![testing::limits(channel, STALL_AFTER, None)];
        scene.reload();
        scene.pass(LOOK);
        scene.incarnation().has_unmatched_rules()
    };
    assert!(!unmatched(1, "commands"));
    assert!(unmatched(2, "commands"));
    assert!(unmatched(1, "blocks"));
}

#[test]
fn a_process_does_not_rest_while_a_thread_is_at_work_however_long_ago_it_beat() {
    let mut scene = well::begin();
    // With a threshold as short as that of the scene's channel no process rests.
    scene.policy.channels.clear();
    scene.policy.rules[0].stall_after = Duration::from_secs(60);
    let (every, at_rest) = (scene.policy.look_every(), scene.policy.look_at_rest());
    assert!(at_rest > every);
    let rests = scene.run(Duration::from_secs(3)).look_at;
    assert_eq!(rests, scene.now.at.plus(at_rest), "all of it is idle");
    scene.begin_work(1);
    let decision = scene.run(Duration::from_secs(3));
    assert_eq!(decision.look_at, scene.now.at.plus(every));
}

#[test]
fn the_next_observation_is_due_when_the_first_of_two_threads_would_be_late() {
    let mut scene = well::begin();
    let other = add(&mut scene, "exec-s1");
    scene.begin_work(1);
    // The other one begins 100 ms later, so that it has 100 ms more.
    let late = Duration::from_millis(100);
    scene.run(late);
    scene.now.threads[other].activity += 1;
    scene.pass(LOOK);
    let left = Duration::from_millis(2);
    scene.run(STALL_AFTER - left - LOOK - scene.counted());
    let decision = scene.pass(STALL_AFTER - left - scene.counted());
    assert_eq!((decision.condemned, scene.counted()), (false, STALL_AFTER - left));
    assert_eq!(decision.look_at, scene.now.at.plus(left));
}
