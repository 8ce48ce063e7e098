//! `clear`: ends a crash loop, or the brake on kills that bring no progress.

use std::process::ExitCode;

use serde_json::json;

use super::order::{self, EXIT_CODES, Where};

const HELP: &str = "\
Examples:
  shard-watchdog status                            work that is in a crash loop, and why
  shard-watchdog clear 19000000 --socket /run/shard/0.watchdog.sock
  shard-watchdog clear                             all work, and kills without progress

If the shard is condemned for that work at this moment and the config says enforce, it is killed. Two more deaths with
that work put it into a crash loop again. Only this command ends a crash loop; a restart of the sidecar does not.
Kills that brought no finished piece of work (kill.progress_brake) are forgotten too, unless KEY is in no crash loop.
";

/// End a crash loop: allow kills again for work that was in flight at several deaths
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{EXIT_CODES}"))]
pub(crate) struct Args {
    /// Key of the work, as status shows it; without it all work
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
