//! What the long-running test programs share: how long to run, from which seed, and how to report
//! the result.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Failures printed at most: the first one is the cause, and the rest mostly follow from it.
const MOST_TOLD: usize = 10;

/// Their flags.
#[derive(Debug, clap::Args)]
#[group(id = "long_run")]
pub struct Args {
    /// Duration, such as 90s, 10m or 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// Seed of the events and their order [default: a different one each time, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    /// The seed asked for, or one that differs from run to run.
    pub fn seed(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.seed.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs())
    }

    /// Prints the figures and what went `wrong`. Returns the exit code, 1 if anything did.
    ///
    /// # Panics
    /// If the figures cannot be written to the requested file.
    pub fn end(&self, name: &str, figures: &Value, wrong: &[String]) -> ExitCode {
        if let Value::Object(fields) = figures {
            for (key, value) in fields {
                println!("{key:<40} {value}");
            }
        }
        if let Some(path) = &self.json {
            std::fs::write(path, format!("{figures:#}\n"))
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        }
        for one in wrong.iter().take(MOST_TOLD) {
            eprintln!("{name}: WRONG: {one}");
        }
        ExitCode::from(u8::from(!wrong.is_empty()))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit).and_then(|digits| digits.parse::<u64>().ok());
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let time = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    match time {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a time from 1s to 24h, such as 90s, 10m or 1h".to_owned()),
    }
}
