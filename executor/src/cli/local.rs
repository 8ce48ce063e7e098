//! `local`: does the coordinator's work in one process, without a network.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use shard_executor::block::load_chain;
use shard_executor::deadline;
use shard_executor::faults::{Faults, LastWords, Order, Role};
use shard_executor::local::{Local, ROUNDS};
use shard_executor::report::Reporter;
use shard_executor::validate::ValidateError;

use super::exit::{BAD_INPUT, NOT_EXECUTED, VERIFIED, WRONG_BLOCK, fail};
use super::rounds::MOST_ROUNDS;

/// More threads than any machine has cores only cost memory.
const MOST_SHARDS: i64 = 256;
/// More helpers than this stand in each other's way at any conflict rate.
const MOST_THREADS: i64 = 64;

/// Execute blocks in this process, without a network.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A block file (.json, .json.gz) or a folder of them
    #[arg(long, env = "SHARD_EXECUTOR_BLOCKS", value_name = "PATH")]
    blocks: PathBuf,
    /// How many parts to execute at the same time; 1 part on one thread is sequential execution,
    /// the reference
    #[arg(long, env = "SHARD_EXECUTOR_SHARDS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MOST_SHARDS))]
    shards: u16,
    /// Threads of each shard; with one shard they execute the whole block
    #[arg(long, env = "SHARD_EXECUTOR_THREADS", value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS))]
    threads: u16,
    /// Maximum number of rounds in which shards execute a block: transactions that are stale after
    /// a round go to the shards again; those left after the last are executed in order
    #[arg(long, env = "SHARD_EXECUTOR_ROUNDS", value_name = "N", default_value_t = ROUNDS,
          value_parser = clap::value_parser!(u32).range(1..=MOST_ROUNDS))]
    rounds: u32,
    /// How many times to execute all blocks; the first time includes the costs of a fresh process
    #[arg(long, env = "SHARD_EXECUTOR_REPEAT", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Order to carry out before anything is executed, as for a shard
    #[arg(long, value_name = "ORDER", hide = true)]
    arm: Vec<Order>,
    /// Print one JSON object per block instead of a line of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let blocks = match load_chain(&args.blocks) {
        Ok(blocks) => blocks,
        Err(error) => return fail(BAD_INPUT, &error),
    };
    let local = match Local::with_threads(usize::from(args.shards), usize::from(args.threads)) {
        Ok(local) => local.with_rounds(args.rounds),
        Err(error) => {
            return fail(
                NOT_EXECUTED,
                &format!(
                    "cannot start {} threads for each of {} shards: {error}. Try fewer with --threads or --shards.",
                    args.threads, args.shards
                ),
            );
        }
    };
    let faults = Faults::inert(Role::Shard, crossbeam_channel::bounded(1).0);
    if let Err(error) = faults.obey_all(&args.arm) {
        return fail(BAD_INPUT, &format!("--arm: {error}."));
    }
    let mut words = LastWords::default();
    let warmed = local.warm_up(deadline::WARM_UP);
    tracing::debug!(%warmed, "warmed up");
    let all = blocks.len().saturating_mul(args.repeat as usize);
    let mut reporter = Reporter::new(args.json, all);
    for _ in 0..args.repeat {
        let mut state = None;
        for block in &blocks {
            if faults.point(block.number(), 1, None, &mut words).is_err() {
                return ExitCode::from(NOT_EXECUTED);
            }
            match local.run(block, state.take(), &|| {}) {
                Ok((report, after)) => {
                    if let Err(error) = reporter.block(&report) {
                        return output_closed(&error);
                    }
                    state = Some(after);
                }
                Err(ValidateError::Block(error)) => return fail(BAD_INPUT, &error),
                Err(error) => {
                    return fail(
                        NOT_EXECUTED,
                        &format!(
                            "{error}. The block was not executed; check that {} is complete.",
                            block.path.display()
                        ),
                    );
                }
            }
        }
    }
    if let Err(error) = reporter.end() {
        return output_closed(&error);
    }
    ExitCode::from(if reporter.all_verified() { VERIFIED } else { WRONG_BLOCK })
}

/// Whoever reads the output has gone, as with `| head`: there is nobody to tell, and the blocks
/// that remain stay unexecuted.
fn output_closed(error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::from(NOT_EXECUTED);
    }
    fail(NOT_EXECUTED, &format!("cannot write to standard output: {error}."))
}
