//! The sidecar compared with what keeps processes running today: the same target, faults and
//! threshold. What each detects, how soon, how soon the target works again, which of them kills a
//! healthy target that is starved, and what each costs.
//!
//! Best run on a quiet machine, as root (systemd is started in namespaces of its own), after
//! `tests/tools`.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use shard_tests::machine;
use shard_tests::peers::peer::{ALL, Peer};
use shard_tests::peers::{self, Plan, page, plot, table};

/// Why a peer is left out whose measurement did not finish.
const FAILED: &str = "it could not be measured: see standard error";

#[derive(Debug, Parser)]
#[command(
    about = "The sidecar beside systemd, runit, s6, monit, supervisord, a kubelet-like probe and a guard dog"
)]
struct Args {
    /// Only these peers, by name [default: all that are installed].
    #[arg(long, value_name = "PEER,…", value_delimiter = ',', value_parser = peer)]
    only: Vec<Peer>,
    /// Faults of each kind.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A fault that a peer does not act on within this time counts as not detected.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=600))]
    patience: u64,
    /// How long the target works before each fault. After 3 s no peer here restarts it with
    /// back-off.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=600))]
    settle: u64,
    /// How long to measure costs.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    rest: u64,
    /// How long to starve the healthy target.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    starve: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the bar chart to this file.
    #[arg(long, value_name = "SVG")]
    plot: Option<PathBuf>,
}

fn peer(name: &str) -> Result<Peer, String> {
    ALL.into_iter().find(|peer| peer.name() == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|peer| peer.name()).collect();
        format!("there is no such peer; these are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = Plan {
        rounds: args.rounds,
        patience: Duration::from_secs(args.patience),
        settle: Duration::from_secs(args.settle),
        rest: Duration::from_secs(args.rest),
        starve: Duration::from_secs(args.starve),
    };
    // Measured before our own load begins.
    let load = machine::describe()["load_average_1m"].as_f64().unwrap_or(f64::NAN);
    let (mut outcomes, mut left_out) = (Vec::new(), Vec::new());
    for peer in ALL.into_iter().filter(|peer| args.only.is_empty() || args.only.contains(peer)) {
        if let Some(why) = peer.impossible() {
            eprintln!("{} is left out: {why}", peer.name());
            left_out.push((peer.name(), why));
            continue;
        }
        eprintln!("{}: {}", peer.name(), peer.settings());
        // What went wrong has already been reported; the others are measured all the same.
        match std::panic::catch_unwind(|| peers::measure(peer, plan)) {
            Ok(outcome) => outcomes.push(outcome),
            Err(_) => left_out.push((peer.name(), FAILED.to_owned())),
        }
    }
    for line in table::lines(&outcomes) {
        println!("{line}");
    }
    let mut figures = table::figures(&outcomes, &left_out);
    figures["rounds"] = json!(plan.rounds);
    figures["machine"]["load_average_1m"] = json!(load);
    if let Some((peer, time, ours)) = page::next_best(&outcomes) {
        println!(
            "stall to running again beyond the threshold: ours {ours:.0} ms, next best ({}) {time:.0} ms",
            peer.name()
        );
        figures["beyond_threshold_ms"] = json!({ "ours": ours, "next_best": time, "peer": peer.name() });
    }
    let files = [
        (&args.json, format!("{figures:#}\n")),
        (&args.markdown, page::markdown(&outcomes, &figures, plan, load)),
        (&args.plot, plot::svg(&outcomes)),
    ];
    let written: Vec<bool> =
        files.iter().filter_map(|(path, text)| Some(write(path.as_deref()?, text))).collect();
    if outcomes.is_empty() {
        eprintln!("bench-peers: none of the peers asked for was measured, for the reasons above");
        return ExitCode::from(2);
    }
    let failed = left_out.iter().any(|(_, why)| why == FAILED);
    if failed || written.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether it could be written.
fn write(path: &Path, text: &str) -> bool {
    let written = std::fs::write(path, text);
    if let Err(error) = &written {
        eprintln!("bench-peers: cannot write {}: {error}", path.display());
    }
    written.is_ok()
}
