//! One running batch: which thread executes which transaction, and the outcomes so far.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::memory::Memory;
use super::pool::{Help, NoBeat, WorkerBeat};
use super::settle::{Aside, Foreseen, Settle, Settled};
use super::view::Ahead;
use crate::validate::holds;
use crate::vm::{Effect, ExecutionEnv, Executor, StateView};

/// How often the owner polls a transaction that another thread is executing before it sleeps: some
/// ten microseconds. That is less than falling asleep and waking up costs, and as long as a typical
/// transaction takes.
const LOOKS_BEFORE_SLEEP: u32 = 2_000;
/// The longest sleep of the owner. A thread that finishes wakes the owner; this bounds the loss if
/// it does so just before the owner falls asleep.
const SLEEP: Duration = Duration::from_micros(200);
/// How long an idle helper sleeps once it has polled that often. Nobody wakes it: it has run out of
/// work because the batch is about to end or the owner must execute a long transaction first.
const HELPER_SLEEP: Duration = Duration::from_micros(50);

/// The phase of a transaction.
mod phase {
    /// No thread has begun it.
    pub(super) const WAITING: u8 = 0;
    /// A thread is executing it ahead.
    pub(super) const RUNNING: u8 = 1;
    /// It has an outcome.
    pub(super) const DONE: u8 = 2;
    /// It cannot be executed ahead; it is left to the owner.
    pub(super) const LEFT: u8 = 3;
    /// The owner has settled it or is settling it.
    pub(super) const SETTLED: u8 = 4;
}

#[derive(Default)]
struct Slot {
    phase: AtomicU8,
    foreseen: Mutex<Option<Foreseen>>,
}

pub(super) struct Speculation<V> {
    env: ExecutionEnv,
    batch: Arc<dyn Batch>,
    base: Arc<V>,
    memory: Arc<Memory>,
    slots: Box<[Slot]>,
    /// The next transaction that no thread has begun.
    next: AtomicUsize,
    /// The first transaction that may have read outdated values.
    suspect: AtomicUsize,
    ended: AtomicBool,
    owner: Thread,
    /// The place whose transaction the sleeping owner waits for; `usize::MAX`: it is not sleeping.
    awaited: AtomicUsize,
    aside: Option<Arc<dyn Aside>>,
    /// Executions whose outcome was discarded.
    again: AtomicUsize,
}

impl<V: StateView + Send + Sync + 'static> Speculation<V> {
    /// A speculation owned by the calling thread.
    pub(super) fn new(
        env: &ExecutionEnv,
        batch: Arc<dyn Batch>,
        base: Arc<V>,
        memory: Memory,
        aside: Option<Arc<dyn Aside>>,
    ) -> Self {
        let places = batch.len();
        Self {
            env: env.clone(),
            batch,
            base,
            memory: Arc::new(memory),
            slots: (0..places).map(|_| Slot::default()).collect(),
            // The first transaction is the owner's.
            next: AtomicUsize::new(1),
            suspect: AtomicUsize::new(usize::MAX),
            ended: AtomicBool::new(false),
            owner: thread::current(),
            awaited: AtomicUsize::new(usize::MAX),
            aside,
            again: AtomicUsize::new(0),
        }
    }

    /// The batch's memory; `None` if a helper still uses it.
    pub(super) fn into_memory(self) -> Option<Memory> {
        Arc::into_inner(self.memory)
    }

    /// How many transactions were executed more than once.
    pub(super) fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// Ends the batch: nothing executed from now on is of use.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// The owner's loop over the batch.
    pub(super) fn own<S: Settle>(&self, settle: &mut S, until: Instant) -> Result<(), S::Error> {
        let mut ahead = None;
        for (place, slot) in self.slots.iter().enumerate() {
            self.next.fetch_max(place + 1, Ordering::AcqRel);
            let foreseen = self.claim(place, slot, settle, &mut ahead, until);
            let executed = foreseen.is_some();
            match settle.settle(place, foreseen)? {
                Settled::TakenOver | Settled::Nothing => {}
                Settled::Executed(changes) => {
                    self.again.fetch_add(usize::from(executed), Ordering::Relaxed);
                    if !self.is_light(place) {
                        self.memory.publish(place, changes, &*self.base);
                        self.suspect_after(place);
                    }
                }
                Settled::End => break,
            }
        }
        Ok(())
    }

    /// Takes the transaction at the head for the owner, waiting for the thread that executes it.
    fn claim<S: Settle>(
        &self,
        place: usize,
        slot: &Slot,
        settle: &mut S,
        ahead: &mut Option<Executor<'static, Ahead<V>>>,
        until: Instant,
    ) -> Option<Foreseen> {
        let mut looks = 0;
        loop {
            let phase = slot.phase.load(Ordering::Acquire);
            if phase != phase::RUNNING {
                if slot
                    .phase
                    .compare_exchange(phase, phase::SETTLED, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
                {
                    return lock(&slot.foreseen).take();
                }
                continue;
            }
            // Another thread is executing it. Do other work as long as there is some.
            if looks == 0 {
                if self.run_next(ahead.get_or_insert_with(|| self.executor()), &NoBeat) {
                    settle.progress();
                    continue;
                }
                if self.aside.as_ref().is_some_and(|aside| aside.advance(true)) {
                    settle.progress();
                    continue;
                }
            }
            looks += 1;
            if looks < LOOKS_BEFORE_SLEEP {
                std::hint::spin_loop();
                continue;
            }
            if Instant::now() >= until {
                // That thread will find that the transaction is settled.
                slot.phase.store(phase::SETTLED, Ordering::Release);
                return None;
            }
            self.awaited.store(place, Ordering::SeqCst);
            if slot.phase.load(Ordering::SeqCst) == phase::RUNNING {
                thread::park_timeout(SLEEP);
            }
            self.awaited.store(usize::MAX, Ordering::SeqCst);
        }
    }

    fn executor(&self) -> Executor<'static, Ahead<V>> {
        let ahead = Ahead {
            place: 0,
            memory: Arc::clone(&self.memory),
            base: Arc::clone(&self.base),
            beneficiary: self.env.header.beneficiary,
            versions: Cell::new(false),
        };
        Executor::new(&self.env, ahead)
    }

    /// Executes the next transaction that no thread has begun; false if there is none.
    fn run_next(&self, executor: &mut Executor<'static, Ahead<V>>, beat: &dyn WorkerBeat) -> bool {
        // Not beyond the end: this is called again and again.
        if self.next.load(Ordering::Acquire) >= self.slots.len() {
            return false;
        }
        let place = self.next.fetch_add(1, Ordering::AcqRel);
        let Some(slot) = self.slots.get(place) else { return false };
        if self.is_light(place) {
            return true;
        }
        if slot
            .phase
            .compare_exchange(phase::WAITING, phase::RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.run(executor, beat, place, slot);
        }
        true
    }

    /// Whether a transaction is so short that the owner can execute it faster than take over
    /// another thread's outcome: without call data it is seldom more than a transfer.
    fn is_light(&self, place: usize) -> bool {
        self.batch
            .get(place)
            .is_none_or(|(_, transaction)| transaction.input.is_empty() && transaction.to.is_some())
    }

    /// Executes one transaction ahead. The calling thread has claimed it.
    fn run(
        &self,
        executor: &mut Executor<'static, Ahead<V>>,
        beat: &dyn WorkerBeat,
        place: usize,
        slot: &Slot,
    ) {
        let handing_over = HandOver { speculation: self, place, slot };
        beat.begin();
        {
            let mut view = executor.view();
            view.place = place;
            view.versions.set(false);
        }
        let outcome = self
            .batch
            .get(place)
            .and_then(|(index, transaction)| executor.execute(index, transaction).ok())
            // An invalid one may become valid once earlier transactions have been executed.
            .filter(|outcome| matches!(outcome.effect, Effect::Executed { .. }));
        let of_base = !executor.view().versions.get();
        handing_over.finish(outcome.map(|outcome| Foreseen { outcome, of_base }));
    }

    /// Marks the transactions after `place` as suspect: those already executed may have missed its
    /// new writes.
    fn suspect_after(&self, place: usize) {
        if self.next.load(Ordering::Acquire) > place + 1 {
            self.suspect.fetch_min(place + 1, Ordering::AcqRel);
        }
    }

    /// Checks whether the first suspect still holds, and executes it again if not; false if there
    /// is no suspect.
    fn look_at_suspect(&self, executor: &mut Executor<'static, Ahead<V>>, beat: &dyn WorkerBeat) -> bool {
        let place = self.suspect.load(Ordering::Acquire);
        if place >= self.slots.len() {
            return false;
        }
        if place >= self.next.load(Ordering::Acquire) {
            // All that have begun have been checked.
            let _ = self.suspect.compare_exchange(place, usize::MAX, Ordering::AcqRel, Ordering::Relaxed);
            return false;
        }
        if self.suspect.compare_exchange(place, place + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return true;
        }
        let Some(slot) = self.slots.get(place) else { return false };
        if slot.phase.load(Ordering::Acquire) != phase::DONE {
            return true;
        }
        executor.view().place = place;
        let stale = {
            let foreseen = lock(&slot.foreseen);
            foreseen
                .as_ref()
                .is_some_and(|Foreseen { outcome, .. }| !holds(&outcome.reads, &*executor.view()))
        };
        if stale
            && slot
                .phase
                .compare_exchange(phase::DONE, phase::RUNNING, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            self.again.fetch_add(1, Ordering::Relaxed);
            self.run(executor, beat, place, slot);
        }
        true
    }
}

impl<V: StateView + Send + Sync + 'static> Help for Speculation<V> {
    fn help(&self, beat: &dyn WorkerBeat) {
        let mut executor = self.executor();
        let mut looks = 0;
        while !self.ended.load(Ordering::Acquire) {
            let aside = |patient| self.aside.as_ref().is_some_and(|aside| aside.advance(patient));
            if aside(false)
                || self.look_at_suspect(&mut executor, beat)
                || self.run_next(&mut executor, beat)
                || aside(true)
            {
                beat.progress();
                looks = 0;
            } else if looks < LOOKS_BEFORE_SLEEP {
                looks += 1;
                std::hint::spin_loop();
            } else {
                thread::park_timeout(HELPER_SLEEP);
            }
        }
    }
}

/// Frees the place of a transaction however its execution ends: without an outcome it is left to
/// the owner.
struct HandOver<'a, V> {
    speculation: &'a Speculation<V>,
    place: usize,
    slot: &'a Slot,
}

impl<V: StateView + Send + Sync + 'static> HandOver<'_, V> {
    fn finish(self, foreseen: Option<Foreseen>) {
        let Some(foreseen) = foreseen else { return };
        if self.slot.phase.load(Ordering::Acquire) != phase::RUNNING {
            // The owner has stopped waiting and settled it.
            return;
        }
        if let Effect::Executed { changes, .. } = &foreseen.outcome.effect {
            self.speculation.memory.publish(self.place, changes, &*self.speculation.base);
        }
        *lock(&self.slot.foreseen) = Some(foreseen);
        let done = self.slot.phase.compare_exchange(
            phase::RUNNING,
            phase::DONE,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if done.is_ok() {
            self.speculation.suspect_after(self.place);
        }
    }
}

impl<V> Drop for HandOver<'_, V> {
    fn drop(&mut self) {
        let _ = self.slot.phase.compare_exchange(
            phase::RUNNING,
            phase::LEFT,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if self.speculation.awaited.load(Ordering::SeqCst) == self.place {
            self.speculation.owner.unpark();
        }
    }
}

/// A thread that panicked while holding the lock has left the place empty or intact.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
