//! The rows that must not be killed, repeated under load, with real stalls among them; for an hour
//! unless told otherwise. Exit code 1 if a healthy shard was killed or a stall was not detected.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use shard_tests::control::{self, Wanted};
use shard_tests::{long_run, machine};

const AN_HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Parser)]
#[command(about = "Shards that must not be killed, under load, with occasional real stalls, for 1h")]
struct Args {
    #[command(flatten)]
    long: long_run::Args,
    /// CPU hogs that run all the time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=64))]
    hogs: u8,
}

fn main() -> ExitCode {
    let Args { long, hogs } = Args::parse();
    let wanted = Wanted { time: long.time.unwrap_or(AN_HOUR), seed: long.seed(), hogs: hogs.into() };
    let (mut figures, wrong) = control::run(wanted);
    figures["machine"] = machine::describe();
    long.end("control", &figures, &wrong)
}
