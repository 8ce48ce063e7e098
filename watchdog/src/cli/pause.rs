//! `pause`: suspends killing, not watching.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog pause --for 10m --reason 'gdb on exec-s0, ticket 4711' --socket /run/shard/0.watchdog.sock
  shard-watchdog status                            until when, why and by whom
  shard-watchdog resume                            ends it early

Kills that become due during a pause are withheld and reported; verdicts, incidents and metrics continue. A process that is
still condemned at the end is killed then. A pause ends by itself, and survives a restart of the sidecar.
";

/// Suspend killing, not watching, for a while
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    /// For how long, at most 24h; for example 10m or "1h 30m"
    #[arg(long, env = "SHARD_WATCHDOG_FOR", value_name = "TIME")]
    r#for: String,
    /// Why: it is shown in status, log and incident
    #[arg(long, env = "SHARD_WATCHDOG_REASON", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    order::give(&args.to, "/api/v1/pause", &json!({ "for": args.r#for, "reason": args.reason }))
}
