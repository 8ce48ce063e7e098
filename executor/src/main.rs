//! Command line and wiring only.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shard_executor::{deadline, logs};

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
    Generate(cli::generate::Args),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let name = match &arguments.command {
        Command::Shard(args) => format!("s{}", args.id),
        Command::Coordinator(_) => "coord".to_owned(),
        Command::Local(_) => "local".to_owned(),
        Command::Generate(_) => "generate".to_owned(),
    };
    // Reports go to standard output, what happens on the way to standard error.
    if let Err(error) = logs::start(&name) {
        return cli::fail(cli::BAD_INPUT, &error);
    }
    let code = match arguments.command {
        Command::Shard(args) => cli::shard::run(args),
        Command::Coordinator(args) => cli::coordinator::run(args),
        Command::Local(args) => cli::local::run(&args),
        Command::Generate(args) => cli::generate::run(&args),
    };
    // Nobody may be reading it: what is not told by then stays untold.
    logs::flush(deadline::LAST_WORDS);
    code
}
