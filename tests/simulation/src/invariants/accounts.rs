//! What each observation adds to the accounts of the threads: how long each could have run, and
//! what kept it from that. The rules are checked against these accounts afterwards.

use shard_watchdog::observation::{Claim, TaskState, ThreadObservation};

use super::super::deafness::At;
use super::super::observer::words;
use super::super::plan::{Nanos, Plan};
use super::super::pool::{kept, look_at_pool};
use super::super::process::Process;
use super::super::thread::Thread;
use super::super::watchdog::Watchdog;
use super::super::world::Torn;
use super::Invariants;

impl Invariants {
    /// Adds the time since the observation before to the account of each thread.
    pub(super) fn keep_accounts(&mut self, at: At, watchdog: &Watchdog, process: &mut Process, plan: &Plan) {
        let At { now, elapsed, late, torn } = at;
        let unreadable = torn == Torn::Unreadable;
        // A thread that sleeps while another of its process is kept from running, now or as of the
        // last observation, may be waiting for that one.
        let kept: Vec<_> =
            process.threads.iter().map(|thread| kept(thread, seen_of(watchdog, thread))).collect();
        let kept_before = std::mem::replace(&mut self.kept, kept);
        let dumps_core = process.dumps_core(now, &plan.machine);
        for (place, thread) in process.threads.iter_mut().enumerate() {
            (thread.moved, thread.only_seemed_to_move) = (thread.account.moved, thread.account.torn);
            let sure = thread.account.sure;
            let seen = seen_of(watchdog, thread);
            // Words that have not changed cannot be mixed: the judge has seen what is.
            let as_it_is = torn == Torn::Mixed(place) && seen.is_some_and(|seen| is_true(seen, thread));
            let garbage = torn.spoils(place) && !as_it_is;
            look_at_pool(thread, seen.map_or(&[], |seen| &seen.workers), elapsed, late, plan);
            if seen.and_then(|seen| seen.task).is_some_and(|task| task.state == TaskState::Sleeping) {
                self.count_waits_for_others(place, thread, &kept_before);
            }
            if unreadable {
                thread.account.blind_look(elapsed, late);
            } else {
                // For an idle thread that should receive, the kernel is asked for another reason.
                let task = seen.filter(|seen| seen.working()).and_then(|seen| seen.task);
                thread.account.look(elapsed, late, task, &plan.machine);
            }
            if garbage && watchdog.observer.held.is_some() || seen.is_none() {
                forget(thread, garbage, seen.is_none());
            } else if !unreadable && thread.working() {
                thread.account.shows_deadline(thread.deadline);
            }
            if dumps_core && !late && thread.ended.is_none() && thread.claim != Claim::Left {
                thread.account.dumps_core(elapsed, !thread.moved && !garbage);
            }
            let allowed = watchdog.allows(thread);
            thread.account.settle_threshold(allowed, sure);
            thread.account.settle_reload(watchdog.reloads, sure);
        }
    }

    /// Counts how long the sleeping thread at `place` may have waited for others of its process,
    /// which were kept from running now or, by `kept_before`, as of the last observation.
    fn count_waits_for_others(&self, place: usize, thread: &mut Thread, kept_before: &[(Nanos, bool)]) {
        let others = self.kept.iter().enumerate().chain(kept_before.iter().enumerate());
        let others = others.filter(|(other, _)| *other != place).map(|(_, kept)| *kept);
        let (waited, runnable) =
            others.fold((0, false), |(most, any), (waited, kept)| (most.max(waited), any || kept));
        thread.account.others_waited(waited + Nanos::from(runnable), runnable);
    }
}

/// What the watchdog has seen of that thread.
fn seen_of<'w>(watchdog: &'w Watchdog, thread: &Thread) -> Option<&'w ThreadObservation> {
    let mut threads = watchdog.seen.threads.iter();
    threads.find(|seen| (seen.slot, seen.generation) == (thread.slot, thread.generation))
}

/// Whether the observation shows the words that the thread has.
fn is_true(seen: &ThreadObservation, thread: &Thread) -> bool {
    let words = words(thread);
    (seen.activity, seen.progress) == (words.activity, words.progress)
}

/// What the judge knew of the thread and its workers is void, since their words were `garbage` or
/// the thread is `unseen`.
fn forget(thread: &mut Thread, garbage: bool, unseen: bool) {
    let workers = thread.pool.iter_mut().map(|worker| &mut worker.account);
    for account in std::iter::once(&mut thread.account).chain(workers) {
        account.forgotten();
        (account.moved, account.torn) = (true, garbage);
    }
    if unseen {
        thread.account.unknown();
    }
}
