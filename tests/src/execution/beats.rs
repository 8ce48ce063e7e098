//! What heartbeats cost an executor: the same block with a beat after each transaction and without,
//! one right after the other.
//!
//! It compares the thread's CPU time, not wall time: what other processes take from the thread is
//! not caused by a beat, while a cache line that the sidecar takes is.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shard_executor::block::Blocks;
use shard_executor::local::Local;
use shard_executor::validate;
use shard_heartbeat::{ThreadBeat, Work};

use crate::figures;

/// Beats in one batch; the batch's time gives the time of one beat.
const BEATS: u32 = 1_000_000;

/// No further round begins after this time: a person waiting for the figures waits about a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// The measured cost.
#[derive(Debug, Deserialize, Serialize)]
pub struct Cost {
    /// Percent that the beats added, one entry per pair of runs, sorted.
    pub pairs: Vec<f64>,
    /// Nanoseconds per beat, the median of several batches.
    pub beat_ns: f64,
    /// The cost of a block's beats computed from that, in percent of the block.
    pub by_count: f64,
}

impl Cost {
    /// The median of the pairs with its 95 % confidence interval: lower end, median, upper end.
    pub fn median(&self) -> (f64, f64, f64) {
        let n = self.pairs.len() as f64;
        // Ranks around the median are distributed like the heads of as many coin tosses.
        let off = 0.98 / n.sqrt();
        let at = |q: f64| figures::quantile(&self.pairs, q.clamp(0.0, 1.0));
        (at(0.5 - off), at(0.5), at(0.5 + off))
    }
}

/// Runs `blocks`, a chain, in pairs for this many rounds, or as many as time allows.
///
/// # Panics
/// If a block cannot be executed.
#[track_caller]
pub fn measure(beat: &ThreadBeat, blocks: &Blocks, rounds: u32) -> Cost {
    let local = Local::new(1).expect("no threads");
    let (mut pairs, mut without) = (Vec::new(), Vec::new());
    let until = Instant::now() + LONGEST;
    for round in (0..rounds).take_while(|_| Instant::now() < until) {
        let mut previous = None;
        for (at, block) in blocks.iter().enumerate() {
            let state = validate::open(block, previous.take()).expect("a state");
            let mut off_and_on = [0.0; 2];
            // For each block, either goes first equally often.
            let first = (round as usize + at) % 2;
            for on in [first, 1 - first] {
                let state = state.clone();
                let began = cpu_seconds();
                let (_, after) = if on == 1 {
                    let _working = beat.working(Work::new(block.number()));
                    local.execute(block, state, &|| beat.progress()).expect("executed")
                } else {
                    local.execute(block, state, &|| {}).expect("executed")
                };
                off_and_on[on] = cpu_seconds() - began;
                previous = Some(after);
            }
            pairs.push(100.0 * (off_and_on[1] / off_and_on[0] - 1.0));
            without.push(off_and_on[0]);
        }
    }
    pairs.sort_by(f64::total_cmp);
    without.sort_by(f64::total_cmp);
    let beat_ns = beat_ns(beat);
    let beats =
        blocks.iter().map(|block| block.transactions.len()).sum::<usize>() as f64 / blocks.len() as f64;
    let by_count = 100.0 * beat_ns * beats / (figures::quantile(&without, 0.5) * 1e9);
    Cost { pairs, beat_ns, by_count }
}

fn beat_ns(beat: &ThreadBeat) -> f64 {
    let _working = beat.working(Work::new(0));
    let mut batches: Vec<f64> = (0..21)
        .map(|_| {
            let began = cpu_seconds();
            for _ in 0..BEATS {
                black_box(beat).progress();
            }
            (cpu_seconds() - began) * 1e9 / f64::from(BEATS)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    figures::quantile(&batches, 0.5)
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
