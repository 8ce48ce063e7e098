//! Proof of the judge by simulation: whole histories in virtual time, each decision checked against
//! the truth.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use shard_simulation::history::Stage;
use shard_simulation::report::Breach;
use shard_simulation::run::{self, Progress};

#[derive(Debug, Parser)]
#[command(
    about = "Simulates histories in virtual time and checks every decision of the judge against the truth"
)]
struct Args {
    /// Number of histories.
    #[arg(long, default_value_t = 100_000)]
    histories: u64,
    /// Seed of the first history; the others follow from it. A history that breaks a rule is
    /// printed with its own seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mislead the judge on purpose: for half of the time whoever is stopped, traced, frozen or
    /// without a CPU is shown asleep on a lock. Every such run must find that, and exits with 1.
    #[arg(long)]
    canary: bool,
    /// Also write the counts to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let terminal = std::io::stderr().is_terminal();
    let end = if terminal { "\r" } else { "\n" };
    let stage = Stage::with_canary(args.canary);
    let summary = run::run_on(&stage, args.seed, args.histories, threads, |progress| {
        let (done, took) = match progress {
            Progress::Begun(done, took) => (done, took),
            Progress::Broke(Breach { seed, violation, .. }) => {
                let _ = writeln!(std::io::stderr(), "seed {seed}: {violation}");
                return;
            }
        };
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let rate = done as f64 / took.as_secs_f64();
        let percent = done * 100 / args.histories.max(1);
        // Nobody has to read this.
        let _ = write!(std::io::stderr(), "{percent:>3} %  {done} histories, {rate:.0}/s{end}");
    });
    print!("{}", summary.report(&stage));
    println!(
        "{} histories from seed {}: {} observations, {} kills, {} of them ordered, {} stalls ({} by a deadline) {} deaf consumers and {} silent threads condemned, {} violations; {:.0} histories/s",
        summary.histories,
        args.seed,
        summary.looks,
        summary.kills,
        summary.asked,
        summary.stalls,
        summary.hastened,
        summary.lags,
        summary.silences,
        summary.violations,
        summary.rate()
    );
    let figures = json!({
        "histories": summary.histories,
        "kills": summary.kills,
        "stalls": summary.stalls,
        "violations": summary.violations,
    });
    if let Some(file) = &args.json
        && let Err(error) = std::fs::write(file, format!("{figures:#}\n"))
    {
        eprintln!("{} cannot be written: {error}", file.display());
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(summary.violations > 0))
}
