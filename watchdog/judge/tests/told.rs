//! What the judge answers to queries, and when it asks for the next observation. Each test is one
//! promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use globset::Glob;
use shard_judge::clock::Monotonic;
use shard_judge::observation::{Claim, Declared, Presence, Survivors, TaskState};
use shard_judge::policy::{On, Rule};
use shard_judge::testing::Scene;
use shard_judge::testing::well::{self, LOOK, MAX_AGE, STALL_AFTER};
use shard_judge::verdict::Verdict;
use shard_judge::{Judge, Note, OBSERVER_LATE};

#[test]
fn a_look_that_is_just_not_too_late_counts_and_the_next_later_one_does_not() {
    for (late, counts) in [(Duration::ZERO, true), (Duration::from_nanos(1), false)] {
        let mut scene = well::begin();
        scene.begin_work(1);
        scene.pass(LOOK);
        let decision = scene.pass(LOOK);
        let before = scene.counted();
        scene.now.at = decision.look_at.plus(OBSERVER_LATE + late);
        let decision = scene.look();
        assert_eq!(decision.late_by, OBSERVER_LATE + late);
        assert_eq!(scene.counted() > before, counts, "{late:?}");
    }
}

#[test]
fn why_nobody_is_watched_is_told_only_while_nobody_is() {
    let scene = well::begin();
    let mut judge = Judge::new(Monotonic(0));
    let nobody = shard_judge::observation::Observation { at: Monotonic(1), ..Default::default() };
    judge.observe(&scene.policy, &nobody);
    assert_eq!((judge.verdict(), judge.why()), (Verdict::Unguarded, "no target seen yet"));
    judge.refused("the segment belongs to somebody else", Monotonic(2));
    assert_eq!((judge.verdict(), judge.why()), (Verdict::Unguarded, "the segment belongs to somebody else"));

    let mut scene = well::begin();
    scene.judge.refused("somebody else", scene.now.at);
    assert_eq!(scene.judge.verdict(), Verdict::Healthy, "one is watched");
    scene.process().exited = true;
    scene.pass(LOOK);
    scene.judge.refused("somebody else", scene.now.at);
    assert_eq!(scene.judge.verdict(), Verdict::Restarting, "one is waited for");

    let mut scene = well::begin();
    scene.now.process = None;
    assert_eq!(scene.pass(LOOK).verdict, Verdict::Unguarded);
    assert_eq!(scene.judge.why(), "no target is watched");
}

#[test]
fn after_a_death_the_loop_wakes_when_the_restart_is_overdue_and_seldom_after_that() {
    let mut scene = well::begin();
    scene.policy.restart_within = Duration::from_millis(300);
    scene.process().exited = true;
    let decision = scene.pass(LOOK);
    let died = scene.now.at;
    assert_eq!(decision.look_at, died.plus(Duration::from_millis(300)));
    scene.now.process = None;
    scene.now.at = decision.look_at;
    let decision = scene.look();
    assert_eq!(decision.verdict, Verdict::Dead);
    assert!(scene.judge.notes().contains(&Note::RestartOverdue));
    assert_eq!(decision.look_at.since(scene.now.at), Duration::from_secs(1));
}

#[test]
fn a_reload_finds_each_thread_its_rule_anew() {
    let mut scene = well::begin();
    scene.begin_work(1);
    let ignore = Rule {
        name: "exec-s0".to_owned(),
        glob: Glob::new("exec-s0").unwrap().compile_matcher(),
        on: On::Ignore,
        ..scene.policy.rules[0].clone()
    };
    scene.policy.rules.insert(0, ignore);
    scene.judge.rules_changed(&scene.policy);
    assert!(!scene.run(3 * STALL_AFTER).condemned);
    scene.policy.rules.remove(0);
    scene.judge.rules_changed(&scene.policy);
    assert!(scene.run(2 * LOOK).condemned, "counted time is kept");
}

#[test]
fn a_reload_finds_each_channel_its_rule_anew() {
    let mut scene = well::begin();
    let rule = scene.policy.channels.pop().unwrap();
    scene.judge.rules_changed(&scene.policy);
    scene.now.channels[0].sent += 1;
    assert!(!scene.run(3 * MAX_AGE).condemned);
    scene.policy.channels.push(rule);
    scene.judge.rules_changed(&scene.policy);
    assert!(scene.run(2 * MAX_AGE).condemned);
}

#[test]
fn the_loop_wakes_when_a_channel_has_used_up_its_limit() {
    let mut scene = well::begin();
    scene.now.channels[0].sent += 1;
    scene.pass(LOOK);
    scene.run(MAX_AGE - LOOK);
    let decision = scene.pass(LOOK - Duration::from_millis(2));
    let left = decision.look_at.since(scene.now.at);
    assert_eq!(left, Duration::from_millis(2), "{decision:?}");
}

#[test]
fn the_loop_wakes_when_a_message_has_waited_too_long_though_nobody_is_killed_for_it() {
    let mut scene = well::begin();
    scene.policy.rules[0].stall_after = Duration::from_secs(5);
    scene.policy.channels[0].on = On::Report;
    scene.now.channels[0].sent += 1;
    scene.pass(LOOK);
    let sent = scene.now.at;
    scene.run(MAX_AGE - 2 * LOOK);
    let decision = scene.pass(LOOK);
    assert_eq!(decision.look_at, sent.plus(MAX_AGE));
    scene.now.at = decision.look_at;
    scene.look();
    assert!(scene.judge.notes().iter().any(|note| matches!(note, Note::ChannelLate { .. })));
}

#[test]
fn a_consumer_that_dropped_its_slot_is_as_deaf_as_one_that_ended() {
    for dropped in [true, false] {
        let mut scene = well::begin();
        scene.policy.rules[0].on = On::Report;
        scene.now.channels[0].sent += 1;
        scene.process().survivors = Survivors::Some;
        if dropped {
            scene.thread().claim = Claim::Dropped;
        } else {
            scene.thread().presence = Presence::Gone;
        }
        scene.thread().task = None;
        assert!(scene.run(3 * MAX_AGE).condemned, "dropped: {dropped}");
    }
}

#[test]
fn since_when_it_is_stopped_or_ending_and_what_is_missing_can_be_asked() {
    let mut scene = well::begin();
    let current = |scene: &Scene| {
        let current = scene.judge.incarnation().unwrap();
        (
            current.stopped_since(),
            current.exiting_since(),
            current.missing().to_vec(),
            current.channels().len(),
        )
    };
    assert_eq!(current(&scene), (None, None, vec![], 1));
    scene.process().leader = Some(TaskState::Stopped);
    scene.pass(LOOK);
    let stopped = scene.now.at;
    scene.pass(LOOK);
    assert_eq!(current(&scene).0, Some(stopped));
    scene.process().leader = Some(TaskState::Sleeping);
    scene.process().declared = Declared::Stopping;
    scene.pass(LOOK);
    let ending = scene.now.at;
    scene.thread().claim = Claim::Left;
    scene.pass(LOOK);
    assert_eq!(current(&scene), (None, Some(ending), vec![0], 1));
    assert_eq!(scene.judge.incarnation().unwrap().first_seen(), Monotonic(1_000_000_000));
}

#[test]
fn two_condemnations_are_the_same_if_they_say_the_same_of_the_same_moment() {
    let condemned = |after: Duration| {
        let mut scene = well::begin();
        scene.pass(after);
        scene.begin_work(1);
        scene.run(2 * STALL_AFTER);
        let notes = scene.judge.notes().to_vec();
        notes.into_iter().find(|note| matches!(note, Note::Opened(_))).unwrap()
    };
    assert_eq!(condemned(LOOK), condemned(LOOK));
    assert_ne!(condemned(LOOK), condemned(2 * LOOK));
}

#[test]
fn the_sentence_behind_a_verdict_names_what_it_rests_on() {
    let mut scene = well::begin();
    scene.begin_work(1);
    scene.run(2 * STALL_AFTER);
    let condemned = scene.judge.incarnation().unwrap().condemned().unwrap().clone();
    assert_eq!(scene.judge.why(), condemned.why);
    assert_eq!(condemned.threshold, Some(STALL_AFTER));
    assert!(
        condemned.why.contains("exec-s0") && condemned.why.contains("work 1 (attempt 0)"),
        "{}",
        condemned.why
    );
    assert!(condemned.observations.len() >= 3);
    assert_eq!(scene.judge.since(), condemned.at);
    scene.process().exited = true;
    scene.pass(LOOK);
    assert!(scene.judge.why().contains("process 100 is dead"), "{}", scene.judge.why());
}

#[test]
fn the_age_of_a_short_backlog_is_exact() {
    let mut age = shard_judge::channel_age::ChannelAge::default();
    for sent in 1..=60 {
        age.observe(Monotonic(sent), sent, 0);
    }
    for received in 1..60 {
        assert_eq!(age.observe(Monotonic(100), 60, received), Some(Monotonic(received + 1)));
    }
}

#[test]
fn a_channel_is_known_by_its_name() {
    let scene = well::begin();
    assert_eq!(&*scene.judge.incarnation().unwrap().channels()[0].name, "commands");
    assert_eq!(scene.policy.channel_for("commands"), Some(0));
    assert_eq!(scene.policy.channel_for("answers"), None);
}
