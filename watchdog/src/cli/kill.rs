//! `kill`: a kill that a person orders, through the same ladder.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog kill --reason 'wrong answers since 14:02, ticket 4711' --socket /run/shard/0.watchdog.sock
  shard-watchdog kill --reason '…' --incarnation 1795390613645475   that one, and no later one

The signals of kill.signals are sent to the process that is watched, in observe mode, in a pause and with a spent budget too;
the kill counts in the budget and has an incident. Asked for twice, it is done once: its supervisor starts it again.
";

/// Kill the shard now, and have it restarted
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    /// Why: those who come next read it in the incident
    #[arg(long, env = "SHARD_WATCHDOG_REASON", value_name = "TEXT")]
    reason: String,
    /// Only if this incarnation is watched, as `status` shows it
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
