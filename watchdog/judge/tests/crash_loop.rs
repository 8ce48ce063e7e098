//! Poison work on histories written by hand: virtual time, no machine. Each test is one promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use shard_judge::crash_loop::CrashLoops;
use shard_judge::observation::{ChannelObservation, Declared, Presence, Survivors, TaskState};
use shard_judge::policy::{ChannelLimits, On};
use shard_judge::testing::{self, Scene, THREADS, glob, limits, rule, task, thread};
use shard_judge::verdict::{Reason, Verdict};
use shard_judge::{Condemnation, Decision, Judge, Note};

const LOOK: Duration = Duration::from_millis(10);
const STALL_AFTER: Duration = Duration::from_secs(1);
const POISON: u64 = 7;

/// A shard of two executor threads over several lives, and its judge.
struct History(Scene);

impl Deref for History {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.0
    }
}

impl DerefMut for History {
    fn deref_mut(&mut self) -> &mut Scene {
        &mut self.0
    }
}

impl History {
    fn begin() -> Self {
        let mut policy = testing::policy(vec![rule(THREADS, STALL_AFTER, Duration::from_millis(400))]);
        policy.exit_within = Duration::from_secs(5);
        let mut history = Self(Scene::empty(policy, LOOK));
        history.start();
        history
    }

    /// A new incarnation, both threads idle.
    fn start(&mut self) -> Decision {
        self.0.start(vec![thread(0, "exec-s0"), thread(1, "exec-s1")])
    }

    fn run(&mut self, time: Duration) -> Decision {
        self.0.run_on(time)
    }

    /// The thread begins to work on `key` and makes no progress.
    fn hang(&mut self, slot: usize, key: u64) {
        let thread = &mut self.now.threads[slot];
        thread.activity += 1;
        thread.work_key = key;
        self.pass(LOOK);
        self.now.threads[slot].task = Some(task(TaskState::Sleeping, None, 0));
    }

    /// It makes progress again, and finishes.
    fn finish(&mut self, slot: usize) -> Decision {
        let thread = &mut self.now.threads[slot];
        thread.activity += 1;
        thread.task = None;
        self.pass(LOOK)
    }

    /// Stalls on `key` and is killed for it.
    fn killed_on(&mut self, key: u64) {
        self.hang(0, key);
        let decision = self.run(STALL_AFTER * 2);
        assert!(decision.condemned && !decision.spared, "killed for {key}: {decision:?}");
        self.process().signalled = Some(self.now.at);
        self.die();
    }

    fn told(&self) -> Vec<u64> {
        let told = self.notes.iter().filter_map(|note| match note {
            Note::CrashLoop { work_key } => Some(*work_key),
            _ => None,
        });
        told.collect()
    }

    fn last_opened(&self) -> &Condemnation {
        let opened = self.notes.iter().rev().find_map(|note| match note {
            Note::Opened(condemned) => Some(condemned),
            _ => None,
        });
        opened.unwrap()
    }

    fn in_crash_loop() -> Self {
        let mut history = Self::begin();
        history.killed_on(POISON);
        history.start();
        history.killed_on(POISON);
        history.start();
        history
    }
}

#[test]
fn kills_for_a_finding_count_until_work_is_finished_and_those_that_a_person_asked_for_do_not() {
    let mut history = History::begin();
    let kills = |history: &History| history.judge.crash_loops().kills_without_progress();
    for key in [1, 2] {
        history.killed_on(key);
        history.start();
    }
    assert_eq!(kills(&history), 2);
    history.die();
    history.start();
    assert_eq!(kills(&history), 2, "it ended by itself");
    assert!(history.judge.request("wrong answers"));
    assert!(history.pass(LOOK).condemned);
    history.process().signalled = Some(history.now.at);
    history.die();
    history.start();
    assert_eq!(kills(&history), 2, "a person asked for it");
    history.hang(0, 3);
    assert_eq!(kills(&history), 2, "it has begun work, and not finished any");
    history.finish(0);
    assert_eq!(kills(&history), 0);
}

#[test]
fn ends_by_itself_count_as_deaths_and_orderly_ends_do_not() {
    let mut history = History::begin();
    for orderly in [true, true, false, true, false] {
        assert_eq!(history.judge.crash_loops().keys(), [0; 0]);
        history.hang(0, POISON);
        if orderly {
            history.process().declared = Declared::Stopping;
            history.pass(LOOK);
        }
        history.die();
        history.start();
    }
    assert_eq!(history.judge.crash_loops().keys(), [POISON]);
}

#[test]
fn a_thread_that_is_idle_at_its_death_has_no_key() {
    let mut history = History::begin();
    for _ in 0..3 {
        history.hang(0, POISON);
        history.finish(0);
        history.die();
        history.start();
    }
    assert_eq!(*history.judge.crash_loops(), CrashLoops::NONE);
    for _ in 0..3 {
        history.hang(0, 0);
        history.die();
        history.start();
    }
    assert_eq!(*history.judge.crash_loops(), CrashLoops::NONE, "nor has work that was not stated");
}

#[test]
fn other_work_is_judged_and_killed_for_as_ever() {
    let mut history = History::in_crash_loop();
    history.killed_on(POISON + 1);
    assert_eq!(history.start().verdict, Verdict::CrashLoop);
    // While one thread is spared, another is not.
    history.hang(0, POISON);
    assert!(history.run(2 * STALL_AFTER).spared);
    history.hang(1, POISON + 2);
    let decision = history.run(2 * STALL_AFTER);
    assert!(decision.condemned && !decision.spared, "{decision:?}");
    assert_eq!(decision.verdict, Verdict::Condemned);
    assert_eq!(history.condemned().unwrap().thread.as_ref().unwrap().name, "exec-s1");
}

#[test]
fn of_two_stalls_at_once_the_one_that_may_be_killed_for_counts() {
    let mut history = History::in_crash_loop();
    history.hang(0, POISON);
    history.hang(1, POISON + 1);
    let decision = history.run(2 * STALL_AFTER);
    assert!(decision.condemned && !decision.spared, "{decision:?}");
    assert_eq!(history.condemned().unwrap().work_key(), Some(POISON + 1));
}

#[test]
fn a_thread_lost_while_idle_is_killed_for_and_one_lost_at_that_work_is_not() {
    for (work, spared) in [(None, false), (Some(POISON), true), (Some(POISON + 1), false)] {
        let mut history = History::in_crash_loop();
        if let Some(key) = work {
            history.hang(0, key);
        }
        history.now.threads[0].presence = Presence::Gone;
        history.process().survivors = Survivors::Some;
        let decision = history.run(STALL_AFTER);
        assert!(decision.condemned, "{work:?}");
        assert_eq!(decision.spared, spared, "{work:?}");
        assert_eq!(history.condemned().unwrap().reason, Reason::ThreadGone);
    }
}

#[test]
fn a_spared_process_that_begins_to_end_and_does_not_is_killed() {
    let mut history = History::in_crash_loop();
    history.hang(0, POISON);
    assert!(history.run(2 * STALL_AFTER).spared);
    history.process().declared = Declared::Stopping;
    let decision = history.run(Duration::from_secs(6));
    assert!(decision.condemned && !decision.spared, "{decision:?}");
    assert_eq!(history.condemned().unwrap().reason, Reason::ExitHung);
}

#[test]
fn an_earlier_life_of_the_watchdog_is_remembered() {
    let mut history = History::begin();
    history.killed_on(POISON);
    let known = *history.judge.crash_loops();
    history.judge = Judge::new(history.now.at).remembering(known);
    history.start();
    history.killed_on(POISON);
    assert_eq!(history.judge.crash_loops().keys(), [POISON]);
}

#[test]
fn what_is_taken_over_later_counts_as_if_it_had_been_seen() {
    let mut other = History::begin();
    other.killed_on(POISON);
    let mut history = History::begin();
    history.judge.remember(*other.judge.crash_loops());
    history.killed_on(POISON);
    history.start();
    assert_eq!(history.told(), [POISON], "its first death here, its second in all");
    history.hang(0, POISON);
    assert!(history.run(STALL_AFTER * 2).spared);
}

#[test]
fn starting_is_told_before_the_loop_and_lateness_after_it() {
    let mut history = History::in_crash_loop();
    history.die();
    history.start();
    history.process().declared = Declared::Boot;
    assert_eq!(history.pass(LOOK).verdict, Verdict::Starting, "it is not ready for work");
    history.process().declared = Declared::Running;
    history.hang(0, POISON + 1);
    assert_eq!(history.run(STALL_AFTER / 2).verdict, Verdict::CrashLoop);
    history.finish(0);
    assert_eq!(history.pass(LOOK).verdict, Verdict::CrashLoop, "it ends by clear alone");
    assert_eq!(history.judge.clear(None), 1);
    assert_eq!(history.pass(LOOK).verdict, Verdict::Healthy);
}

#[test]
fn switched_off_every_stall_is_killed_for() {
    let mut history = History::begin();
    history.policy.poison_after = 0;
    for _ in 0..5 {
        history.killed_on(POISON);
        assert_eq!(history.start().verdict, Verdict::Healthy);
    }
}

#[test]
fn a_spared_process_is_looked_at_as_often_as_any_other() {
    let mut history = History::in_crash_loop();
    history.hang(0, POISON);
    let decision = history.run(2 * STALL_AFTER);
    assert!(decision.condemned && decision.spared);
    assert_eq!(decision.look_at, history.now.at.plus(history.policy.look_every()));
}

#[test]
fn a_channel_that_is_deaf_for_such_work_is_told_once() {
    let mut history = History::in_crash_loop();
    // A stall of its consumer is only reported, so it is the channel that condemns.
    history.policy.rules[0].on = On::Report;
    let consumer = Some(glob("exec-s0"));
    let limits = ChannelLimits { consumer, ..limits("commands", STALL_AFTER, None) };
    history.policy.channels.push(limits);
    history.reload();
    history.now.channels = vec![ChannelObservation::blank(0, 1, "commands".into())];
    history.pass(LOOK);
    history.hang(0, POISON);
    history.now.channels[0].sent = 1;
    history.notes.clear();
    let decision = history.run(5 * STALL_AFTER);
    assert!(decision.condemned && decision.spared, "{decision:?}: {}", history.judge.why());
    let opened = history.notes.iter().filter(|note| matches!(note, Note::Opened(_))).count();
    assert_eq!((opened, history.last_opened().reason), (1, Reason::ChannelLag));
}
