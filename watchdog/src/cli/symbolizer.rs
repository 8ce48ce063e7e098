//! `symbolizer`: the process that looks up the stacks of a minidump for its sidecar. Not for
//! people: it is hidden.

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::fs::FileType;
use shard_watchdog::stacks::Places;
use shard_watchdog::symbolizer::child;

use super::{BAD_INPUT, fail};

/// Look up the stacks of a minidump for a sidecar, which starts this with the dump as its standard
/// input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder with programs or their debug information; may be repeated
    #[arg(long, env = "SHARD_WATCHDOG_SYMBOLS", value_name = "DIR", value_delimiter = ':')]
    symbols: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let is_file = rustix::fs::fstat(std::io::stdin())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !is_file {
        return fail(
            BAD_INPUT,
            "symbolizer is started by the sidecar; `incidents symbolize` looks up stacks for people",
        );
    }
    let places = Places { symbols: args.symbols.clone(), ..Places::default() };
    match child::run(&places) {
        Ok(()) => ExitCode::SUCCESS,
        // As it is: the sidecar tells it on.
        Err(why) => {
            eprint!("{why}");
            ExitCode::FAILURE
        }
    }
}
