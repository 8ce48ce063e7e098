//! `demo`: shows a fault and the recovery from it on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use shard_watchdog::demo::{self, Settings};

use super::fail;

const HELP: &str = "\
Examples:
  shard-watchdog demo
  shard-watchdog demo --shards 4 --fault deadlock --keep /tmp/incident
  shard-watchdog demo --blocks mainnet/ --fault leader-exit
  shard-watchdog demo --hold

Faults: panic, exit: the executor thread ends while its process lives on · spin, deadlock: it exists but makes
no progress; condemned after 1 s · leader-exit: the main thread ends

Needs shard-executor beside this program. Touches nothing outside one temporary folder and loopback ports, and
takes at most a minute. It first measures the speed of the machine; on a slow one it takes longer, because its deadlines,
thresholds and limits are multiplied by the same factor. With --hold the cluster continues after the recovery until Ctrl-C
or SIGTERM, so that you can explore it. targets.json in its folder lists every /metrics address in the format of
Prometheus' file_sd; OTEL_EXPORTER_OTLP_ENDPOINT is passed on.

Exit codes: 0 recovered · 1 not recovered, or not started · 2 bad arguments";

/// Exit code when there was no recovery to show.
const NOT_RECOVERED: u8 = 1;

/// Show a recovery on this machine: shards, sidecars, a fault, and the timeline to the next
/// verified block
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// How many shards
    #[arg(long, env = "SHARD_WATCHDOG_SHARDS", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=16))]
    shards: u16,
    /// What goes wrong in shard 0
    #[arg(long, env = "SHARD_WATCHDOG_FAULT", value_name = "NAME", default_value = "panic")]
    fault: Fault,
    /// A block file or a folder of them [default: ../shared/blocks if it exists, else generated
    /// blocks]
    // Every program of this project reads the variable of this name, without the prefix.
    #[arg(long, env = "SHARD_BLOCKS", value_name = "PATH")]
    blocks: Option<PathBuf>,
    /// Write configs and evidence to this folder, which must be new or empty, and leave them there
    #[arg(long, env = "SHARD_WATCHDOG_KEEP", value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Continue after the recovery until Ctrl-C
    #[arg(long, env = "SHARD_WATCHDOG_HOLD")]
    hold: bool,
    /// How many times slower than a usual machine this one is [default: measured]
    #[arg(long, env = "SHARD_WATCHDOG_SLOW", value_name = "FACTOR",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(demo::SLOWEST)))]
    slow: Option<u32>,
    /// The shard-executor to run [default: the one beside this program]
    #[arg(long, env = "SHARD_EXECUTOR", value_name = "FILE")]
    executor: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Fault {
    Panic,
    Exit,
    Spin,
    Deadlock,
    LeaderExit,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let settings = Settings {
        shards: args.shards,
        fault: match args.fault {
            Fault::Panic => demo::Fault::Panic,
            Fault::Exit => demo::Fault::Exit,
            Fault::Spin => demo::Fault::Spin,
            Fault::Deadlock => demo::Fault::Deadlock,
            Fault::LeaderExit => demo::Fault::LeaderExit,
        },
        blocks: args.blocks.clone(),
        keep: args.keep.clone(),
        hold: args.hold,
        executor: args.executor.clone(),
        slow: args.slow,
    };
    match demo::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(NOT_RECOVERED, format_args!("not recovered: {error}")),
    }
}
