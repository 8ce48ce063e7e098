//! `generate`: makes a synthetic chain in the format that `local` and `coordinator` read.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use shard_executor::block::{self, Fork};
use shard_executor::generate::{FIRST_FORK, Generator, Kind, LAST_FORK, MAX_TRANSACTIONS, Plan};
use shard_executor::progress::Progress;

use super::exit::{BAD_INPUT, NOT_EXECUTED, VERIFIED, fail};

/// Generate a chain of blocks to execute.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write the blocks to; created if it does not exist
    #[arg(long, env = "SHARD_EXECUTOR_OUT", value_name = "DIR")]
    out: PathBuf,
    /// How many blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    blocks: u32,
    /// How many transactions per block
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_TRANSACTIONS)))]
    txs: u32,
    /// What the transactions do: send ether, send tokens, swap tokens in a pool, or a third of each
    #[arg(long, value_name = "KIND", default_value = "mixed", value_parser = kinds())]
    kind: Kind,
    /// The share of transactions that pay one of a few popular accounts, or swap in a popular pool,
    /// 0 to 1; at 0 the beneficiary is the only state that two transactions of a block share
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    conflict: f64,
    /// How unevenly popularity is distributed, 0 to 10: the exponent of Zipf's law; at 0 all are
    /// equally popular
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0, value_parser = exponent)]
    skew: f64,
    /// The fork whose rules apply to the chain
    #[arg(long, value_name = "FORK", default_value_t = Fork::Prague, value_parser = fork)]
    fork: Fork,
    /// Seed; the same seed generates the same chain
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Leave out the proofs of the state before each block and of its root after it: files are
    /// smaller, and the state is not verified
    #[arg(long)]
    no_witness: bool,
    /// Replace blocks that are already in the folder
    #[arg(long)]
    force: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".into()),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("not a number from 0 to 10".into()),
    }
}

fn fork(text: &str) -> Result<Fork, String> {
    match text.parse::<Fork>()? {
        fork if (FIRST_FORK..=LAST_FORK).contains(&fork) => Ok(fork),
        fork => Err(format!("{fork} is none of shanghai, cancun, prague, osaka, bpo1 and bpo2")),
    }
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::NAMES.map(|(name, _)| name)).try_map(|name| name.parse::<Kind>())
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let most = args.kind.most_transactions();
    if args.txs > most {
        return fail(
            BAD_INPUT,
            &format!(
                "--txs {}: {} of them buy more gas than a block file may hold. Give --txs {most} or fewer.",
                args.txs, args.kind
            ),
        );
    }
    if let Err(reason) = prepare(&args.out, args.force) {
        return fail(BAD_INPUT, &format!("{}: {reason}", args.out.display()));
    }
    let mut generator = Generator::new(Plan {
        transactions: args.txs,
        conflict: args.conflict,
        seed: args.seed,
        kind: args.kind,
        skew: args.skew,
        fork: args.fork,
        witness: !args.no_witness,
    });
    let mut gas = 0_u64;
    let progress = Progress::on_terminal(Some(args.blocks.into()));
    for number in 1..=args.blocks {
        let made = match generator.next_block() {
            Ok(made) => made,
            Err(error) => {
                return fail(NOT_EXECUTED, &format!("{error}. This is a defect; please report it."));
            }
        };
        // Leading zeros, so that a listing follows the order of the chain.
        let path = args.out.join(format!("{number:08}.json.gz"));
        if let Err(error) = block::write(&made, &path) {
            return fail(
                BAD_INPUT,
                &format!(
                    "{}: cannot be written: {error}. Make room or choose another --out.",
                    path.display()
                ),
            );
        }
        gas = gas.saturating_add(made.expected.gas_used);
        if let Some(progress) = &progress {
            progress.advance(format!("{:.1} Mgas", gas as f64 / 1e6));
        }
    }
    if let Some(progress) = &progress {
        progress.end();
    }
    // Not println!, which panics once the reader has gone.
    let _ = io::Write::write_fmt(
        &mut io::stdout().lock(),
        format_args!(
            "{} blocks of {} transactions, {:.1} Mgas, in {}\nRun them: shard-executor local --blocks {} --shards 2\n",
            args.blocks,
            args.txs,
            gas as f64 / 1e6,
            args.out.display(),
            args.out.display()
        ),
    );
    ExitCode::from(VERIFIED)
}

/// Makes the folder, or refuses one with something in it: a second chain between the files of a
/// first is neither.
fn prepare(out: &Path, force: bool) -> Result<(), String> {
    std::fs::create_dir_all(out)
        .map_err(|e| format!("cannot be created: {e}. Choose another folder with --out."))?;
    let unreadable = |e: io::Error| format!("cannot be read: {e}. Choose another folder with --out.");
    for entry in std::fs::read_dir(out).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !force {
            return Err(
                "is not empty. Choose another folder with --out, or replace its blocks with --force.".into(),
            );
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".json.gz").or_else(|| name.strip_suffix(".json"));
        // Removes only files that this command wrote or could have written: --force is no licence
        // to empty somebody's folder.
        if stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit())) {
            std::fs::remove_file(&path).map_err(|e| format!("{name} cannot be removed: {e}."))?;
        }
    }
    Ok(())
}
