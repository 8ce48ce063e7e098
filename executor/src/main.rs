//! Command line and wiring only.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Reports go to standard output, what happens on the way to standard error.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match arguments.command {
        Command::Shard(args) => cli::shard::run(args),
        Command::Coordinator(args) => cli::coordinator::run(args),
        Command::Local(args) => cli::local::run(&args),
        Command::Generate(args) => cli::generate::run(&args),
    }
}
