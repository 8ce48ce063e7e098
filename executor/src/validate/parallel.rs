//! A block on several threads: transactions are settled in order on top of the state that helpers
//! read, and any thread with time to spare seals receipts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Instant;

use super::seal::Seal;
use super::{BlockResult, Run, ValidateError, close};
use crate::block::{Block, Fork};
use crate::parallel::{self, Aside, Batch, Foreseen, Pool, Settle, Settled};
use crate::state::State;
use crate::vm::{Effect, ExecutionEnv, Overlay, Receipt};

/// How many receipts must wait before a helper seals them instead of running ahead. With fewer it
/// would be interrupted for every one.
const PILE: usize = 4;
/// The most receipts that are sealed in one go, at some microseconds each: the owner may be waiting
/// for the thread that seals them.
const IN_ONE_GO: usize = 8;

/// Executes `block` on `state`, which [`super::open`] made, on the calling thread and the helpers
/// of `pool`. Results equal those of [`super::run_in_order`] exactly; `reexecuted` counts
/// transactions that were executed more than once.
///
/// `progress` is called after every transaction settled in block order and for each that this
/// thread executed ahead. Past `until` this thread no longer waits for helpers and executes the
/// rest itself.
pub fn run_parallel(
    pool: &Pool,
    block: &Arc<Block>,
    state: State,
    progress: &dyn Fn(),
    until: Instant,
) -> Result<(BlockResult, State), ValidateError> {
    let env = ExecutionEnv::of(block);
    let base = Arc::new(state);
    let pile = Arc::new(Pile::new(block));
    let mut settling = Settling {
        run: Run::new(block, Overlay::new(&env, Arc::clone(&base))),
        pile: Arc::clone(&pile),
        progress,
    };
    let batch: Arc<dyn Batch> = Arc::clone(block) as Arc<dyn Batch>;
    let again = parallel::run(pool, &env, &batch, &base, &mut settling, until)?;
    drop(base);
    let Settling { mut run, .. } = settling;
    run.reexecuted = again;
    let seal = pile.finish(run.fork, until);
    let receipts = Pile::into_receipts(pile);
    let (mut result, overlay) = run.end(receipts, seal);
    let (base, writes) = overlay.into_parts();
    // This clones only if an abandoned helper still reads the state.
    let mut after = Arc::unwrap_or_clone(base);
    writes.apply_to(&mut after, block.header.beneficiary, block.chain.fork);
    close(block, &mut after, &mut result, progress)?;
    Ok((result, after))
}

impl Run<'_, Overlay<Arc<State>>> {
    /// Like [`Run::still_holds`], but what was read below the overlay cannot have changed.
    fn foreseen_holds(&mut self, foreseen: &Foreseen, place: usize) -> bool {
        let Foreseen { outcome, of_base } = foreseen;
        if !of_base {
            return self.still_holds(outcome, place);
        }
        outcome.index as usize == place
            && matches!(outcome.effect, Effect::Executed { .. })
            && self.executor.view().still_reads(&outcome.reads)
    }
}

struct Settling<'a> {
    run: Run<'a, Overlay<Arc<State>>>,
    pile: Arc<Pile>,
    progress: &'a dyn Fn(),
}

impl Settle for Settling<'_> {
    type Error = ValidateError;

    fn settle(&mut self, place: usize, foreseen: Option<Foreseen>) -> Result<Settled<'_>, ValidateError> {
        let run = &mut self.run;
        let outcome =
            foreseen.filter(|foreseen| run.foreseen_holds(foreseen, place)).map(|foreseen| foreseen.outcome);
        let taken_over = outcome.is_some();
        let receipt = self.run.settle(place, outcome)?;
        (self.progress)();
        let Some(receipt) = receipt else { return Ok(Settled::End) };
        self.pile.push(receipt);
        Ok(if taken_over { Settled::TakenOver } else { Settled::Executed(&self.run.changes) })
    }

    fn progress(&mut self) {
        (self.progress)();
    }

    fn aside(&mut self) -> Option<Arc<dyn Aside>> {
        Some(Arc::clone(&self.pile) as Arc<dyn Aside>)
    }
}

/// The receipts so far, and how many of them are sealed. Only the owner adds receipts.
struct Pile {
    receipts: Box<[OnceLock<Receipt>]>,
    count: AtomicUsize,
    sealing: Mutex<Sealing>,
    /// A copy of the count in `sealing`, readable without the lock.
    sealed: AtomicUsize,
}

struct Sealing {
    /// Taken out while a thread adds receipts to it: a thread that is lost in the middle of a
    /// receipt leaves no seal, rather than one that cannot be trusted.
    seal: Option<Seal>,
    sealed: usize,
}

impl Pile {
    fn new(block: &Block) -> Self {
        Self {
            receipts: block.transactions.iter().map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            sealing: Mutex::new(Sealing { seal: Some(Seal::new(block.chain.fork)), sealed: 0 }),
            sealed: AtomicUsize::new(0),
        }
    }

    fn push(&self, receipt: Receipt) {
        let count = self.count.load(Ordering::Relaxed);
        if let Some(place) = self.receipts.get(count) {
            let _ = place.set(receipt);
            self.count.store(count + 1, Ordering::Release);
        }
    }

    fn from(&self, sealed: usize) -> impl Iterator<Item = &Receipt> {
        let count = self.count.load(Ordering::Acquire);
        self.receipts.iter().take(count).skip(sealed).filter_map(OnceLock::get)
    }

    /// The seal over all receipts. If the sealing thread does not finish in time, it is made anew.
    fn finish(&self, fork: Fork, until: Instant) -> Seal {
        let (mut seal, mut sealed) = (Seal::new(fork), 0);
        loop {
            if let Some(mut sealing) = try_lock(&self.sealing) {
                if let Some(so_far) = sealing.seal.take() {
                    (seal, sealed) = (so_far, sealing.sealed);
                }
                break;
            }
            if Instant::now() >= until {
                break;
            }
            std::hint::spin_loop();
        }
        self.from(sealed).for_each(|receipt| seal.add(receipt));
        seal
    }

    fn into_receipts(this: Arc<Self>) -> Vec<Receipt> {
        match Arc::try_unwrap(this) {
            Ok(pile) => pile.receipts.into_iter().filter_map(OnceLock::into_inner).collect(),
            // An abandoned helper still holds the pile.
            Err(pile) => pile.from(0).cloned().collect(),
        }
    }
}

impl Aside for Pile {
    fn advance(&self, patient: bool) -> bool {
        let waiting = self.count.load(Ordering::Relaxed).saturating_sub(self.sealed.load(Ordering::Relaxed));
        if waiting == 0 || (!patient && waiting < PILE) {
            return false;
        }
        let Some(mut sealing) = try_lock(&self.sealing) else { return false };
        let Some(mut seal) = sealing.seal.take() else { return false };
        let before = sealing.sealed;
        for receipt in self.from(before).take(IN_ONE_GO) {
            seal.add(receipt);
            sealing.sealed += 1;
        }
        sealing.seal = Some(seal);
        self.sealed.store(sealing.sealed, Ordering::Relaxed);
        sealing.sealed > before
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
