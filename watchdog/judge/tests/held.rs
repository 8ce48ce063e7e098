//! A cgroup that gives no memory, and a tracer that stops its thread at each system call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_judge::Note;
use shard_judge::observation::{Presence, TaskObservation, TaskState, WaitChannel, WorkerObservation};
use shard_judge::testing::at_work::{self, LOOK, STALL_AFTER};
use shard_judge::testing::{Scene, ns};
use shard_judge::verdict::{ExcuseKind, Reason, StallKind};

/// The time that waiting for memory excuses by default.
const MEMORY_CAP: Duration = Duration::from_secs(600);

#[test]
fn it_sleeps_for_two_seconds_at_a_time_and_runs_in_between() {
    let mut history = at_work::begin(0);
    let mut cpu = 0;
    for _ in 0..20 {
        history.shows(TaskState::DiskSleep, Some(WaitChannel::Memory), cpu);
        history.run(Duration::from_secs(2));
        cpu += 3_000_000;
        history.shows(TaskState::Running, None, cpu);
        assert!(!history.pass(LOOK).condemned);
    }
    assert!(history.trial().counted() < STALL_AFTER / 2, "{:?}", history.trial().counted());
}

#[test]
fn past_its_cap_memory_is_told_once_and_kills_nobody() {
    let mut history = at_work::begin(0);
    history.shows(TaskState::DiskSleep, Some(WaitChannel::Memory), 0);
    let mut told = 0;
    let end = history.now.at.plus(MEMORY_CAP * 2);
    while history.now.at < end {
        assert!(!history.pass(Duration::from_millis(90)).condemned);
        let over = |note: &Note| matches!(note, Note::ExcuseOver { kind: ExcuseKind::MemoryThrottled, .. });
        told += history.noted(over);
    }
    assert_eq!(told, 1);
}

#[test]
fn who_sleeps_beside_a_thread_without_memory_may_wait_for_a_lock_that_it_holds() {
    for beside in [true, false] {
        let mut history = at_work::begin(0);
        let mut second = history.now.threads[0].clone();
        (second.slot, second.tid) = (1, 102);
        let wait = if beside { WaitChannel::Memory } else { WaitChannel::Answer };
        second.task =
            second.task.map(|task| TaskObservation { state: TaskState::DiskSleep, wait: Some(wait), ..task });
        // The second alone would lead to nothing.
        second.activity = u64::from(beside);
        history.now.threads.push(second);
        history.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
        let decision = history.run(2 * STALL_AFTER);
        assert_eq!(decision.condemned, !beside);
        if beside {
            assert_eq!(history.trial().excuse, Some(ExcuseKind::MemoryThrottled));
        }
    }
}

#[test]
fn a_worker_without_memory_excuses_the_thread_that_waits_for_it() {
    let mut history = at_work::begin(0);
    history.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
    let task = history.thread().task.map(|task| TaskObservation {
        state: TaskState::DiskSleep,
        wait: Some(WaitChannel::Memory),
        ..task
    });
    history.thread().workers =
        vec![WorkerObservation { lane: 1, generation: 1, presence: Presence::Present, task }];
    assert!(!history.run(5 * STALL_AFTER).condemned);
    assert_eq!(history.trial().excuse, Some(ExcuseKind::MemoryThrottled));
}

#[test]
fn a_wait_for_somebodys_answer_is_blocked_in_d_as_in_s_and_no_wait_for_a_device() {
    let kind = |state, wait| {
        let mut history = at_work::begin(0);
        history.shows(state, Some(wait), 0);
        assert!(history.run(2 * STALL_AFTER).condemned, "{state:?} {wait:?}");
        assert_eq!(history.reason(), Some(Reason::Stalled));
        history.trial().kind()
    };
    assert_eq!(kind(TaskState::DiskSleep, WaitChannel::Answer), StallKind::Blocked);
    assert_eq!(kind(TaskState::Sleeping, WaitChannel::Answer), StallKind::Blocked);
    assert_eq!(kind(TaskState::DiskSleep, WaitChannel::Other), StallKind::IoWait);
}

/// A thread that uses half of its time on a CPU; at each observation, `held` says whether a tracer
/// holds it.
fn traced(looks: u32, held: impl Fn(u32) -> bool) -> Scene {
    let mut history = at_work::begin(0);
    for look in 0..looks {
        let state = if held(look) { TaskState::Traced } else { TaskState::Running };
        history.shows(state, Some(WaitChannel::Other), u64::from(look) * ns(LOOK) / 2);
        if history.pass(LOOK).condemned {
            break;
        }
    }
    history
}

#[test]
fn cpu_time_counts_for_nothing_while_a_tracer_stops_the_thread_again_and_again() {
    let looks = u32::try_from(20 * STALL_AFTER.as_nanos() / LOOK.as_nanos()).unwrap();
    // Runnable at three observations out of four, so that without the tracer most of its intervals
    // would count.
    let history = traced(looks, |look| look % 4 == 0);
    assert_eq!(history.reason(), None);
    assert_eq!(history.trial().excuse, Some(ExcuseKind::Traced));
    // A tracer that lets it run excuses nothing, and one that stops it now and then little.
    assert_eq!(traced(looks, |_| false).reason(), Some(Reason::Stalled));
    assert_eq!(traced(looks, |look| look % 40 == 0).reason(), Some(Reason::Stalled));
}

#[test]
fn who_sleeps_on_a_lock_beside_such_a_tracer_is_condemned_all_the_same() {
    let mut history = traced(30, |look| look % 4 == 0);
    history.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
    assert!(history.run(2 * STALL_AFTER).condemned);
}
