//! `record`: saves the last minute of a running sidecar, now.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use shard_watchdog::client::{self, Endpoint};
use shard_watchdog::recorder::file::Recording;

use super::address::Address;
use super::{BAD_INPUT, fail};

/// Exit code when no sidecar answers, as of `status`.
const UNREACHABLE: u8 = 3;
/// It answers between two looks; the rest is the way there and back.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const HELP: &str = "\
Examples:
  shard-watchdog record --out minute.recording
  shard-watchdog record --out minute.recording && shard-watchdog replay minute.recording --config new.toml
  shard-watchdog record --out minute.recording --socket /run/shard/0.watchdog.sock

The sidecar retains one minute in memory; with [recorder] in its config it retains days on disk.

Exit codes: 0 · 2 FILE cannot be written · 3 the sidecar is not reachable, or has no recording";

/// Write the sidecar's observations of the last minute to a file, for replay and suggest
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The file to write; an existing file is replaced
    #[arg(long, env = "SHARD_WATCHDOG_OUT", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    address: Address,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let endpoint = match args.address.endpoint() {
        Ok(endpoint) => endpoint,
        Err(why) => return fail(BAD_INPUT, why),
    };
    let bytes = match ask(&endpoint) {
        Ok(bytes) => bytes,
        Err(why) => return fail(UNREACHABLE, why),
    };
    match std::fs::write(&args.out, bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let next = "Give --out a file in a folder that you may write to";
            fail(BAD_INPUT, format!("{}: cannot be written: {error}. {next}", args.out.display()))
        }
    }
}

fn ask(endpoint: &Endpoint) -> Result<Vec<u8>, String> {
    let answer = client::get(endpoint, "/api/v1/recording", ANSWER_WITHIN).map_err(|error| {
        format!("{error}. Is the sidecar running, and is this its http.listen or http.socket?")
    })?;
    if !answer.status.is_success() {
        return Err(format!(
            "{endpoint} answers {} to a question for its recording. The public address has none: use http.listen or \
             http.socket; a sidecar that is busy or just starting has one a moment later.",
            answer.status
        ));
    }
    let bytes = answer.body.to_vec();
    // Another program may listen at the address.
    Recording::parse(bytes.clone(), Path::new("its answer"))
        .map_err(|error| format!("{endpoint} answers with something else: {error}. Check --url"))?;
    Ok(bytes)
}
