//! Random faults over random blocks, for ten minutes unless told otherwise. Exit code 1 if
//! something was not as it must be: a block that was wrong or never ended, an untyped error,
//! growing memory, a dead incarnation that came back.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use shard_tests::long_run;
use shard_tests::soak::{self, Wanted};

const TEN_MINUTES: Duration = Duration::from_secs(600);

#[derive(Debug, Parser)]
#[command(
    about = "Random faults over random blocks, on a coordinator and supervised, watched shards, for 10m"
)]
struct Args {
    #[command(flatten)]
    long: long_run::Args,
}

fn main() -> ExitCode {
    let Args { long } = Args::parse();
    let wanted = Wanted { time: long.time.unwrap_or(TEN_MINUTES), seed: long.seed() };
    match soak::run(wanted) {
        Ok(figures) => long.end("soak", &figures, &[]),
        Err((violations, figures)) => long.end("soak", &figures, &violations),
    }
}
