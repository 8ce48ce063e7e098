//! Random faults over random blocks, for ten minutes unless told otherwise. Exit code 1 if something was not as it must be:
//! a block that was wrong or had no end, a typed error that was none, memory that grows, a dead incarnation that came back.

#![allow(clippy::expect_used, reason = "a soak that cannot go on has no figures, and says where it ended")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::Value;
use shard_tests::duration;
use shard_tests::soak::{self, Wanted};

#[derive(Debug, Parser)]
#[command(about = "Random faults over random blocks, on a coordinator and supervised, watched shards")]
struct Args {
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    time: Duration,
    /// Which faults and blocks; without it another one each time, which is told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the figures here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
    let (violations, figures) = match soak::run(Wanted { time: args.time, seed }) {
        Ok(figures) => (Vec::new(), figures),
        Err(found) => found,
    };
    if let Value::Object(fields) = &figures {
        for (key, value) in fields {
            println!("{key:<40} {value}");
        }
    }
    if let Some(path) = args.json {
        std::fs::write(&path, format!("{figures:#}\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    // The first one is what went wrong; what follows mostly follows from it.
    for violation in violations.iter().take(10) {
        eprintln!("soak: VIOLATION (seed {seed}): {violation}");
    }
    ExitCode::from(u8::from(!violations.is_empty()))
}
