//! What the judge says of silent threads besides the verdict: whom the kernel must be asked about,
//! how many are silent, when to look again, and since when nobody has begun work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::observation::{TaskState, WaitChannel};
use shard_judge::silence::Horizon;
use shard_judge::testing::{self, Scene, THREADS, channel, glob, rule, thread};
use shard_judge::verdict::{Reason, Verdict};

const LOOK: Duration = Duration::from_millis(40);
const HORIZON: Duration = Duration::from_secs(60);
/// A twentieth of it: the kernel is not asked before.
const UNASKED: Duration = Duration::from_secs(3);

/// So many idle threads, and a channel that shows whether there is work for them.
fn begin(threads: u32, kills: bool) -> Scene {
    let horizon = Horizon { idle_at_most: HORIZON, witnesses: vec![glob("blocks")], kills };
    let mut rule = rule(THREADS, 2 * HORIZON, HORIZON);
    (rule.count, rule.silence) = (threads, Some(horizon));
    let idle = (0..threads).map(|slot| thread(slot, &format!("exec-s{slot}"))).collect();
    Scene::begin(testing::policy(vec![rule]), LOOK, idle, vec![channel(0, "blocks")])
}

/// A block is finished, and time passes. As the probe does, the kernel is asked about those threads
/// only that the judge names.
fn block(scene: &mut Scene, time: Duration) {
    scene.channel().sent += 1;
    scene.channel().received += 1;
    scene.run_with(time, |scene| {
        let asked: Vec<_> = scene.incarnation().asks_about().collect();
        for thread in &mut scene.now.threads {
            let asks = asked.contains(&(thread.slot, thread.generation));
            let task = testing::task(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
            thread.task = asks.then_some(task);
        }
    });
}

#[test]
fn the_kernel_is_asked_only_about_threads_that_let_work_wait() {
    let mut scene = begin(2, false);
    let asked = |scene: &Scene| scene.incarnation().asks_about().collect::<Vec<_>>();
    assert_eq!(asked(&scene), [], "nothing shows that there is work");
    block(&mut scene, UNASKED - LOOK);
    assert_eq!(asked(&scene), [], "they may be about to begin");
    block(&mut scene, 3 * LOOK);
    assert_eq!(asked(&scene), [(0, 1), (1, 1)]);
    scene.now.threads[1].activity += 1;
    block(&mut scene, LOOK);
    assert_eq!(asked(&scene), [(0, 1)], "the other one works");
}

#[test]
fn the_silent_are_counted_until_they_begin_work() {
    let mut scene = begin(3, false);
    for silent in [0, 0, 0, 3] {
        block(&mut scene, HORIZON / 3);
        assert_eq!(scene.incarnation().silent(), silent);
    }
    scene.thread().activity += 1;
    block(&mut scene, LOOK);
    assert_eq!((scene.incarnation().silent(), scene.judge.verdict()), (2, Verdict::Degraded));
    scene.policy.rules[0].silence = None;
    scene.reload();
    block(&mut scene, LOOK);
    assert_eq!((scene.incarnation().silent(), scene.judge.verdict()), (0, Verdict::Healthy));
}

#[test]
fn an_incident_of_silence_says_since_when_there_was_work() {
    let mut scene = begin(1, true);
    block(&mut scene, LOOK);
    let began = scene.now.at;
    while scene.condemned().is_none() {
        block(&mut scene, HORIZON / 12);
    }
    let condemned = scene.condemned().unwrap();
    assert_eq!((condemned.reason, condemned.last_progress), (Reason::Silent, began));
    assert_eq!(condemned.threshold, Some(HORIZON));
}

#[test]
fn the_loop_wakes_at_the_very_horizon_and_not_more_often_than_usual_after_it() {
    let mut scene = begin(1, false);
    while scene.trial().silence.as_ref().unwrap().counted() < HORIZON - LOOK {
        block(&mut scene, LOOK);
    }
    let left = HORIZON - scene.trial().silence.as_ref().unwrap().counted();
    let every = scene.policy.look_at_rest();
    let decision = scene.pass(left / 4);
    assert_eq!(decision.look_at, scene.now.at.plus(left - left / 4), "{left:?} were left");
    // Held by a debugger, it comes no nearer to it.
    scene.shows(TaskState::Traced, None, 0);
    let decision = scene.pass(left / 4);
    assert_eq!(decision.look_at, scene.now.at.plus(every));
    scene.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
    scene.pass(left / 4);
    while scene.judge.verdict() != Verdict::Degraded {
        scene.pass(left / 4);
    }
    let decision = scene.pass(LOOK);
    assert_eq!(decision.look_at, scene.now.at.plus(every));
}

#[test]
fn whatever_the_kernel_says_no_time_counts_while_the_segment_is_unreadable_or_a_core_is_written() {
    type Change = fn(&mut Scene);
    let changes: [Change; 2] =
        [|scene| scene.process().segment_readable = false, |scene| scene.process().core_dumping = true];
    for change in changes {
        let mut scene = begin(1, true);
        let counted = |scene: &Scene| scene.trial().silence.as_ref().unwrap().counted();
        block(&mut scene, HORIZON / 3);
        let before = counted(&scene);
        assert!(before > HORIZON / 4);
        change(&mut scene);
        block(&mut scene, HORIZON / 3);
        assert_eq!(counted(&scene), before);
    }
}
