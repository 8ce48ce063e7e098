//! `incidents`: what was killed, when, why, and with which evidence.

use std::process::ExitCode;

use clap::Subcommand;
use shard_watchdog::incident::id::IncidentId;

mod export;
mod flame;
mod list;
mod shelf;
mod show;
mod symbolize;

/// Exit code if there is no such incident.
const NO_SUCH_INCIDENT: u8 = 4;

const EXIT_CODES: &str = "\
Exit codes: 0 · 2 wrong usage, or a file cannot be read or written · 3 the sidecar is not reachable · 4 no such incident";

const HELP: &str = "\
Examples:
  shard-watchdog incidents list
  shard-watchdog incidents show latest
  shard-watchdog incidents show latest --directory /var/lib/shard-watchdog/0    no sidecar needs to run
  shard-watchdog incidents export latest --out /tmp                             one file for a bug report
  shard-watchdog incidents symbolize latest --directory DIR --symbols DIR       stacks, with symbols from elsewhere
  shard-watchdog incidents flame --out flame.svg                                where they all stood, as one picture

Exit codes: 0 · 2 wrong usage, or a file cannot be read or written · 3 the sidecar is not reachable · 4 no such incident";

/// List, show, export, symbolize and draw incidents: what was killed, when, why, with which
/// evidence
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Export(export::Args),
    Symbolize(symbolize::Args),
    Flame(flame::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args),
        Command::Export(args) => export::run(args),
        Command::Symbolize(args) => symbolize::run(args),
        Command::Flame(args) => flame::run(args),
    }
}

/// Which incident a person means.
#[derive(Clone, Debug)]
enum Which {
    Latest,
    Id(IncidentId),
}

fn which(text: &str) -> Result<Which, String> {
    if text == "latest" {
        return Ok(Which::Latest);
    }
    let wrong = || "not the id of an incident, such as 20261122T221503500Z-7f3a, nor \"latest\"".to_owned();
    IncidentId::parse(text).map(Which::Id).ok_or_else(wrong)
}
