//! The command line: the subcommands, one file each, with arguments, help for a person at three in
//! the morning, and exit codes.
//!
//! It is part of the library so that a separate program (`manuals` in `tests/`) can generate man
//! pages and completions from [`definition`]. The sidecar itself links nothing for them.

pub(crate) mod address;
pub(crate) mod check;
pub(crate) mod clear;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod evidence_helper;
pub(crate) mod incidents;
pub(crate) mod inject;
pub(crate) mod kill;
pub(crate) mod order;
pub(crate) mod pause;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod suggest;
pub(crate) mod supervise;
mod symbolizer;
mod top;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use shard_watchdog::config::{SHARD_FORM, names_shard, units};

/// Detects that a named thread of a living process is gone or makes no progress, reports why, and
/// has the process restarted.
#[derive(Debug, Parser)]
#[command(version, about, after_help = MAIN_HELP, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Config(config::Args),
    Supervise(supervise::Args),
    Status(status::Args),
    Top(top::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Kill(kill::Args),
    Clear(clear::Args),
    Incidents(incidents::Args),
    Demo(demo::Args),
    Inject(inject::Args),
    Record(record::Args),
    Replay(replay::Args),
    Suggest(suggest::Args),
    #[command(hide = true)]
    EvidenceHelper(evidence_helper::Args),
    #[command(hide = true)]
    Symbolizer(symbolizer::Args),
}

/// Executes the command line of this process; returns the exit code.
pub fn main() -> ExitCode {
    shard_telemetry::names::settle();
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return misused(&error),
    };
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Supervise(args) => supervise::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Pause(args) => pause::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Clear(args) => clear::run(&args),
        Command::Incidents(args) => incidents::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Suggest(args) => suggest::run(&args),
        Command::EvidenceHelper(args) => evidence_helper::run(&args),
        Command::Symbolizer(args) => symbolizer::run(&args),
    }
}

/// The definition of the command line: all subcommands and flags with their help.
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// Exit code of bad input, a bad config above all.
pub(crate) const BAD_INPUT: u8 = 2;

/// Exit code of `status` for a wrong command line (`EX_USAGE` of sysexits.h). Every other command
/// ends with 2 then, but for `status` 2 means that the shard is condemned.
pub(crate) const STATUS_MISUSED: u8 = 64;

/// The help text below the list of commands.
pub(crate) const MAIN_HELP: &str = "\
Is something wrong right now?
  shard-watchdog status --explain            the verdict, its reason, and why there was no kill
  shard-watchdog top                         the same, live; --file-sd FILE shows all shards of a machine or a cluster
  shard-watchdog pause --for 10m --reason TEXT
                                             suspend killing, not watching, while you debug; resume ends it
  shard-watchdog kill --reason TEXT          kill the shard now, through the same ladder, with an incident
  shard-watchdog clear [KEY]                 end a crash_loop: allow kills for that work again

What was killed, and why?
  shard-watchdog incidents list                   those that are alike as one row
  shard-watchdog incidents show latest            the report of one: thread, work, every step until recovery
  shard-watchdog incidents export latest --out DIR
                                             all that is kept of it but the dump, as one file
  shard-watchdog incidents symbolize latest --directory DIR --symbols DIR
                                             its stacks, with symbols that were not there before
  shard-watchdog incidents flame --out FILE.svg   where the threads of all of them stood, as one picture
  With --directory DIR they read the evidence on disk, and no sidecar needs to run.

Would another config have done better?
  shard-watchdog replay RECORDING --config FILE   what that config would have done
  shard-watchdog suggest RECORDING                thresholds that fit the recording
  shard-watchdog record --out FILE                save the last minute; [recorder] in the config retains days

Setting it up:
  shard-watchdog demo                        see it work on this machine, without preparation
  shard-watchdog inject --pid N FAULT        break one of your processes on purpose, and see it recover
  shard-watchdog config                      every key of the config, as a file to start from
  shard-watchdog check --config FILE…        every problem of configs, with line numbers
  shard-watchdog run --config FILE           the sidecar, under systemd, runit or Kubernetes
  shard-watchdog supervise --config FILE -- CMD ARG…
                                             where there is no supervisor: runs CMD and its sidecar

It never kills unless the config says [kill] mode = \"enforce\", or a person runs kill.
Every flag has an environment variable SHARD_WATCHDOG_…: the flag overrides it, and it overrides the file.";

/// Prints the error in the command line, or the help that was asked for; returns the exit code.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    // The reader may have closed its end.
    let _ = error.print();
    let status = std::env::args_os().nth(1).is_some_and(|command| command == "status");
    match u8::try_from(error.exit_code()) {
        Ok(0) => ExitCode::SUCCESS,
        _ if status => ExitCode::from(STATUS_MISUSED),
        _ => ExitCode::from(BAD_INPUT),
    }
}

/// Prints to standard error why a command ends; returns the exit code.
pub(crate) fn fail(code: u8, why: impl Display) -> ExitCode {
    // Not `eprintln!`: it would panic if the reader has closed its end.
    let _ = writeln!(std::io::stderr().lock(), "shard-watchdog: {why}");
    ExitCode::from(code)
}

/// Parses a duration in a flag, in the form of the config file.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| "not a duration such as \"500ms\" or \"1m 30s\"".to_owned())
}

/// The same, but rejects zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(duration) }
}

/// Parses the name of a shard in a flag.
pub(crate) fn shard(text: &str) -> Result<String, String> {
    if names_shard(text) { Ok(text.to_owned()) } else { Err(SHARD_FORM.to_owned()) }
}

/// Whether standard output may be coloured.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Escapes what in foreign text could move the reader's cursor or turn the text around: control
/// characters, and marks that change its direction.
pub(crate) fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().flat_map(|c| if harmful(c) { c.escape_default().collect() } else { vec![c] }).collect()
}
