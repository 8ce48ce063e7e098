//! `resume`: ends a pause before its time.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog resume --socket /run/shard/0.watchdog.sock

If the process is condemned at that moment, it is killed if the config says enforce and nothing excuses it.
";

/// End a pause early
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    order::give(&args.to, "/api/v1/resume", &json!({}))
}
