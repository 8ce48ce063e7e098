//! The workers of a thread, beside the true state of the thread itself.

use std::time::Duration;

use shard_watchdog::observation::{TaskObservation, TaskState, ThreadObservation, WorkerObservation};
use shard_watchdog::verdict::ExcuseKind;

use super::account::{Account, held};
use super::plan::{MS, Nanos, Plan};
use super::thread::Thread;

/// Observes the workers of a thread, before the thread itself is observed.
pub fn look_at_pool(
    thread: &mut Thread,
    seen: &[WorkerObservation],
    elapsed: Nanos,
    late: bool,
    plan: &Plan,
) {
    let waited = thread.pool.iter().map(|worker| worker.account.kept_now()).max().unwrap_or_default();
    let runnable = seen.iter().any(|seen| seen.task.is_some_and(|task| task.state == TaskState::Running));
    // Without a run-queue time counter, only workers that sleep all along are known not to have
    // waited.
    let unknown = !plan.machine.schedstat && thread.pool.iter().any(|worker| worker.wants_cpu_at_times());
    thread.account.workers_waited(waited + Nanos::from(unknown), runnable, !thread.pool.is_empty());
    // An excuse lasts until an observation no longer shows its reason.
    let held = seen.iter().filter_map(|seen| held(seen.task?)).next();
    for kind in [held, std::mem::replace(&mut thread.worker_held, held)].into_iter().flatten() {
        thread.account.worker_held(kind, elapsed);
    }
    for worker in &mut thread.pool {
        let seen = seen.iter().find(|seen| (seen.lane, seen.generation) == (worker.slot, worker.generation));
        worker.account.look(elapsed, late, seen.and_then(|seen| seen.task), &plan.machine);
    }
    let traced = thread.pool.iter().any(|worker| worker.account.tracer_comes_and_goes());
    thread.account.workers_are_traced(traced);
}

/// How long a thread, or one of its workers, has been kept from running since the last observation,
/// and whether this one shows that one of them may be waiting for a CPU.
pub fn kept(thread: &Thread, seen: Option<&ThreadObservation>) -> (Nanos, bool) {
    let accounts = std::iter::once(thread).chain(&thread.pool).map(|thread| &thread.account);
    let waited = accounts.map(Account::kept_now).max().unwrap_or_default();
    let tasks = seen
        .into_iter()
        .flat_map(|seen| std::iter::once(seen.task).chain(seen.workers.iter().map(|worker| worker.task)));
    let keeps = |task: TaskObservation| {
        task.state == TaskState::Running || held(task) == Some(ExcuseKind::MemoryThrottled)
    };
    (waited, tasks.flatten().any(keeps))
}

/// Time that a worker on a CPU may seem to have lost without having lost it: the first observation
/// has nothing to compare with, and its CPU time lags wherever a count begins.
pub fn lag_of_pool(thread: &Thread, threshold: Duration, plan: &Plan) -> Duration {
    let ran = thread.pool.iter().any(Thread::wants_cpu_at_times) || thread.account.mixed;
    if thread.pool.is_empty() || !ran {
        return Duration::ZERO;
    }
    let sample = (u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX) / 125).clamp(4 * MS, 50 * MS)
        + plan.machine.jitter;
    Duration::from_nanos(thread.account.lag + 2 * plan.machine.lag() + 2 * sample.max(thread.account.longest))
}
