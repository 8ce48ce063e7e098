//! The rows that must not be killed, again and again under load, with real stalls strewn in; for an hour unless told otherwise.
//! Exit code 1 if a healthy shard was killed or a stall was not seen.

#![allow(clippy::expect_used, reason = "a run that cannot go on has no figures, and says where it ended")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::Value;
use shard_tests::control::{self, Wanted};
use shard_tests::{duration, machine};

#[derive(Debug, Parser)]
#[command(about = "What must not be killed, for an hour under load, with real stalls strewn in")]
struct Args {
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    time: Duration,
    /// Which happenings; without it others each time, which is told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// CPU hogs beside it all the time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=64))]
    hogs: u8,
    /// Write the figures here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
    let (mut figures, wrong) = control::run(Wanted { time: args.time, seed, hogs: args.hogs.into() });
    figures["machine"] = machine::describe();
    if let Value::Object(fields) = &figures {
        for (key, value) in fields {
            println!("{key:<20} {value}");
        }
    }
    if let Some(path) = args.json {
        std::fs::write(&path, format!("{figures:#}\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    for one in &wrong {
        eprintln!("control: WRONG (seed {seed}): {one}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}
