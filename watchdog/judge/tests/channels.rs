//! Channels on trial, on histories written by hand. The worst error here is to take a healthy
//! consumer for a deaf one, so most of these tests promise what is *not* condemned.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::Note;
use shard_judge::observation::{
    ChannelObservation, Claim, Declared, Presence, Survivors, TaskObservation, TaskState, ThreadObservation,
    WaitChannel,
};
use shard_judge::policy::{ChannelLimits, On};
use shard_judge::testing::{self, Scene, THREADS, channel, glob, limits, rule};
use shard_judge::verdict::{Reason, Verdict};

const LOOK: Duration = Duration::from_millis(10);
const MAX_AGE: Duration = Duration::from_secs(1);

fn asleep() -> Option<TaskObservation> {
    let wait = Some(WaitChannel::Futex);
    Some(TaskObservation { state: TaskState::Sleeping, cpu_ns: Some(5), run_delay_ns: Some(5), wait })
}

fn thread(slot: u32, name: &str) -> ThreadObservation {
    ThreadObservation { task: asleep(), ..testing::thread(slot, name) }
}

/// An idle consumer and an empty channel.
fn begin(on: On) -> Scene {
    let mut policy = testing::policy(vec![rule(THREADS, Duration::from_secs(5), Duration::from_secs(2))]);
    policy.channels.push(ChannelLimits { on, ..limits("commands", MAX_AGE, Some(100)) });
    Scene::begin(policy, LOOK, vec![thread(0, "exec-s0")], vec![channel(0, "commands")])
}

/// The consumer is in another state, and everything else about it is as before.
fn turns(history: &mut Scene, state: TaskState) {
    history.thread().task.as_mut().unwrap().state = state;
}

#[test]
fn the_loop_wakes_at_the_very_limit() {
    let mut history = begin(On::Kill);
    history.send(1);
    let began = history.now.at;
    let mut decision = history.pass(LOOK);
    while !decision.condemned {
        assert!(history.now.at.since(began) <= MAX_AGE + LOOK, "it sleeps past the limit");
        history.now.at = decision.look_at;
        decision = history.pass(Duration::ZERO);
    }
    assert!(history.now.at.since(began) >= MAX_AGE);
}

#[test]
fn a_channel_that_is_too_deep_is_only_reported() {
    let mut history = begin(On::Kill);
    history.send(500);
    let decision = history.run_with(50 * MAX_AGE, |history| {
        // Received all the time, and sent as fast.
        history.channel().received += 1;
        history.channel().sent += 1;
    });
    assert!(!decision.condemned);
    assert_eq!(decision.verdict, Verdict::Degraded);
}

#[test]
fn a_slow_consumer_that_receives_is_never_condemned() {
    let mut history = begin(On::Kill);
    history.send(1_000);
    for _ in 0..100 {
        assert!(!history.run(MAX_AGE * 9 / 10).condemned);
        history.receive(1);
    }
}

#[test]
fn a_consumer_at_work_is_busy_and_not_deaf() {
    let mut history = begin(On::Kill);
    history.thread().activity = 1;
    history.send(3);
    // Its progress is slower than the channel's limit, and well within its own.
    for _ in 0..10 {
        assert!(!history.run(4 * MAX_AGE).condemned);
        history.thread().progress += 1;
    }
}

#[test]
fn a_stalled_consumer_is_judged_by_its_own_rule() {
    let mut history = begin(On::Kill);
    history.thread().activity = 1;
    history.send(3);
    assert!(history.run(10 * MAX_AGE).condemned);
    assert_eq!(history.condemned().unwrap().reason, Reason::Stalled);
}

#[test]
fn a_stalled_consumer_that_is_only_reported_counts_as_deaf() {
    let mut history = begin(On::Kill);
    history.policy.rules[0].on = On::Report;
    history.thread().activity = 1;
    history.send(3);
    let began = history.now.at;
    assert!(history.run(Duration::from_secs(20)).condemned);
    assert_eq!(history.condemned().unwrap().reason, Reason::ChannelLag);
    assert!(
        history.now.at.since(began) >= Duration::from_secs(5) + MAX_AGE - LOOK,
        "stalled first, deaf after"
    );
}

#[test]
fn a_consumer_that_serves_other_channels_is_not_deaf_while_it_moves() {
    let mut history = begin(On::Kill);
    history.send(1);
    let decision = history.run_with(50 * MAX_AGE, |history| history.thread().activity += 2);
    assert!(!decision.condemned, "work begun and ended between any two looks");
}

#[test]
fn time_in_which_the_consumer_could_not_run_does_not_count() {
    for state in [TaskState::Stopped, TaskState::Traced] {
        let mut history = begin(On::Kill);
        history.send(3);
        turns(&mut history, state);
        assert!(!history.run(20 * MAX_AGE).condemned, "{state:?}");
    }
    let mut history = begin(On::Kill);
    history.send(3);
    history.thread().task.as_mut().unwrap().wait = Some(WaitChannel::Frozen);
    assert!(!history.run(20 * MAX_AGE).condemned, "frozen");
    let mut history = begin(On::Kill);
    history.send(3);
    turns(&mut history, TaskState::Running);
    assert!(!history.run_with(20 * MAX_AGE, |_| {}).condemned, "woken, and given no CPU");
}

#[test]
fn a_consumer_whose_view_cannot_be_had_is_never_condemned() {
    let mut history = begin(On::Kill);
    history.send(3);
    history.thread().task = None;
    assert!(!history.run(20 * MAX_AGE).condemned);
}

#[test]
fn looks_that_came_late_do_not_count() {
    let mut history = begin(On::Kill);
    history.send(3);
    for _ in 0..50 {
        assert!(!history.pass(MAX_AGE / 2).condemned);
    }
}

#[test]
fn a_segment_that_cannot_be_read_counts_for_nothing() {
    let mut history = begin(On::Kill);
    history.send(3);
    history.process().segment_readable = false;
    assert!(!history.run(20 * MAX_AGE).condemned);
}

#[test]
fn a_message_received_takes_back_all_that_was_counted() {
    let mut history = begin(On::Kill);
    history.send(10);
    for _ in 0..9 {
        assert!(!history.run(MAX_AGE * 9 / 10).condemned);
        history.receive(1);
    }
}

#[test]
fn a_channel_that_drains_and_fills_again_begins_anew() {
    let mut history = begin(On::Kill);
    for _ in 0..5 {
        history.send(2);
        assert!(!history.run(MAX_AGE * 8 / 10).condemned);
        history.receive(2);
        history.run(MAX_AGE);
    }
}

#[test]
fn a_receiver_that_counts_before_its_sender_leaves_no_message_waiting() {
    let mut history = begin(On::Kill);
    history.channel().received += 1;
    assert!(!history.run(20 * MAX_AGE).condemned);
}

#[test]
fn hostile_counters_that_jump_about_condemn_nobody() {
    let mut history = begin(On::Kill);
    let mut n = 1_u64;
    let decision = history.run_with(30 * MAX_AGE, |history| {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        history.channel().sent = n;
        history.channel().received = n.rotate_left(17);
    });
    assert!(!decision.condemned);
}

#[test]
fn a_slot_used_again_is_another_channel() {
    let mut history = begin(On::Kill);
    history.send(3);
    for generation in 2..8 {
        assert!(!history.run(MAX_AGE * 9 / 10).condemned);
        history.channel().generation = generation;
        history.pass(LOOK);
    }
}

#[test]
fn all_consumers_must_be_deaf() {
    let mut history = begin(On::Kill);
    history.now.threads.push(thread(1, "exec-s1"));
    history.send(3);
    let decision = history.run_with(20 * MAX_AGE, |history| history.now.threads[1].activity += 2);
    assert!(!decision.condemned, "the second one moves");
    let decision = history.run(3 * MAX_AGE);
    assert!(decision.condemned, "now both stand still");
    assert_eq!(history.condemned().unwrap().thread.as_ref().unwrap().name, "exec-s0", "silent for longer");
}

#[test]
fn a_consumer_that_left_in_order_or_was_never_there_condemns_nobody() {
    let mut history = begin(On::Kill);
    history.policy.rules.clear();
    history.send(3);
    history.thread().claim = Claim::Left;
    let decision = history.run(20 * MAX_AGE);
    assert!(!decision.condemned);
    assert_eq!(decision.verdict, Verdict::Degraded, "it is told all the same");
    let mut history = begin(On::Kill);
    history.policy.channels[0].consumer = Some(glob("nobody-*"));
    history.send(3);
    assert!(!history.run(20 * MAX_AGE).condemned);
}

#[test]
fn a_consumer_that_is_gone_condemns_only_a_process_that_goes_on() {
    for (survivors, condemns) in [
        (Survivors::None, false),
        (Survivors::Unknown, false),
        (Survivors::NotAsked, false),
        (Survivors::Some, true),
    ] {
        let mut history = begin(On::Kill);
        // No rule for the thread: only the channel's rule covers it.
        history.policy.rules[0].on = On::Report;
        history.send(3);
        history.thread().presence = Presence::Gone;
        history.process().survivors = survivors;
        assert_eq!(history.run(3 * MAX_AGE).condemned, condemns, "{survivors:?}");
    }
}

#[test]
fn a_process_that_is_ending_is_not_judged_by_its_channels() {
    let mut history = begin(On::Kill);
    history.send(3);
    history.process().declared = Declared::Stopping;
    assert_eq!(history.run(20 * MAX_AGE).verdict, Verdict::Dying);
    assert!(history.condemned().is_none());
}

#[test]
fn a_rule_about_a_channel_that_nobody_publishes_is_told_after_the_grace() {
    let mut history = begin(On::Kill);
    history.now.channels.clear();
    assert_eq!(history.pass(LOOK).verdict, Verdict::Starting);
    let decision = history.run(Duration::from_secs(31));
    assert_eq!(decision.verdict, Verdict::Degraded);
    assert!(history.judge.why().contains("commands"), "{}", history.judge.why());
}

#[test]
fn a_condemnation_that_nobody_acted_on_is_lifted_when_something_is_received() {
    let mut history = begin(On::Kill);
    history.send(3);
    assert!(history.run(2 * MAX_AGE).condemned);
    history.receive(1);
    assert!(!history.pass(LOOK).condemned);
    assert!(history.notes.iter().any(|note| matches!(note, Note::Lifted { .. })));
}

#[test]
fn a_condemnation_is_lifted_when_a_reload_takes_its_rule_back() {
    let mut history = begin(On::Kill);
    history.send(3);
    assert!(history.run(2 * MAX_AGE).condemned);
    history.policy.channels[0].on = On::Report;
    history.reload();
    assert!(!history.pass(LOOK).condemned);
}

#[test]
fn a_signalled_process_stays_condemned_whatever_it_receives() {
    let mut history = begin(On::Kill);
    history.send(3);
    assert!(history.run(2 * MAX_AGE).condemned);
    history.process().signalled = Some(history.now.at);
    history.receive(3);
    let decision = history.pass(LOOK);
    assert!(decision.condemned && decision.verdict == Verdict::Dying);
}

#[test]
fn one_consumer_that_could_not_run_speaks_for_all() {
    let mut history = begin(On::Kill);
    history.now.threads.push(thread(1, "exec-s1"));
    history.send(3);
    turns(&mut history, TaskState::Running);
    assert!(
        !history.run(20 * MAX_AGE).condemned,
        "the starved one may be the one that was woken for the message"
    );
}

#[test]
fn a_channel_whose_words_were_torn_once_is_not_late_for_ever() {
    let mut history = begin(On::Report);
    let well = history.channel().clone();
    for torn in [1_u64 << 40, 1 << 63, u64::MAX] {
        history.channel().sent = torn;
        history.pass(LOOK);
        *history.channel() = well.clone();
        history.pass(LOOK);
        let decision = history.run(10 * MAX_AGE);
        assert_eq!(decision.verdict, Verdict::Healthy, "{torn}: {}", history.judge.why());
    }
}

#[test]
fn the_loop_wakes_at_the_very_limit_when_not_all_of_its_age_counts() {
    let mut history = begin(On::Kill);
    history.send(1);
    turns(&mut history, TaskState::Stopped);
    history.run(MAX_AGE);
    turns(&mut history, TaskState::Sleeping);
    let left = Duration::from_millis(3);
    let condemned_at = loop {
        let decision = history.pass(LOOK);
        let counted = history.channel_trial().counted();
        if MAX_AGE - counted < 2 * LOOK {
            let decision = history.pass(MAX_AGE - counted - left);
            assert_eq!(decision.look_at, history.now.at.plus(left));
            break decision.look_at;
        }
        assert!(!decision.condemned);
    };
    history.now.at = condemned_at;
    assert!(history.judge.observe(&history.policy, &history.now).condemned);
}

#[test]
fn a_reload_that_moves_its_rule_to_another_place_changes_nothing() {
    let mut history = begin(On::Kill);
    history.send(1);
    history.run(MAX_AGE / 2);
    let other =
        ChannelLimits { name: "other".to_owned(), on: On::Report, ..history.policy.channels[0].clone() };
    history.policy.channels.insert(0, other);
    history.reload();
    assert!(history.run(MAX_AGE).condemned);
    assert_eq!(history.condemned().unwrap().reason, Reason::ChannelLag);
}

#[test]
fn a_process_with_an_empty_channel_rests_and_one_with_a_waiting_message_does_not() {
    let mut history = begin(On::Report);
    let decision = history.run(Duration::from_secs(3));
    assert_eq!(decision.look_at, history.now.at.plus(history.policy.look_at_rest()));
    // There is no age limit that it would reach first.
    history.policy.channels[0].max_age = None;
    history.send(1);
    let decision = history.pass(LOOK);
    assert_eq!(decision.look_at, history.now.at.plus(history.policy.look_every()));
}

#[test]
fn a_condemnation_stands_while_nobody_receives_and_is_lifted_when_nobody_can_tell() {
    let mut history = begin(On::Kill);
    history.send(3);
    assert!(history.run(2 * MAX_AGE).condemned);
    for _ in 0..10 {
        assert!(history.pass(LOOK).condemned);
    }
    history.process().segment_readable = false;
    assert!(!history.pass(LOOK).condemned);
}

/// A second channel, empty, without a rule.
fn another() -> ChannelObservation {
    ChannelObservation { sent: 4, received: 4, ..channel(1, "other") }
}

#[test]
fn of_a_slot_used_again_one_channel_is_known() {
    let mut history = begin(On::Kill);
    history.channel().generation = 2;
    history.pass(LOOK);
    assert_eq!(history.incarnation().channels().len(), 1);
}

#[test]
fn a_channel_that_is_not_published_any_more_takes_nothing_from_the_others() {
    let mut history = begin(On::Kill);
    history.now.channels.push(another());
    history.send(3);
    assert!(!history.run(MAX_AGE * 9 / 10).condemned);
    history.now.channels.pop();
    assert!(history.run(MAX_AGE * 2 / 10).condemned);
}

#[test]
fn channels_are_told_apart_in_whatever_order_they_come() {
    let mut history = begin(On::Kill);
    history.now.channels.push(another());
    history.send(3);
    let began = history.now.at;
    while history.now.at.since(began) < 2 * MAX_AGE && history.condemned().is_none() {
        history.now.channels.reverse();
        history.pass(LOOK);
    }
    let condemned = history.condemned().unwrap();
    assert!(condemned.why.contains("3 messages wait in channel commands"), "{}", condemned.why);
    assert!(history.now.at.since(began) <= MAX_AGE + 2 * LOOK);
}

#[test]
fn a_channel_that_is_too_deep_at_its_first_look_is_told_at_that_look() {
    let mut history = begin(On::Report);
    (history.channel().generation, history.channel().sent) = (2, 500);
    history.notes.clear();
    history.pass(LOOK);
    assert!(history.notes.iter().any(|note| matches!(note, Note::ChannelLate { .. })));
}

#[test]
fn a_verdict_tells_of_the_consumers_and_of_no_other_thread() {
    let mut history = begin(On::Kill);
    history.now.threads.push(thread(1, "net"));
    history.send(3);
    assert!(history.run(2 * MAX_AGE).condemned);
    let told = &history.condemned().unwrap().observations;
    assert!(told.iter().any(|told| told.contains("consumer exec-s0")), "{told:#?}");
    assert!(!told.iter().any(|told| told.contains("consumer net")), "{told:#?}");
}

#[test]
fn the_verdict_says_whether_it_waits_too_long_or_is_too_deep() {
    let mut history = begin(On::Report);
    history.send(500);
    history.pass(LOOK);
    assert!(history.judge.why().contains("100 are too many"), "{}", history.judge.why());
    history.run(2 * MAX_AGE);
    assert!(history.judge.why().contains("longer than 1 s"), "{}", history.judge.why());
}
