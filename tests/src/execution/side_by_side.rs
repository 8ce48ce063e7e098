//! The machine's limit: the same blocks executed in order on several independent threads.
//!
//! Cores share their cache, their memory and, in a virtual machine, perhaps even one physical core.
//! No way of splitting a block can do better than blocks that need no splitting.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use shard_executor::block::Blocks;
use shard_executor::local::Local;

use super::{Times, once};

/// Far longer than a round takes: it expires only if a thread died.
const PATIENCE: Duration = Duration::from_secs(600);

/// Median milliseconds of each block, in order on each of `threads` threads at the same time; the
/// mean over the threads.
///
/// # Panics
/// If a thread is lost.
#[track_caller]
pub fn in_order(blocks: &Blocks, threads: usize, rounds: u32) -> Vec<f64> {
    let workers: Vec<_> = (0..threads).map(|_| start(blocks.clone(), rounds)).collect();
    // Each round begins when all threads have finished the previous one.
    for _ in 0..rounds {
        for (go, _) in &workers {
            go.try_send(()).expect("a thread that waits");
        }
        for (_, done) in &workers {
            done.recv_timeout(PATIENCE).expect("a round");
        }
    }
    let mut sums = vec![0.0; blocks.len()];
    for (go, done) in workers {
        drop(go);
        let times = done.recv_timeout(PATIENCE).expect("times").expect("the last word");
        for (sum, times) in sums.iter_mut().zip(times) {
            *sum += times.median();
        }
    }
    sums.iter().map(|sum| sum / threads as f64).collect()
}

type Done = Option<Vec<Times>>;

/// A thread that runs all blocks once for each order, and returns its times when the orders end.
fn start(blocks: Blocks, rounds: u32) -> (SyncSender<()>, Receiver<Done>) {
    let (go, told) = sync_channel(1);
    let (say, done) = sync_channel(rounds as usize + 1);
    std::thread::spawn(move || {
        let local = Local::new(1).expect("no threads");
        let mut times = vec![Times::default(); blocks.len()];
        while told.recv_timeout(PATIENCE).is_ok() {
            once(&local, &blocks, &mut times);
            let _ = say.try_send(None);
        }
        let _ = say.try_send(Some(times));
    });
    (go, done)
}
