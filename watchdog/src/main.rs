//! Command line and wiring only.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sees that a named thread of a living process is gone or stands still, says why, and has the process restarted.
#[derive(Debug, Parser)]
#[command(version, about, after_help = cli::MAIN_HELP, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cli::run::Args),
    Check(cli::check::Args),
    Supervise(cli::supervise::Args),
    Status(cli::status::Args),
    Pause(cli::pause::Args),
    Resume(cli::resume::Args),
    Kill(cli::kill::Args),
    Clear(cli::clear::Args),
    Demo(cli::demo::Args),
    Record(cli::record::Args),
    Replay(cli::replay::Args),
    Suggest(cli::suggest::Args),
}

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return cli::misused(&error),
    };
    match command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Supervise(args) => cli::supervise::run(&args),
        Command::Status(args) => cli::status::run(&args),
        Command::Pause(args) => cli::pause::run(&args),
        Command::Resume(args) => cli::resume::run(&args),
        Command::Kill(args) => cli::kill::run(&args),
        Command::Clear(args) => cli::clear::run(&args),
        Command::Demo(args) => cli::demo::run(&args),
        Command::Record(args) => cli::record::run(&args),
        Command::Replay(args) => cli::replay::run(&args),
        Command::Suggest(args) => cli::suggest::run(&args),
    }
}
