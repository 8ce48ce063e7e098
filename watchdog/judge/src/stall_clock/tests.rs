use super::super::steal::Thief;
use super::*;
use crate::clock::Monotonic;

const LOOK: Duration = Duration::from_millis(10);

fn task(state: TaskState, cpu: u64, delay: u64) -> Option<TaskObservation> {
    Some(TaskObservation { state, cpu_ns: Some(cpu), run_delay_ns: Some(delay), wait: None })
}

#[test]
fn time_off_the_run_queue_that_no_counter_tells_is_not_given_back_by_a_sleep() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    for _ in 0..50 {
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    }
    // Its quota is back: it runs for a millisecond and sleeps. Its run delay has not grown.
    clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 0), false);
    assert!(clock.counted() <= 2 * LOOK, "{:?}", clock.counted());
}

#[test]
fn cpu_time_from_before_a_span_that_shows_within_it_counts_once_at_most() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    for _ in 0..5 {
        // A second shows all at once, and none after that.
        clock.advance(LOOK, task(TaskState::Running, 1_000_000_000, 0), false);
    }
    assert_eq!(clock.counted(), LOOK, "as long as the span was when it showed");
}

/// A thread on a kernel that leaves out what the hypervisor takes, and shows `stolen` 100 ms
/// after its last progress, uses all CPU time for `looks` from then on.
fn after_a_theft(stolen: Duration, looks: u32) -> Duration {
    let (mut clock, mut thief, mut at) = (StallClock::default(), Thief::default(), Duration::ZERO);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    for look in 0..10 + looks {
        at += LOOK;
        let taken = if look < 10 { Duration::ZERO } else { stolen };
        clock.with_steal(thief.look(Some(nanos(taken)), Monotonic(nanos(at))));
        let cpu = LOOK * look.saturating_sub(10);
        clock.advance(LOOK, task(TaskState::Running, nanos(cpu), 0), false);
    }
    clock.counted()
}

#[test]
fn what_was_stolen_before_the_last_progress_is_no_debt() {
    assert_eq!(after_a_theft(Duration::ZERO, 50), 49 * LOOK);
    let counted = after_a_theft(Duration::from_secs(8), 50);
    assert!(counted >= 39 * LOOK, "no more than the time before it showed is taken off: {counted:?}");
}

#[test]
fn a_long_theft_that_fell_in_time_without_cpu_is_no_debt() {
    let (mut clock, mut thief) = (StallClock::default(), Thief::default());
    let (mut at, mut cpu) = (0, 0);
    let mut look = |stolen: u64, ran: u64| {
        (at, cpu) = (at + 10_000_000, cpu + ran);
        clock.with_steal(thief.look(Some(stolen), Monotonic(at)));
        clock.advance(LOOK, task(TaskState::Running, cpu, 0), false);
        clock.counted()
    };
    for _ in 0..100 {
        look(0, 10_000_000);
    }
    let before = look(0, 10_000_000);
    // Three seconds of which the kernel shows nothing, until the CPU is back.
    for _ in 0..300 {
        look(0, 0);
    }
    for _ in 0..50 {
        look(3_000_000_000, 10_000_000);
    }
    let counted = look(3_000_000_000, 10_000_000) - before;
    assert!(counted >= 48 * LOOK, "{counted:?}");
}

#[test]
fn the_first_interval_leaves_no_room_for_what_is_stolen_later() {
    let (mut clock, mut thief) = (StallClock::default(), Thief::default());
    let long = 10 * LOOK;
    let mut at = |stolen: u64, cpu: u64, ms: u64, elapsed| {
        clock.with_steal(thief.look(Some(stolen), Monotonic(ms * 1_000_000)));
        clock.advance(elapsed, task(TaskState::Running, cpu, 0), false);
        clock.counted()
    };
    at(0, 0, 100, long);
    // It had none of it, and the kernel says that it had all.
    assert_eq!(at(100_000_000, 100_000_000, 200, long), Duration::ZERO);
}

#[test]
fn sleeping_time_counts_in_full() {
    let mut clock = StallClock::default();
    for _ in 0..3 {
        clock.advance(LOOK, task(TaskState::Sleeping, 5, 5), false);
    }
    assert_eq!(clock.counted(), 3 * LOOK);
}

#[test]
fn what_may_be_frozen_does_not_count_and_a_wait_for_a_disk_does() {
    let mut clock = StallClock::default();
    let frozen = Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Frozen) };
    assert_eq!(clock.advance(LOOK, task(TaskState::DiskSleep, 5, 5), false), frozen);
    let disk = task(TaskState::DiskSleep, 5, 5)
        .map(|task| TaskObservation { wait: Some(WaitChannel::Other), ..task });
    clock.reset();
    clock.advance(LOOK, disk, false);
    assert_eq!(clock.counted(), LOOK);
}

#[test]
fn burnt_time_counts_in_full() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    clock.advance(LOOK, task(TaskState::Running, 10_000_000, 0), false);
    assert_eq!(clock.counted(), LOOK, "the first look has nothing to be compared with");
}

#[test]
fn runnable_without_cpu_time_is_starved() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Sleeping, 7, 0), false);
    let interval = clock.advance(LOOK, task(TaskState::Running, 7, 0), false);
    assert_eq!(interval, Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Starved) });
}

#[test]
fn cpu_time_that_shows_up_late_counts_after_all() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    for _ in 0..9 {
        clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    }
    assert_eq!(clock.counted(), Duration::ZERO);
    // A tick at last: the thread was running all along.
    clock.advance(LOOK, task(TaskState::Running, 100_000_000, 0), false);
    assert_eq!(clock.counted(), 10 * LOOK);
}

#[test]
fn frozen_time_does_not_count() {
    let mut clock = StallClock::default();
    let frozen =
        task(TaskState::Sleeping, 1, 1).map(|t| TaskObservation { wait: Some(WaitChannel::Frozen), ..t });
    let interval = clock.advance(LOOK, frozen, false);
    assert_eq!(interval, Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Frozen) });
}

#[test]
fn waiting_for_a_cpu_is_taken_off_when_the_counter_catches_up() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Running, 0, 0), false);
    let interval = clock.advance(LOOK, task(TaskState::Running, 1_000_000, 8_000_000), false);
    // It is runnable and may be waiting again: only the CPU time that it used is proved.
    assert_eq!(interval.counted, Duration::from_millis(1));
    assert_eq!(interval.excuse, Some(ExcuseKind::Starved));
    let interval = clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 8_000_000), false);
    assert_eq!(clock.counted(), Duration::from_millis(1), "what it used: {interval:?}");
    clock.advance(LOOK, task(TaskState::Sleeping, 1_000_000, 8_000_000), false);
    assert_eq!(clock.counted(), Duration::from_millis(11), "and from here on it sleeps");
}

#[test]
fn an_interval_that_touches_a_stop_does_not_count() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Stopped, 0, 0), false);
    clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
    assert_eq!(clock.counted(), Duration::ZERO);
    clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
    assert_eq!(clock.counted(), LOOK);
}

#[test]
fn a_late_look_is_void_and_keeps_what_was_counted() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(TaskState::Sleeping, 0, 0), false);
    clock.advance(Duration::from_secs(60), task(TaskState::Sleeping, 0, 0), true);
    assert_eq!(clock.counted(), LOOK);
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Feeds observations to a clock, each with the time since the one before and its counters.
/// Returns the last result and the clock.
fn looks(looks: &[(u64, TaskState, u64, u64)]) -> (Interval, StallClock) {
    let mut clock = StallClock::default();
    let mut last = Interval { counted: Duration::ZERO, excuse: None };
    for (elapsed, state, cpu_ms, delay_ms) in looks {
        let found = task(*state, cpu_ms * 1_000_000, delay_ms * 1_000_000);
        last = clock.advance(millis(*elapsed), found, false);
    }
    (last, clock)
}

use TaskState::{Running, Sleeping, Stopped};

#[test]
fn of_a_thread_that_nobody_has_asked_for_yet_the_first_interval_counts() {
    let mut clock = StallClock::default();
    clock.advance(Duration::ZERO, None, false);
    clock.advance(LOOK, task(Sleeping, 5, 5), false);
    assert_eq!(clock.counted(), LOOK);
}

#[test]
fn the_interval_after_one_without_an_answer_counts_for_nothing() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, None, false);
    clock.advance(LOOK, task(Sleeping, 5, 5), false);
    assert_eq!(clock.counted(), Duration::ZERO, "it may have been stopped when the interval began");
    clock.advance(LOOK, task(Sleeping, 5, 5), false);
    assert_eq!(clock.counted(), LOOK);
}

#[test]
fn who_was_off_the_run_queue_for_long_and_sleeps_now_was_starved() {
    let runs = (10, Running, 0, 0);
    let (last, _) = looks(&[runs, runs, runs, runs, runs, (10, Sleeping, 1, 0)]);
    assert_eq!(last, Interval { counted: millis(1), excuse: Some(ExcuseKind::Starved) });
}

#[test]
fn who_is_seen_running_once_between_two_sleeps_was_not_starved() {
    let (last, _) = looks(&[(4, Sleeping, 0, 0), (15, Running, 0, 0), (5, Sleeping, 0, 0)]);
    assert_eq!(
        last,
        Interval { counted: Duration::ZERO, excuse: None },
        "it may have run for less than a tick"
    );
}

#[test]
fn a_look_without_cpu_time_is_starvation_from_a_tick_on_or_half_of_it_in_the_run_queue() {
    let starved = |elapsed, delay| {
        looks(&[(4, Sleeping, 0, 0), (elapsed, Running, 0, delay)]).0.excuse == Some(ExcuseKind::Starved)
    };
    assert!(starved(10, 0) && !starved(9, 0), "CPU time shows at the tick");
    assert!(starved(4, 3) && !starved(4, 2), "most of the time it waited for a CPU");
}

#[test]
fn starvation_ends_with_half_a_cpu() {
    let starved = |cpu| {
        let (last, _) = looks(&[(4, Sleeping, 0, 0), (10, Running, 0, 0), (10, Running, cpu, 0)]);
        last.excuse == Some(ExcuseKind::Starved)
    };
    assert!(starved(1) && starved(10) && !starved(11));
}

#[test]
fn of_one_who_ran_and_sleeps_now_only_the_cpu_time_counts() {
    let (last, _) = looks(&[(4, Running, 0, 0), (10, Sleeping, 1, 0)]);
    assert_eq!(last.counted, millis(1), "it may have been off the run queue for the rest");
}

#[test]
fn a_span_that_ends_asleep_was_starvation_if_most_of_it_was_spent_in_the_run_queue() {
    let starved =
        |delay| looks(&[(4, Sleeping, 0, 0), (10, Sleeping, 0, delay)]).0.excuse == Some(ExcuseKind::Starved);
    assert!(starved(6) && starved(8) && !starved(5) && !starved(1));
}

#[test]
fn what_is_proved_outlasts_a_stop() {
    let (_, clock) =
        looks(&[(4, Running, 0, 0), (10, Running, 5, 0), (10, Stopped, 5, 0), (10, Sleeping, 5, 0)]);
    assert_eq!((clock.counted(), clock.ran()), (millis(5), millis(5)));
}

#[test]
fn a_silent_kernel_counts_for_nothing() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, None, false);
    assert_eq!(clock.counted(), Duration::ZERO);
}

#[test]
fn starving_that_is_sure_only_a_tick_later_is_named_in_full() {
    let mut clock = StallClock::default();
    clock.advance(LOOK, task(Sleeping, 0, 0), false);
    let mut named = Duration::ZERO;
    for _ in 0..5 {
        let elapsed = millis(4);
        let interval = clock.advance(elapsed, task(Running, 0, 0), false);
        let now = if interval.excuse.is_some() { elapsed - interval.counted } else { Duration::ZERO };
        named += now + clock.named_late();
    }
    assert_eq!(named, millis(20));
}

#[test]
fn who_runs_after_a_look_without_cpu_time_was_not_starved_in_it() {
    let (last, clock) = looks(&[(4, Sleeping, 0, 0), (4, Running, 0, 0), (4, Running, 8, 0)]);
    assert_eq!((last.excuse, clock.named_late()), (None, Duration::ZERO));
}

#[test]
fn who_used_most_of_a_span_was_not_starved_though_the_kernel_keeps_no_count_of_waiting() {
    let silent = |state, cpu_ms: u64| {
        task(state, cpu_ms * 1_000_000, 0).map(|task| TaskObservation { run_delay_ns: None, ..task })
    };
    for (used, excuse) in [(6, None), (4, Some(ExcuseKind::Starved))] {
        let mut clock = StallClock::default();
        clock.advance(LOOK, silent(Running, 0), false);
        let interval = clock.advance(LOOK, silent(Sleeping, used), false);
        assert_eq!(interval, Interval { counted: millis(used), excuse }, "{used} ms");
    }
}
