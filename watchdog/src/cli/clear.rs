//! `clear`: ends a crash loop.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog status                            which work nothing is killed for, and why
  shard-watchdog clear 19000000 --socket /run/shard/0.watchdog.sock
  shard-watchdog clear                             all of it

What is condemned for that work at this moment is killed, if the config says enforce; two more deaths with it make it a crash loop
again. Nothing else forgets it, a restart of the sidecar least of all.
";

/// Kill for work again that was in flight at more than one death
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    /// Key of the work, as status shows it; all work if there is none
    #[arg(value_name = "KEY", value_parser = clap::value_parser!(u64).range(1..))]
    key: Option<u64>,
    #[command(flatten)]
    to: Where,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let body = args.key.map_or_else(|| json!({}), |key| json!({ "key": key }));
    order::give(&args.to, "/api/v1/clear", &body)
}
