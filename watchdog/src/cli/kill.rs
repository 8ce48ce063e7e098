//! `kill`: a kill that a person orders, through the same ladder.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog kill --reason 'wrong answers since 14:02, ticket 4711' --socket /run/shard/0.watchdog.sock
  shard-watchdog kill --reason '…' --incarnation 1795390613645475   only this incarnation, not a later one

Sends the signals of kill.signals to the watched process, even in observe mode, during a pause or when the budget is
exhausted. The kill counts against the budget and opens an incident. Ordered twice, it happens once. The supervisor starts
the process again.
";

/// Kill the shard now, and have it restarted
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    /// Why: it is shown in the incident
    #[arg(long, env = "SHARD_WATCHDOG_REASON", value_name = "TEXT")]
    reason: String,
    /// Only if the watched incarnation is this one, as `status` shows it
    #[arg(long, env = "SHARD_WATCHDOG_INCARNATION", value_name = "N")]
    incarnation: Option<u64>,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let body = json!({ "reason": args.reason, "incarnation": args.incarnation });
    order::give(&args.to, "/api/v1/kill", &body)
}
