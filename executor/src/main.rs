//! Command line and wiring only.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shard_executor::telemetry::{self, Telemetry};
use shard_executor::{deadline, logs};

/// What a helper allocates its owner frees, tens of times a transaction. The C library's allocator takes a lock for each of these, which the
/// two then wait for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A sharded Ethereum block executor.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Shard(cli::shard::Args),
    Coordinator(cli::coordinator::Args),
    Local(cli::local::Args),
    Import(cli::import::Args),
    Generate(cli::generate::Args),
}

fn main() -> ExitCode {
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
        Err(error) => return cli::fail(cli::BAD_INPUT, &format!("{error}.")),
    };
    // Reports go to standard output, what happens on the way to standard error.
    if let Err(error) = logs::start(&name, running.logger_provider()) {
        return cli::fail(cli::BAD_INPUT, &error);
    }
    for warning in running.warnings() {
        tracing::warn!("{warning}");
    }
    let code = match arguments.command {
        Command::Shard(args) => cli::shard::run(args, telemetry),
        Command::Coordinator(args) => cli::coordinator::run(args, telemetry),
        Command::Local(args) => cli::local::run(&args),
        Command::Import(args) => cli::import::run(&args),
        Command::Generate(args) => cli::generate::run(&args),
    };
    running.shutdown(deadline::TELEMETRY);
    // Nobody may be reading it: what is not told by then stays untold.
    logs::flush(deadline::LAST_WORDS);
    code
}
