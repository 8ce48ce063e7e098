//! The stall clock: adds up the time in which a thread at work could have made progress and did not.

use std::time::Duration;

use crate::observation::{TaskObservation, TaskState, WaitChannel};
use crate::verdict::ExcuseKind;

/// Time counted against one piece of standing still.
#[derive(Clone, Debug, Default)]
pub struct StallClock {
    counted: Duration,
    /// Time held back as starved. CPU time that shows up later proves part of that wrong: the counters lag.
    held_back: Duration,
    first: Option<TaskObservation>,
    last: Option<TaskObservation>,
}

/// What one interval between two looks came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// How much of it counted.
    pub counted: Duration,
    /// Why the rest, or all, did not. `None` when every nanosecond counted or too little was lost to name.
    pub excuse: Option<ExcuseKind>,
}

impl StallClock {
    /// Progress, a change of activity or a new incarnation: everything counted is forgotten. Nothing else does this.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Time counted so far.
    pub const fn counted(&self) -> Duration {
        self.counted
    }

    /// Gives back what was held back as starved, as far as the thread turns out to have had the CPU. It burnt that time
    /// without progress, so it counts.
    fn reconcile(&mut self, elapsed: Duration, interval: Interval, task: Option<TaskObservation>) {
        let used = |now: TaskObservation| Some(now.cpu_ns?.saturating_sub(self.last?.cpu_ns?));
        match task.and_then(used) {
            Some(0) if interval.excuse == Some(ExcuseKind::Starved) => self.held_back += elapsed,
            Some(used) if used > 0 => {
                let more = Duration::from_nanos(used).saturating_sub(interval.counted);
                self.counted += more.min(std::mem::take(&mut self.held_back));
            }
            _ => {}
        }
    }

    /// The first and the last look at the kernel's view since the last progress.
    pub const fn looks(&self) -> (Option<TaskObservation>, Option<TaskObservation>) {
        (self.first, self.last)
    }

    /// Accounts for `elapsed` of a thread that has ended: it can excuse nothing any more, but the watchdog's own lateness.
    pub fn advance_gone(&mut self, elapsed: Duration, late: bool) {
        if !late {
            self.counted = self.counted.saturating_add(elapsed);
        }
    }

    /// Accounts for `elapsed` since the last look, at the end of which the kernel says `task`.
    ///
    /// An interval with an unreadable end counts for nothing: a late kill is better than a false one.
    pub fn advance(&mut self, elapsed: Duration, task: Option<TaskObservation>, late: bool) -> Interval {
        let interval = if late {
            Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::ObserverLate) }
        } else {
            countable(elapsed, self.last, task)
        };
        self.counted = self.counted.saturating_add(interval.counted);
        if !late {
            self.reconcile(elapsed, interval, task);
        }
        if let Some(now) = task {
            self.first.get_or_insert(now);
            self.last = Some(now);
        }
        interval
    }
}

/// How much of `elapsed` could have been used for progress.
fn countable(elapsed: Duration, before: Option<TaskObservation>, now: Option<TaskObservation>) -> Interval {
    const NOTHING: Duration = Duration::ZERO;
    let Some(now) = now else { return Interval { counted: NOTHING, excuse: None } };
    // Frozen first: a task that the old freezer holds shows as uninterruptible sleep.
    let held = |task: TaskObservation| match (task.wait, task.state) {
        (Some(WaitChannel::Frozen), _) => Some(ExcuseKind::Frozen),
        // Frozen or waiting for a disk, and the kernel does not say which: a process that may be frozen is not killed (nor
        // would it die of it), and past the cap a person is told.
        (None, TaskState::DiskSleep) => Some(ExcuseKind::Frozen),
        (_, TaskState::Stopped) => Some(ExcuseKind::Stopped),
        (_, TaskState::Traced) => Some(ExcuseKind::Traced),
        _ => None,
    };
    // Held at either end: nobody knows how much of the interval it was free for.
    if let Some(kind) = held(now).or_else(|| before.and_then(held)) {
        return Interval { counted: NOTHING, excuse: Some(kind) };
    }
    let Some(before) = before else { return Interval { counted: elapsed, excuse: None } };
    let grown = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
    let used = grown(now.cpu_ns, before.cpu_ns);
    // The kernel's counters lag while a thread waits for a CPU, so runnable without new CPU time is starved now.
    if now.state == TaskState::Running && used == Some(0) {
        return Interval { counted: NOTHING, excuse: Some(ExcuseKind::Starved) };
    }
    let waited = grown(now.run_delay_ns, before.run_delay_ns).map_or(NOTHING, Duration::from_nanos);
    let counted = elapsed.saturating_sub(waited);
    let excuse = (waited > elapsed / 2).then_some(ExcuseKind::Starved);
    Interval { counted, excuse }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(10);

    fn task(state: TaskState, cpu: u64, delay: u64) -> Option<TaskObservation> {
        Some(TaskObservation { state, cpu_ns: Some(cpu), run_delay_ns: Some(delay), wait: None })
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
        assert_eq!(clock.counted(), 2 * LOOK);
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
        assert_eq!(clock.counted(), LOOK);
        // A tick at last: the thread had the CPU all along.
        clock.advance(LOOK, task(TaskState::Running, 100_000_000, 0), false);
        assert_eq!(clock.counted(), 11 * LOOK);
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
        assert_eq!(interval.counted, Duration::from_millis(2));
        assert_eq!(interval.excuse, Some(ExcuseKind::Starved));
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

    #[test]
    fn a_silent_kernel_counts_for_nothing() {
        let mut clock = StallClock::default();
        clock.advance(LOOK, None, false);
        assert_eq!(clock.counted(), Duration::ZERO);
    }
}
