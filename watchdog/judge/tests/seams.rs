//! What counts where two misfortunes meet: one ends and another begins between the same two
//! observations. The simulation found each of these, in about one history in several hundred
//! thousand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::Note;
use shard_judge::observation::{
    Claim, Presence, Survivors, TaskObservation, TaskState, WaitChannel, WorkerObservation,
};
use shard_judge::policy::On;
use shard_judge::testing::well::{self, LOOK, MAX_AGE, STALL_AFTER};
use shard_judge::verdict::ExcuseKind;

fn task(state: TaskState, cpu: Duration) -> TaskObservation {
    let cpu_ns = u64::try_from(cpu.as_nanos()).ok();
    TaskObservation { state, cpu_ns, run_delay_ns: Some(0), wait: Some(WaitChannel::Futex) }
}

#[test]
fn cpu_time_used_at_work_is_none_in_which_a_message_could_have_been_received() {
    let mut scene = well::begin();
    scene.now.channels[0].sent += 3;
    // It has noticed the messages, and is given no CPU.
    scene.thread().task = Some(task(TaskState::Running, Duration::ZERO));
    assert!(!scene.run(2 * MAX_AGE).condemned);
    scene.begin_work(1);
    let work = 3 * MAX_AGE;
    let end = scene.now.at.plus(work);
    while scene.now.at < end {
        scene.thread().progress += 1;
        assert!(!scene.pass(LOOK).condemned);
    }
    scene.thread().activity += 1;
    scene.thread().task = Some(task(TaskState::Sleeping, work));
    assert!(!scene.run(MAX_AGE - LOOK).condemned, "it has been idle for less than the limit");
    assert!(scene.run(4 * LOOK).condemned);
}

#[test]
fn a_slot_first_seen_dropped_by_a_look_that_came_late_is_lost_as_soon_as_any_other() {
    let mut scene = well::begin();
    scene.thread().claim = Claim::Dropped;
    scene.process().survivors = Survivors::Some;
    assert!(!scene.pass(Duration::from_secs(3_600)).condemned);
    assert!(!scene.run(Duration::from_millis(90)).condemned);
    assert!(scene.run(Duration::from_millis(20)).condemned);
}

#[test]
fn a_thread_that_is_starved_a_slice_at_a_time_reaches_its_cap() {
    let mut scene = well::begin();
    let cap = Duration::from_millis(100);
    scene.policy.excuse_caps = scene.policy.excuse_caps.with(ExcuseKind::Starved, cap);
    scene.policy.rules[0].stall_after = Duration::from_secs(5);
    scene.begin_work(1);
    let (mut cpu, mut waited, mut told) = (Duration::ZERO, Duration::ZERO, None);
    for look in 0..100 {
        // Three observations in the run queue, two on a CPU.
        let runs = look % 5 > 2;
        (cpu, waited) = if runs { (cpu + LOOK, waited) } else { (cpu, waited + LOOK) };
        scene.thread().task = Some(task(TaskState::Running, cpu));
        scene.pass(LOOK);
        if scene.judge.notes().iter().any(|note| matches!(note, Note::ExcuseOver { .. })) {
            told.get_or_insert(waited);
        }
    }
    let told = told.expect("it is told");
    assert!((cap..=cap + 5 * LOOK).contains(&told), "after {told:?} in the run queue");
}

#[test]
fn nobody_is_condemned_by_a_look_that_could_ask_neither_the_thread_nor_its_workers() {
    let mut scene = well::begin();
    scene.policy.channels.clear();
    scene.begin_work(1);
    let starved = WorkerObservation {
        lane: 1,
        generation: 1,
        presence: Presence::Present,
        task: Some(task(TaskState::Running, Duration::ZERO)),
    };
    scene.thread().workers = vec![starved];
    assert!(!scene.run(2 * STALL_AFTER).condemned);
    let counted = scene.counted();
    // All of them are on their way out.
    scene.thread().workers.clear();
    scene.thread().task = None;
    assert!(!scene.run(2 * STALL_AFTER).condemned);
    assert_eq!(scene.counted(), counted);
}

#[test]
fn nobody_is_condemned_while_a_debugger_holds_it_for_what_its_workers_lost_before() {
    let mut scene = well::begin();
    scene.policy.channels.clear();
    scene.begin_work(1);
    let starved = WorkerObservation {
        lane: 1,
        generation: 1,
        presence: Presence::Present,
        task: Some(task(TaskState::Running, Duration::ZERO)),
    };
    scene.thread().workers = vec![starved];
    scene.run(STALL_AFTER);
    // The worker has ended: from here on the thread waits for nothing.
    scene.thread().workers.clear();
    assert!(!scene.run(STALL_AFTER - 3 * LOOK).condemned);
    let counted = scene.counted();
    scene.thread().task = Some(task(TaskState::Traced, Duration::ZERO));
    assert!(!scene.run(STALL_AFTER).condemned);
    assert_eq!(scene.counted(), counted);
    scene.thread().task = Some(task(TaskState::Sleeping, Duration::ZERO));
    assert!(scene.run(10 * LOOK).condemned);
}

#[test]
fn a_deaf_consumer_is_condemned_in_time_that_counts_and_not_by_a_look_that_comes_late() {
    let mut scene = well::begin();
    scene.process().survivors = Survivors::Some;
    scene.thread().presence = Presence::Gone;
    scene.now.channels[0].sent += 3;
    // Condemned for its loss, and nothing is done about it, as in a pause.
    scene.pass(LOOK);
    for _ in 0..100 {
        assert!(scene.pass(LOOK).condemned);
    }
    // A reload revokes that in the moment in which the machine wakes up.
    scene.policy.rules[0].on = On::Report;
    assert!(!scene.pass(Duration::from_secs(3_600)).condemned);
    assert!(scene.run(4 * LOOK).condemned);
}

#[test]
fn what_a_thread_ran_counts_although_it_sleeps_now_beside_one_that_is_starved() {
    let mut scene = well::begin();
    scene.policy.channels.clear();
    let mut other = scene.thread().clone();
    (other.slot, other.tid, other.name) = (1, 102, "exec-s1".into());
    (other.activity, other.task) = (1, Some(task(TaskState::Running, Duration::ZERO)));
    scene.now.threads.push(other);
    scene.begin_work(1);
    scene.run(20 * LOOK);
    let counted = scene.counted();
    for look in 1..=6 {
        scene.thread().task = Some(task(TaskState::Running, look * LOOK));
        scene.pass(LOOK);
    }
    // As it falls asleep, the kernel shows all the time that it ran.
    scene.thread().task = Some(task(TaskState::Sleeping, 7 * LOOK));
    let excused = scene.excused(ExcuseKind::Starved);
    scene.pass(LOOK);
    assert_eq!(scene.counted() - counted, 6 * LOOK, "all but what it ran before the first look at it");
    assert_eq!(scene.excused(ExcuseKind::Starved) - excused, LOOK, "what counts is not excused besides");
    scene.run(20 * LOOK);
    assert_eq!(scene.counted() - counted, 6 * LOOK, "and asleep it may wait for the other");
}

#[test]
fn a_wait_that_was_excused_for_a_worker_is_not_excused_once_more_for_the_thread() {
    let mut scene = well::begin();
    scene.policy.channels.clear();
    scene.begin_work(1);
    let starved = WorkerObservation {
        lane: 1,
        generation: 1,
        presence: Presence::Present,
        task: Some(task(TaskState::Running, Duration::ZERO)),
    };
    scene.thread().workers = vec![starved];
    scene.run(20 * LOOK);
    let before = scene.judge.excused()[ExcuseKind::Starved as usize];
    // Now it wants to run itself, and cannot either.
    scene.thread().task = Some(task(TaskState::Running, Duration::ZERO));
    scene.run(10 * LOOK);
    assert_eq!(scene.judge.excused()[ExcuseKind::Starved as usize] - before, 10 * LOOK);
}
