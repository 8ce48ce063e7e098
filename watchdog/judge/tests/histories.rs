//! The judge on histories written by hand: virtual time, no machine. Each test is one promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::clock::Monotonic;
use shard_judge::observation::{Claim, Presence, Survivors, TaskObservation, TaskState, ThreadObservation};
use shard_judge::policy::On;
use shard_judge::target::TargetIdentity;
use shard_judge::testing::{self, Scene, THREADS, glob, rule, thread};
use shard_judge::verdict::{ExcuseKind, Reason, Verdict};
use shard_judge::{Judge, Note};

const LOOK: Duration = Duration::from_millis(10);
const STALL_AFTER: Duration = Duration::from_secs(1);
const EXCUSE_CAP: Duration = Duration::from_secs(10);

fn begin() -> Scene {
    let mut policy = testing::policy(vec![rule(THREADS, STALL_AFTER, Duration::from_millis(400))]);
    policy.excuse_caps = policy.excuse_caps.with(ExcuseKind::Starved, EXCUSE_CAP);
    Scene::begin(policy, LOOK, vec![thread(0, "exec-s0")], Vec::new())
}

#[test]
fn without_run_delay_cpu_time_in_coarse_steps_is_time_that_it_ran() {
    let mut history = begin();
    history.begin_work(1);
    let began = history.now.at;
    while history.now.at.since(began) < 2 * STALL_AFTER && history.reason().is_none() {
        let ticks = history.now.at.since(began).as_millis() / 10;
        let cpu_ns = Some(u64::try_from(ticks).unwrap() * 10_000_000);
        let task = TaskObservation { state: TaskState::Running, cpu_ns, run_delay_ns: None, wait: None };
        history.thread().task = Some(task);
        history.pass(Duration::from_millis(4));
    }
    let took = history.now.at.since(began);
    assert!(took >= STALL_AFTER && took <= STALL_AFTER + 5 * LOOK, "{took:?}");
}

#[test]
fn the_loop_wakes_at_the_very_threshold() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    let began = history.now.at;
    let mut decision = history.pass(STALL_AFTER - Duration::from_millis(3));
    // That observation came late, so it counted for nothing; the next ones come when requested.
    while !decision.condemned {
        history.now.at = decision.look_at;
        decision = history.look();
    }
    assert!(history.now.at.since(began) >= STALL_AFTER);
}

#[test]
fn a_process_at_rest_is_looked_at_less_often_and_one_at_work_as_often_as_ever() {
    let mut history = begin();
    history.policy.rules[0].stall_after = 5 * STALL_AFTER;
    let gap = |history: &mut Scene| {
        let decision = history.pass(LOOK);
        decision.look_at.since(history.now.at)
    };
    let often = history.policy.look_every();
    assert_eq!(gap(&mut history), often, "it may only be a pause");
    history.run(Duration::from_secs(3));
    assert_eq!(gap(&mut history), 4 * often);
    history.begin_work(1);
    assert_eq!(gap(&mut history), often);
    // A short threshold holds to the millisecond even after a rest.
    let mut history = begin();
    history.run(Duration::from_secs(3));
    assert_eq!(gap(&mut history), history.policy.look_every());
    // Only an observation shows the end of a main thread.
    let mut history = begin();
    history.policy.rules[0].stall_after = 5 * STALL_AFTER;
    history.thread().tid = 100;
    history.thread().generation += 1;
    history.run(Duration::from_secs(3));
    assert_eq!(gap(&mut history), often);
}

#[test]
fn a_rule_that_matches_nothing_is_degraded_after_the_grace() {
    let mut history = begin();
    history.policy.rules[0].glob = glob("nobody");
    history.judge = Judge::new(Monotonic(0));
    history.look();
    assert_eq!(history.run(Duration::from_secs(29)).verdict, Verdict::Starting);
    assert_eq!(history.run(Duration::from_secs(2)).verdict, Verdict::Degraded);
    assert!(!history.run(Duration::from_secs(100)).condemned);
}

#[test]
fn after_a_reload_each_thread_is_judged_by_the_rule_that_is_about_it_now() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    // The rule that kills takes the place of the thread's own rule, and applies to another thread.
    let mut report = history.policy.rules[0].clone();
    report.on = On::Report;
    history.policy.rules[0].glob = glob("net-s*");
    history.policy.rules[0].count = 0;
    history.policy.rules.push(report);
    history.reload();
    assert!(!history.run(STALL_AFTER * 2).condemned);
}

#[test]
fn a_withheld_kill_is_taken_back_when_the_segment_cannot_be_read() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    assert!(history.run(STALL_AFTER * 2).condemned);
    history.thread().task = None;
    history.process().segment_readable = false;
    assert!(!history.run(STALL_AFTER * 3).condemned);
}

#[test]
fn a_slot_used_again_leaves_nothing_of_the_first_thread() {
    let mut history = begin();
    history.begin_work(1);
    for generation in 2..100 {
        history.thread().generation = generation;
        history.pass(LOOK);
    }
    assert_eq!(history.incarnation().threads().len(), 1);
}

#[test]
fn an_excused_thread_near_its_threshold_does_not_spin_the_loop() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    history.run(STALL_AFTER - LOOK);
    history.stand_in(TaskState::Stopped);
    for _ in 0..10 {
        let decision = history.pass(LOOK);
        assert!(decision.look_at.since(history.now.at) >= Duration::from_millis(4), "{decision:?}");
    }
}

#[test]
fn an_incident_names_the_work_that_began_after_the_last_look() {
    let mut history = begin();
    history.thread().activity += 1;
    history.thread().work_key = 42;
    history.thread().presence = Presence::Gone;
    history.process().survivors = Survivors::Some;
    history.pass(LOOK);
    let condemned = history.incarnation().condemned().unwrap();
    assert_eq!(condemned.thread.as_ref().unwrap().work_key, Some(42));
}

#[test]
fn a_lone_survivor_is_believed_at_the_second_look() {
    let mut history = begin();
    history.thread().presence = Presence::Gone;
    history.process().survivors = Survivors::Alone;
    let decision = history.pass(LOOK);
    assert!(!decision.condemned);
    history.now.at = decision.look_at;
    assert!(history.look().condemned);
}

#[test]
fn a_condemned_stop_is_not_held_by_what_it_was_condemned_for() {
    let mut history = begin();
    history.begin_work(7);
    history.stand_in(TaskState::Stopped);
    history.process().leader = Some(TaskState::Stopped);
    let decision = history.run(Duration::from_secs(61));
    assert_eq!(history.reason(), Some(Reason::Stopped));
    assert!(decision.condemned && !decision.held, "{decision:?}");
}

#[test]
fn a_thread_that_is_never_caught_idle_recovers_with_its_second_other_work() {
    let mut history = begin();
    history.begin_work(1);
    history.process().exited = true;
    history.pass(LOOK);
    // The next incarnation is at work at every observation.
    let process = history.process();
    process.exited = false;
    process.identity = TargetIdentity { pid: 200, start_time: 9, incarnation: 2 };
    history.thread().work_key = 7;
    history.pass(LOOK);
    let recovered =
        |history: &Scene| history.judge.notes().iter().any(|note| matches!(note, Note::Recovered { .. }));
    for (key, done) in [(8, false), (9, true)] {
        history.thread().activity += 2;
        history.thread().work_key = key;
        history.pass(LOOK);
        assert_eq!(recovered(&history), done, "{key}");
    }
}

#[test]
fn two_threads_that_sleep_do_not_excuse_each_other_once_one_was_kept_from_running() {
    let mut history = begin();
    let other = ThreadObservation { activity: 1, work_key: 9, ..thread(1, "exec-s1") };
    history.now.threads.push(other);
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    let asleep = history.thread().task.unwrap();
    history.now.threads[1].task = Some(TaskObservation { state: TaskState::Running, ..asleep });
    history.run(STALL_AFTER / 2);
    history.now.threads[1].task = Some(asleep);
    assert!(history.run(STALL_AFTER + 10 * LOOK).condemned);
}

#[test]
fn a_loss_names_the_lost_thread_when_another_slot_changes_hands_in_the_same_look() {
    let mut history = begin();
    history.now.threads.push(thread(1, "exec-s1"));
    history.pass(LOOK);
    // The first slot belongs to another thread now, so its old trial is over; the second thread has
    // ended.
    history.thread().generation = 2;
    history.now.threads[1].presence = Presence::Gone;
    history.process().survivors = Survivors::Some;
    assert!(history.pass(LOOK).condemned);
    let condemned = history.incarnation().condemned().unwrap();
    assert_eq!(condemned.thread.as_ref().map(|thread| &*thread.name), Some("exec-s1"));
    assert_eq!(condemned.slot, Some((1, 1)));
}

#[test]
fn a_stall_names_the_stalled_thread_when_another_slot_changes_hands_in_the_same_look() {
    let mut history = begin();
    let stalled = ThreadObservation { activity: 1, work_key: 9, ..thread(1, "exec-s1") };
    history.now.threads.push(stalled);
    history.pass(LOOK);
    history.now.threads[1].task = Some(TaskObservation {
        state: TaskState::Sleeping,
        cpu_ns: Some(0),
        run_delay_ns: Some(0),
        wait: None,
    });
    history.run(STALL_AFTER - LOOK);
    history.thread().generation = 2;
    assert!(history.run(3 * LOOK).condemned);
    assert_eq!(history.incarnation().condemned().unwrap().slot, Some((1, 1)));
}

#[test]
fn a_thread_that_may_have_left_while_the_segment_could_not_be_read_is_not_lost() {
    let mut history = begin();
    history.process().segment_readable = false;
    history.thread().presence = Presence::Gone;
    history.process().survivors = Survivors::Some;
    assert!(!history.run(STALL_AFTER).condemned);
    history.process().segment_readable = true;
    assert!(history.pass(LOOK).condemned, "it can be read, and says that the thread did not leave");
}

#[test]
fn a_reload_that_lowers_the_threshold_condemns_nobody_who_is_stopped() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    history.run(STALL_AFTER / 2);
    history.stand_in(TaskState::Stopped);
    history.policy.rules[0].stall_after = STALL_AFTER / 4;
    history.reload();
    assert!(!history.run(2 * STALL_AFTER).condemned);
    // And no late observation condemns.
    history.stand_in(TaskState::Sleeping);
    assert!(!history.pass(STALL_AFTER).condemned);
    assert!(history.run(3 * LOOK).condemned, "it stands still in time that counts");
}

#[test]
fn a_slot_that_was_garbage_for_a_moment_is_watched_again() {
    let mut history = begin();
    history.thread().claim = Claim::Left;
    history.pass(LOOK);
    history.thread().claim = Claim::Live;
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    assert!(history.run(2 * STALL_AFTER).condemned);
    for _ in 0..10 {
        assert!(history.pass(LOOK).condemned, "and stays condemned");
    }
}

#[test]
fn runnable_time_of_which_the_kernel_tells_nothing_counts_for_nothing() {
    let mut history = begin();
    history.begin_work(1);
    history.thread().task =
        Some(TaskObservation { state: TaskState::Running, cpu_ns: None, run_delay_ns: None, wait: None });
    let decision = history.run(3 * STALL_AFTER);
    assert_eq!((decision.verdict, decision.condemned), (Verdict::Excused, false));
    history.thread().task =
        Some(TaskObservation { state: TaskState::Sleeping, cpu_ns: None, run_delay_ns: None, wait: None });
    assert!(history.run(2 * STALL_AFTER).condemned, "asleep it counts");
}

#[test]
fn a_reload_that_lowers_the_threshold_condemns_nobody_of_whom_the_kernel_tells_nothing() {
    let mut history = begin();
    history.begin_work(1);
    history.stand_in(TaskState::Sleeping);
    history.run(STALL_AFTER / 2);
    // Its process begins to end: the kernel has nothing more to report of its threads.
    history.thread().task = None;
    history.policy.rules[0].stall_after = STALL_AFTER / 4;
    history.reload();
    assert!(!history.run(2 * STALL_AFTER).condemned);
}

#[test]
fn a_condemned_thread_that_ends_in_the_hands_of_a_debugger_is_held_no_longer() {
    let mut history = begin();
    history.begin_work(7);
    history.stand_in(TaskState::Sleeping);
    assert!(history.run(STALL_AFTER + 10 * LOOK).condemned);
    history.stand_in(TaskState::Traced);
    assert!(history.pass(LOOK).held);
    history.thread().presence = Presence::Gone;
    let decision = history.pass(LOOK);
    assert!(decision.condemned && !decision.held, "{decision:?}");
}

/// Work on a CPU under a quota, as Linux 6.18 shows it: beyond the quota the thread is runnable, in
/// no queue, and no counter grows.
#[test]
fn a_quota_that_no_counter_of_the_thread_tells_of_brings_no_verdict_nearer() {
    for (run, wait) in [(50, 50), (20, 80), (5, 95)] {
        let mut history = begin();
        history.begin_work(1);
        let mut cpu = 0;
        let used = |cpu: u64| cpu * 1_000_000;
        // In total it uses three quarters of the threshold.
        for millisecond in 0.. {
            if cpu == 750 {
                break;
            }
            cpu += u64::from(millisecond % (run + wait) < run);
            let task = TaskObservation {
                state: TaskState::Running,
                cpu_ns: Some(used(cpu)),
                run_delay_ns: Some(0),
                wait: None,
            };
            history.thread().task = Some(task);
            if millisecond % 8 == 0 {
                assert!(!history.pass(Duration::from_millis(8)).condemned);
            }
        }
        history.stand_in(TaskState::Sleeping);
        history.thread().task.as_mut().unwrap().cpu_ns = Some(used(cpu));
        assert!(
            !history.pass(LOOK).condemned,
            "{run} of {wait} ms: what it waited is not given back by a sleep"
        );
    }
}
