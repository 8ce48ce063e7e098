//! A fault on purpose, which every run with it must find: a simulation that reports nothing may be
//! one that can find nothing.

use shard_watchdog::observation::{Observation, TaskObservation, TaskState, WaitChannel};

use super::plan::MS;

/// For this long the observations are true, and then for as long they are not.
const TURN: u64 = 100 * MS;

/// What the judge is told instead of `seen`: for half of the time whoever is stopped, traced,
/// frozen or without a CPU sleeps on a lock. So half of the time that should be excused counts.
pub fn mislead(seen: &Observation) -> Observation {
    let mut told = seen.clone();
    if (seen.at.0 / TURN).is_multiple_of(2) {
        return told;
    }
    for thread in &mut told.threads {
        let workers = thread.workers.iter_mut().filter_map(|worker| worker.task.as_mut());
        thread.task.iter_mut().chain(workers).for_each(asleep);
    }
    told
}

fn asleep(task: &mut TaskObservation) {
    let held = matches!(task.wait, Some(WaitChannel::Frozen | WaitChannel::Memory));
    if held || matches!(task.state, TaskState::Running | TaskState::Stopped | TaskState::Traced) {
        (task.state, task.wait) = (TaskState::Sleeping, Some(WaitChannel::Futex));
    }
}
