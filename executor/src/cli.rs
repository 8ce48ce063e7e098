//! The command line: the subcommands, one file each, with their flags, messages and exit codes.
//!
//! It is part of the library so that a separate program (`manuals` in `tests/`) can make man pages
//! and completions from [`definition`]; the executor itself links nothing for them.

pub(crate) mod coordinator;
mod exit;
mod faults;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod local;
mod rounds;
pub(crate) mod shard;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use shard_executor::telemetry::{self, Telemetry};
use shard_executor::{deadline, logs};

use exit::{BAD_INPUT, fail};

/// A sharded Ethereum block executor.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Shard(shard::Args),
    Coordinator(coordinator::Args),
    Local(local::Args),
    Import(import::Args),
    Generate(generate::Args),
}

/// Runs what this process's command line asks for, and returns the exit code.
pub fn main() -> ExitCode {
    shard_telemetry::names::settle();
    let arguments = Arguments::parse();
    let name = match &arguments.command {
        Command::Shard(args) => format!("s{}", args.id),
        Command::Coordinator(_) => "coord".to_owned(),
        Command::Local(_) => "local".to_owned(),
        Command::Import(_) => "import".to_owned(),
        Command::Generate(_) => "generate".to_owned(),
    };
    let told = match &arguments.command {
        Command::Shard(args) => Telemetry::start(&args.id.to_string(), args.metrics, &args.metrics_hosts),
        Command::Coordinator(args) => {
            Telemetry::start(telemetry::COORDINATOR, args.metrics, &args.metrics_hosts)
        }
        Command::Local(_) | Command::Import(_) | Command::Generate(_) => Ok(Default::default()),
    };
    let (telemetry, running) = match told {
        Ok(told) => told,
        Err(error) => return fail(BAD_INPUT, &format!("{error}.")),
    };
    // Reports go to standard output, progress and problems to standard error.
    if let Err(error) = logs::start(&name, running.logger_provider()) {
        return fail(BAD_INPUT, &error);
    }
    for warning in running.warnings() {
        tracing::warn!("{warning}");
    }
    let code = match arguments.command {
        Command::Shard(args) => shard::run(args, telemetry),
        Command::Coordinator(args) => coordinator::run(args, telemetry),
        Command::Local(args) => local::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Generate(args) => generate::run(&args),
    };
    running.shutdown(deadline::TELEMETRY);
    // The reader may have stalled: lines not written by this deadline are lost.
    logs::flush(deadline::LAST_WORDS);
    code
}

/// The definition of the command line: all subcommands and flags with their help.
pub fn definition() -> clap::Command {
    Arguments::command()
}
