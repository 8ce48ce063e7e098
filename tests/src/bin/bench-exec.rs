//! How fast blocks are executed: in order on one thread, on several threads of one process, and over a cluster.
//!
//! The same blocks run in every way, in turn, many times over. What is timed in one process is a block from its state to
//! its receipts root and the state after it: system calls, transactions, receipts, bloom, root. Neither reading the block's
//! file and building its state from it nor the digest that only this project prints is part of it.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_executor::block::{Block, load_chain};
use shard_executor::local::Local;
use shard_executor::validate;

#[derive(Debug, Parser)]
#[command(about = "Mgas/s of sequential, parallel and sharded execution of the same blocks")]
struct Args {
    /// Real blocks; without them only generated ones run
    #[arg(long, env = "SHARD_BLOCKS", value_name = "PATH")]
    blocks: Option<PathBuf>,
    /// How often each block runs in each way
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=1000))]
    rounds: u32,
    /// Up to how many threads
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=64))]
    threads: u64,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() {
    let args = Args::parse();
    let mut figures = Map::new();
    if let Some(path) = &args.blocks {
        let blocks = load_chain(path).expect("blocks");
        let ways: Vec<(String, Local)> = std::iter::once(1)
            .chain(2..=args.threads as usize)
            .map(|threads| (format!("{threads} threads"), Local::with_threads(1, threads).expect("threads")))
            .collect();
        let all = times(&blocks, &ways, args.rounds);
        let mut total = vec![0.0; ways.len()];
        for (block, times) in blocks.iter().zip(&all) {
            print!(
                "block {:>9} {:>5} txs {:>8.2} Mgas",
                block.number(),
                block.transactions.len(),
                block.expected.gas_used as f64 / 1e6
            );
            for (n, (ms, again)) in times.iter().enumerate() {
                print!("  {ms:>8.2} ms x{:.2} ({again})", times[0].0 / ms);
                if block.transactions.len() >= 100 {
                    total[n] += ms;
                }
            }
            println!();
            figures.insert(
                block.number().to_string(),
                json!(times.iter().map(|t| times[0].0 / t.0).collect::<Vec<_>>()),
            );
        }
        println!("total {:?} x{:.3}", total, total[0] / total[1]);
    }
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text).expect("write");
    }
}

fn times(blocks: &[Arc<Block>], ways: &[(String, Local)], rounds: u32) -> Vec<Vec<(f64, usize)>> {
    let mut all = vec![vec![(Vec::new(), 0); ways.len()]; blocks.len()];
    for _ in 0..rounds {
        for (way, (_, local)) in ways.iter().enumerate() {
            // All states first, so that no thread finds the one it needs next still in its cache.
            let states: Vec<_> =
                blocks.iter().map(|block| validate::open(block, None).expect("state")).collect();
            for ((block, state), all) in blocks.iter().zip(states).zip(&mut all) {
                let began = Instant::now();
                let (result, _state) = local.execute(block, state, &|| {}).expect("executed");
                all[way].0.push(began.elapsed().as_secs_f64() * 1e3);
                assert!(
                    result.mismatch.is_none(),
                    "block {} is wrong: {:?}",
                    block.number(),
                    result.mismatch
                );
                all[way].1 = result.reexecuted;
            }
        }
    }
    all.into_iter()
        .map(|ways| {
            ways.into_iter()
                .map(|(mut times, again): (Vec<f64>, usize)| {
                    times.sort_by(f64::total_cmp);
                    (times[times.len() / 2], again)
                })
                .collect()
        })
        .collect()
}
