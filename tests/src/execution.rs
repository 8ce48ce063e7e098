//! Runs the same blocks in several ways and times each: the basis of `bench-exec`.

pub mod beats;
pub mod cold;
pub mod over_cluster;
pub mod side_by_side;
pub mod slow;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use shard_executor::block::{self, Block, Blocks};
use shard_executor::generate::{Generator, Plan};
use shard_executor::local::Local;
use shard_executor::state::State;
use shard_executor::validate;

/// Timings of one block, executed in one way.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Milliseconds, one entry per round.
    pub milliseconds: Vec<f64>,
    /// Transactions executed more than once, over all rounds.
    pub again: usize,
}

impl Times {
    /// The median, in milliseconds.
    pub fn median(&self) -> f64 {
        let mut sorted = self.milliseconds.clone();
        sorted.sort_by(f64::total_cmp);
        crate::figures::quantile(&sorted, 0.5)
    }
}

/// Generates a chain.
///
/// # Panics
/// If it cannot be made.
#[track_caller]
pub fn generated(plan: Plan, blocks: usize) -> Blocks {
    let mut generator = Generator::new(plan);
    (0..blocks).map(|_| Arc::new(generator.next_block().expect("a block"))).collect()
}

/// Writes blocks to a folder from which the real binaries can read them.
///
/// # Panics
/// If they cannot be written.
#[track_caller]
pub fn write(blocks: &Blocks, folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    for one in blocks {
        let path = folder.join(format!("{}.json", one.number()));
        block::write(one, &path).expect("a block file");
    }
}

/// Runs `blocks` once with `local` and adds the time of each to `times`: from the state before to
/// the receipts root and the state after. For all blocks with a state of their own, that state is
/// built beforehand, so that none is still in a processor's cache when its turn comes.
///
/// # Panics
/// If a block comes out wrong: its time would mean nothing.
#[track_caller]
pub fn once(local: &Local, blocks: &Blocks, times: &mut [Times]) {
    let mut states: Vec<Option<State>> = blocks.iter().map(|block| own_state(block)).collect();
    let mut previous = None;
    for ((block, state), times) in blocks.iter().zip(&mut states).zip(times) {
        let before = previous.take();
        let began = Instant::now();
        let state = match state.take() {
            Some(state) => state,
            None => validate::open(block, before).expect("a state"),
        };
        let (result, after) = local.execute(block, state, &|| {}).expect("executed");
        times.milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(result.mismatch.is_none(), "block {} is wrong: {:?}", block.number(), result.mismatch);
        times.again += result.reexecuted;
        previous = Some(after);
    }
}

fn own_state(block: &Block) -> Option<State> {
    block.pre.as_ref()?;
    Some(validate::open(block, None).expect("a state"))
}
