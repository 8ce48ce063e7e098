//! Initialises, before timed work, what libraries initialise at their first use.
//!
//! A table for a curve, the set of a fork's precompiles, the first pages of a thread's heap: each
//! is made when it is first needed. Inside a block that time counts against deadlines and against
//! `stall_after`, so a slow enough first use is a stall to the watchdog, and a fresh process that
//! is killed for it meets the same block again. So before a process reports that it runs, it
//! executes blocks of its own ([`block`]), through the same code as any block, on each thread that
//! will execute: every precompile ([`calls`]), every instruction, every fork.
//!
//! A warm-up is never necessary: whatever fails in it, or does not fit into its time, is
//! initialised later, by the first block.

mod block;
mod calls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::parallel::Pool;
use crate::validate;
use crate::vm::{self, ExecutionEnv, TxOutcome};

pub use block::block;
pub use calls::{Call, calls};

/// The extent of a warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmedUp {
    /// Threads that have executed: the calling one, and helpers.
    pub threads: usize,
    /// Forks of which the calling thread has executed a block.
    pub forks: usize,
    /// Transactions that the calling thread has executed in order.
    pub transactions: usize,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for WarmedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, forks, transactions, took } = self;
        write!(
            f,
            "{transactions} transactions of {forks} forks on {threads} threads in {:.1} ms",
            took.as_secs_f64() * 1e3
        )
    }
}

/// Executes, on the calling thread and on each helper of `pool`, what no real block should be the
/// first to execute. Nothing new is begun after `within`; a block that is under way is finished,
/// which takes milliseconds.
pub fn warm_up(pool: &Pool, within: Duration) -> WarmedUp {
    let started = Instant::now();
    let until = started + within;
    let mut done = WarmedUp { threads: 1, ..WarmedUp::default() };
    let blocks: Vec<Arc<Block>> = match block::blocks() {
        Ok(blocks) => blocks.into_iter().map(Arc::new).collect(),
        Err(error) => {
            tracing::warn!(%error, "no block to warm up with");
            return done;
        }
    };
    let Some((full, of_each)) = blocks.split_last() else { return done };
    // All of one block first, in each of the ways; then a little of each fork, so that what small
    // blocks need was used last.
    if in_order(full) {
        done.transactions += full.transactions.len();
    }
    done.threads += on_helpers(pool, full, until);
    in_parts(full);
    together(pool, full, until);
    for block in of_each.iter().map(|block| block::little_of(block)) {
        if Instant::now() >= until {
            break;
        }
        if in_order(&block) {
            done.forks += 1;
            done.transactions += block.transactions.len();
        }
    }
    done.took = started.elapsed();
    done
}

/// As a coordinator and `local` with one thread execute: a whole block, its receipts sealed, its
/// state digested. False: it could not be executed.
fn in_order(block: &Block) -> bool {
    let Ok(mut state) = validate::open(block, None) else { return false };
    let executed = validate::run_in_order(block, &mut state, Vec::new(), &|| {}).is_ok();
    state.digest();
    executed
}

/// As a shard executes: a part on a view that records what is read, with its outcomes encoded as
/// for the network.
fn in_parts(block: &Block) {
    let Ok(state) = validate::open(block, None) else { return };
    let env = ExecutionEnv::of(block);
    let part = (0..).zip(&block.transactions);
    let outcomes = vm::execute_part(&env, part, &state, &mut |_| {});
    let encoded = outcomes.ok().and_then(|outcomes| vm::encode(&outcomes).ok());
    // A coordinator decodes them.
    let _ = encoded.map(|bytes| vm::decode::<Vec<TxOutcome>>(&bytes));
}

/// As an owner with helpers executes.
fn together(pool: &Pool, block: &Arc<Block>, until: Instant) {
    if pool.is_empty() || Instant::now() >= until {
        return;
    }
    if let Ok(state) = validate::open(block, None) {
        // The result is not needed, and an error would occur again in the first block.
        let _ = validate::run_parallel(pool, block, state, &|| {}, until);
    }
}

/// Lets each helper execute all of `block`: if they shared a block, one of them might get nothing
/// to do. Returns how many have executed it.
fn on_helpers(pool: &Pool, block: &Arc<Block>, until: Instant) -> usize {
    let warm = Arc::new(AtomicUsize::new(0));
    let (block, counted) = (Arc::clone(block), Arc::clone(&warm));
    pool.each(until, move || {
        if in_order(&block) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    warm.load(Ordering::Relaxed)
}
