//! A thread that sleeps in a join can only go on when its workers do. So time in which a worker is
//! kept from running does not count against the thread, as if the thread itself were.
//!
//! For the thread and for each worker the *lost* time is summed: the time that its own stall clock
//! did not count. The thread is charged with all time except the greatest of these losses, and at
//! least with the CPU time that any one of them has used: a worker that uses CPU and gets nowhere
//! could have moved its thread, even if others wait for a CPU. A worker that is asleep loses
//! nothing, and one that has ended is no worker any more: a thread that waits for either is
//! stalled.
//!
//! Workers can only reduce the counted time. Whatever a hostile segment says in its lanes, it
//! causes no verdict that would not have been given without them.

use alloc::vec::Vec;

use core::time::Duration;

use crate::observation::{Presence, TaskObservation, WorkerObservation};
use crate::verdict::ExcuseKind;

use super::stall_clock::{Interval, StallClock};

/// How far the loss of a worker that loses nothing may stay behind the greatest loss. When another
/// one is kept from running next, its loss adds to the earlier loss instead of hiding in it. Not
/// zero, because the counters may show at the next tick, or observation, that time which seemed
/// lost was not. Where no counter can show that later (the thread is held, or could not be read),
/// its loss adds at once.
const BEHIND: Duration = Duration::from_millis(20);

/// Time of one standstill that the thread and its workers could have used.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    /// Time counted against the thread.
    counted: Duration,
    /// All watched time.
    total: Duration,
    /// The greatest loss of all.
    lost: Duration,
    /// The greatest loss among workers that have ended.
    gone: Duration,
    /// The most CPU time used by any one of them.
    ran: Duration,
    own: Loss,
    here: Vec<Worker>,
}

#[derive(Clone, Debug)]
struct Worker {
    key: (u32, u64),
    clock: StallClock,
    loss: Loss,
    present: bool,
    excuse: Option<ExcuseKind>,
}

/// Adjusts the time that a clock did not count: what it adds to it, and from when.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    /// Total watched time when the clock began.
    since: Duration,
    before: Duration,
}

impl Loss {
    fn of(self, total: Duration, clock: &StallClock) -> Duration {
        let all = total.saturating_sub(self.since);
        self.before.saturating_add(all.saturating_sub(clock.counted()))
    }

    /// Raises the loss to at least `least`.
    fn catch_up(&mut self, least: Duration, total: Duration, clock: &StallClock) {
        let missing = least.saturating_sub(self.of(total, clock));
        self.before = self.before.saturating_add(missing);
    }
}

impl Worker {
    /// Processes one observation of it. Before it, `total` was the total time and `lost` the
    /// greatest loss.
    fn advance(
        &mut self,
        elapsed: Duration,
        task: Option<TaskObservation>,
        late: bool,
        lost: Duration,
        total: Duration,
    ) {
        self.excuse = self.clock.advance(elapsed, task, late).excuse;
        if self.clock.is_void() && !late {
            self.loss.catch_up(lost, total, &self.clock);
        }
    }
}

impl Workers {
    /// The thread made progress.
    pub fn reset(&mut self) {
        let mut here = core::mem::take(&mut self.here);
        here.clear();
        *self = Self::default();
        // The allocation is reused.
        self.here = here;
    }

    /// Time counted against the thread.
    pub const fn counted(&self) -> Duration {
        self.counted
    }

    /// The number of workers, and the most CPU time that any one of them has used since the last
    /// progress; `None` without workers.
    pub fn told(&self) -> Option<(usize, Duration)> {
        (!self.here.is_empty()).then_some((self.here.len(), self.ran))
    }

    /// Whether what the hypervisor took of their CPU time is known.
    pub fn are_settled(&self) -> bool {
        self.here.iter().all(|worker| worker.clock.is_settled())
    }

    /// Accounts for `elapsed` since the last observation, for which the thread's own clock, `own`,
    /// has just returned `interval`. `seen` is `None` if its workers could not be read; that does
    /// not mean that any has ended.
    pub fn advance(
        &mut self,
        own: &StallClock,
        interval: Interval,
        seen: Option<&[WorkerObservation]>,
        elapsed: Duration,
        late: bool,
    ) -> Interval {
        let before = core::mem::replace(&mut self.counted, own.counted());
        if own.is_void() && !late {
            self.own.catch_up(self.lost, self.total, own);
        }
        for worker in &mut self.here {
            worker.clock.with_steal(own.steal());
        }
        self.look(seen, elapsed, late);
        if self.here.is_empty() && self.gone.is_zero() {
            self.lost = self.own.of(self.total, own);
            return interval;
        }
        let losses = self.here.iter().map(|worker| worker.loss.of(self.total, &worker.clock));
        self.lost = losses.fold(self.gone.max(self.own.of(self.total, own)), Duration::max);
        let least = self.lost.saturating_sub(BEHIND.max(elapsed * 2));
        self.own.catch_up(least, self.total, own);
        let mut ran = self.ran;
        for worker in &mut self.here {
            worker.loss.catch_up(least, self.total, &worker.clock);
            ran = ran.max(worker.clock.ran());
            if worker.clock.is_settled() {
                self.ran = self.ran.max(worker.clock.ran());
            }
        }
        self.counted = self.counted.min(self.total.saturating_sub(self.lost).max(ran).max(own.ran()));
        if own.is_void() {
            // Time that a worker turns out not to have lost counts at the next observation: no
            // verdict is given while the thread itself is held.
            self.counted = self.counted.min(before);
        }
        let counted = self.counted.saturating_sub(before);
        let kept = if counted < elapsed / 2 { self.why() } else { None };
        Interval { counted, excuse: interval.excuse.or(kept) }
    }

    /// Accounts for the time since the last observation on each worker's own clock.
    fn look(&mut self, seen: Option<&[WorkerObservation]>, elapsed: Duration, late: bool) {
        let since = self.total;
        if !late {
            self.total = self.total.saturating_add(elapsed);
        }
        let Some(seen) = seen else {
            for worker in &mut self.here {
                worker.advance(elapsed, None, late, self.lost, since);
            }
            return;
        };
        for worker in &mut self.here {
            worker.present = false;
        }
        // A worker that has ended is not waiting for a CPU.
        for (guess, seen) in seen.iter().filter(|seen| seen.presence != Presence::Gone).enumerate() {
            let key = (seen.lane, seen.generation);
            let guessed = self.here.get(guess).is_some_and(|worker| worker.key == key).then_some(guess);
            let place = guessed.or_else(|| self.here.iter().position(|worker| worker.key == key));
            let place = place.unwrap_or_else(|| {
                let loss = Loss { since, before: self.lost };
                let clock = StallClock::default();
                self.here.push(Worker { key, clock, loss, present: true, excuse: None });
                self.here.len() - 1
            });
            let Some(worker) = self.here.get_mut(place) else { continue };
            worker.present = true;
            worker.advance(elapsed, seen.task, late, self.lost, since);
        }
        let Self { here, gone, .. } = self;
        here.retain(|worker| {
            if !worker.present {
                *gone = (*gone).max(worker.loss.of(since, &worker.clock));
            }
            worker.present
        });
    }

    /// What keeps the worker with the greatest loss from running.
    fn why(&self) -> Option<ExcuseKind> {
        let kept = self.here.iter().filter(|worker| worker.excuse.is_some());
        kept.max_by_key(|worker| worker.loss.of(self.total, &worker.clock))?.excuse
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::observation::TaskState;

    const LOOK: Duration = Duration::from_millis(10);
    const LOOK_NS: u64 = 10_000_000;

    fn task(state: TaskState, cpu_ns: u64, run_delay_ns: u64) -> TaskObservation {
        TaskObservation { state, cpu_ns: Some(cpu_ns), run_delay_ns: Some(run_delay_ns), wait: None }
    }

    fn worker(lane: u32, task: TaskObservation) -> WorkerObservation {
        WorkerObservation { lane, generation: 1, presence: Presence::Present, task: Some(task) }
    }

    /// A parent asleep for `looks` observations, with the workers that `seen` returns for each.
    fn wait(looks: u64, mut seen: impl FnMut(u64) -> Vec<WorkerObservation>) -> (Workers, Interval) {
        let (mut own, mut workers) = (StallClock::default(), Workers::default());
        let mut last = Interval { counted: Duration::ZERO, excuse: None };
        for look in 0..looks {
            let interval = own.advance(LOOK, Some(task(TaskState::Sleeping, 5, 5)), false);
            last = workers.advance(&own, interval, Some(&seen(look)), LOOK, false);
        }
        (workers, last)
    }

    #[test]
    fn a_worker_that_gets_no_cpu_excuses_the_thread_that_waits_for_it() {
        let (workers, last) = wait(100, |_| vec![worker(1, task(TaskState::Running, 7, 0))]);
        assert_eq!(workers.counted(), Duration::ZERO);
        assert_eq!(last, Interval { counted: Duration::ZERO, excuse: Some(ExcuseKind::Starved) });
    }

    #[test]
    fn a_worker_that_sleeps_or_has_ended_excuses_nothing() {
        let asleep = worker(1, task(TaskState::Sleeping, 7, 3));
        let ended = WorkerObservation { lane: 2, presence: Presence::Gone, task: None, ..asleep };
        for seen in [vec![asleep], vec![ended], vec![asleep, ended], vec![]] {
            let (workers, last) = wait(100, |_| seen.clone());
            assert_eq!(workers.counted(), 100 * LOOK, "{seen:?}");
            assert_eq!(last.excuse, None);
        }
    }

    #[test]
    fn a_starved_worker_excuses_beside_one_that_sleeps() {
        let asleep = worker(1, task(TaskState::Sleeping, 7, 3));
        let (workers, _) = wait(100, |_| vec![asleep, worker(2, task(TaskState::Running, 7, 0))]);
        assert_eq!(workers.counted(), Duration::ZERO);
    }

    #[test]
    fn a_worker_that_burns_cpu_counts_although_another_is_starved() {
        let (workers, last) = wait(100, |look| {
            vec![
                worker(1, task(TaskState::Running, look * LOOK_NS, 0)),
                worker(2, task(TaskState::Running, 7, 0)),
            ]
        });
        assert_eq!(workers.counted(), 99 * LOOK, "the first look has nothing to be compared with");
        assert_eq!(last.excuse, None);
    }

    #[test]
    fn workers_that_are_starved_in_turn_lose_their_time_one_after_the_other() {
        let (workers, _) = wait(200, |look| {
            let waits = |mine| if mine { TaskState::Running } else { TaskState::Sleeping };
            // Its run delay shows only once the wait is over.
            let delay = if look < 100 { 0 } else { 1_000_000_000 };
            vec![worker(1, task(waits(look < 100), 7, delay)), worker(2, task(waits(look >= 100), 7, 0))]
        });
        assert!(workers.counted() <= 2 * BEHIND, "{:?}", workers.counted());
    }

    #[test]
    fn what_a_worker_lost_stays_lost_when_it_has_ended() {
        let (workers, _) = wait(100, |look| {
            let starved = worker(1, task(TaskState::Running, 7, 0));
            if look < 60 { vec![starved] } else { vec![] }
        });
        assert_eq!(workers.counted(), 40 * LOOK);
    }

    #[test]
    fn a_worker_that_cannot_be_looked_at_brings_no_verdict_nearer() {
        let hidden = WorkerObservation { lane: 1, generation: 1, presence: Presence::Unknown, task: None };
        assert_eq!(wait(100, |_| vec![hidden]).0.counted(), Duration::ZERO);
    }

    #[test]
    fn cpu_time_of_a_worker_that_shows_a_look_later_was_not_lost() {
        let long = 10 * LOOK;
        let (mut own, mut workers) = (StallClock::default(), Workers::default());
        for look in 0..13_u64 {
            let interval = own.advance(long, Some(task(TaskState::Sleeping, 5, 5)), false);
            let mut seen = vec![worker(1, task(TaskState::Sleeping, 7, 3))];
            match look {
                0 => seen.push(worker(2, task(TaskState::Sleeping, 0, 0))),
                1 => seen.push(worker(2, task(TaskState::Running, 0, 0))),
                2 => seen.push(worker(2, task(TaskState::Running, 20 * LOOK_NS, 0))),
                _ => {}
            }
            workers.advance(&own, interval, Some(&seen), long, false);
        }
        assert_eq!(workers.counted(), 13 * long, "it ran all along, and then ended");
    }

    #[test]
    fn workers_are_told_apart_in_whatever_order_they_come() {
        let (workers, last) = wait(100, |look| {
            let mut seen = vec![
                worker(1, task(TaskState::Running, look * LOOK_NS, 0)),
                worker(2, task(TaskState::Running, 7, 0)),
            ];
            if look % 2 == 1 {
                seen.reverse();
            }
            seen
        });
        assert_eq!((workers.counted(), last.excuse), (99 * LOOK, None));
    }

    #[test]
    fn workers_that_nobody_could_ask_for_have_not_ended() {
        let (mut own, mut workers) = (StallClock::default(), Workers::default());
        let mut counted = Vec::new();
        for look in 0..30 {
            let asleep = Some(task(TaskState::Sleeping, 5, 5)).filter(|_| look < 20);
            let interval = own.advance(LOOK, asleep, false);
            let starved = [worker(1, task(TaskState::Running, 7, 0))];
            workers.advance(&own, interval, asleep.is_some().then_some(&starved), LOOK, false);
            counted.push(workers.counted());
        }
        assert_eq!(counted, [Duration::ZERO; 30], "nobody saw anything in the last ten");
    }

    #[test]
    fn time_in_which_the_thread_or_a_worker_is_held_never_hides_in_what_another_lost() {
        let asleep = task(TaskState::Sleeping, 5, 5);
        for mine in [true, false] {
            let (mut own, mut workers) = (StallClock::default(), Workers::default());
            for look in 0..40 {
                let held = TaskObservation { state: TaskState::Traced, ..asleep };
                let (thread, second) = match (look, mine) {
                    (30.., true) => (held, asleep),
                    (30.., false) => (asleep, held),
                    _ => (asleep, asleep),
                };
                let interval = own.advance(LOOK, Some(thread), false);
                let mut seen = vec![worker(2, second)];
                if look < 20 {
                    seen.push(worker(1, task(TaskState::Running, 7, 0)));
                }
                workers.advance(&own, interval, Some(&seen), LOOK, false);
            }
            assert_eq!(
                workers.counted(),
                10 * LOOK,
                "between the starved worker's end and the debugger; {mine}"
            );
        }
    }

    #[test]
    fn what_a_worker_turns_out_not_to_have_lost_counts_once_the_thread_itself_is_not_held() {
        let (mut own, mut workers) = (StallClock::default(), Workers::default());
        let asleep = task(TaskState::Sleeping, 5, 5);
        let mut counted = Vec::new();
        for look in 0..8_u64 {
            let held = look == 5;
            let thread = if held { TaskObservation { state: TaskState::Traced, ..asleep } } else { asleep };
            let interval = own.advance(LOOK, Some(thread), false);
            // It uses CPU all along, and the kernel reports that late.
            let cpu = if look < 5 { 0 } else { look * LOOK_NS };
            let seen = [worker(1, task(TaskState::Running, cpu, 0))];
            workers.advance(&own, interval, Some(&seen), LOOK, false);
            counted.push(workers.counted());
        }
        assert_eq!(
            counted[..7],
            [Duration::ZERO; 7],
            "held at the sixth look, and at one end of the seventh"
        );
        assert!(counted[7] >= 5 * LOOK, "{counted:?}");
    }
}
