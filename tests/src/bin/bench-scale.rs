//! Many at once. `--only host`: many shards on this machine, each with a sidecar: their CPU and
//! memory, and how soon a lost thread is detected, one at a time and on all shards at once.
//! `--only fleet`: what Prometheus takes for many shards, extrapolated to 10,000.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};
use shard_tests::figures::distribution;
use shard_tests::machine;
use shard_tests::prometheus::Prometheus;
use shard_tests::scale::fleet::{self, Model, Taken};
use shard_tests::scale::host::Host;

/// The number of shards of a large operator.
const LARGE_FLEET: f64 = 10_000.0;

#[derive(Debug, Parser)]
#[command(about = "Cost of many shards: their sidecars on one host, and their metrics in Prometheus")]
struct Args {
    /// Shards on this machine, each with a sidecar.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    shards: u16,
    /// Threads per shard.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=512))]
    threads: u16,
    /// Threads that each shard loses one at a time; then the same number on all shards at once.
    #[arg(long, default_value_t = 4)]
    rounds: u16,
    /// How long to measure CPU time, idle and busy.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    window: u64,
    /// Numbers of shards that Prometheus scrapes, one run for each; the last two give the cost per
    /// shard.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "100,300,600")]
    fleets: Vec<u16>,
    /// Time between two scrapes of one target.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=60))]
    every: u32,
    /// Run only this part.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Host,
    Fleet,
}

fn main() {
    let args = Args::parse();
    shard_watchdog::descriptors::raise_limit();
    let mut figures = Map::new();
    if args.only != Some(Part::Fleet) {
        host(&args, &mut figures);
    }
    if args.only != Some(Part::Host) {
        if Prometheus::installed_or_skip("bench-scale") {
            fleets(&args, &mut figures);
        } else {
            println!("Prometheus is not installed: its part is left out");
        }
    }
    figures.insert("machine".to_owned(), machine::describe());
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

fn host(args: &Args, figures: &mut Map<String, Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shards = usize::from(args.shards);
    let mut host = Host::start(folder.path(), shards, args.threads);
    println!("{shards} shards of {} threads, each with a sidecar:", args.threads);
    figures.insert("host_shards".to_owned(), json!(shards));
    for (name, what, busy) in [("idle", "all idle", false), ("busy", "each thread makes progress", true)] {
        let cost = host.cost(Duration::from_secs(args.window), busy);
        println!(
            "  {what:<28} all sidecars: {:.2} % of a core, {:.0} MiB of their own; one of them with its \
             binary {:.1} MiB",
            cost.cpu_percent_of_core, cost.rss_anon_mib, cost.rss_of_one_mib
        );
        for (figure, value) in [
            ("cpu_percent_of_core", cost.cpu_percent_of_core),
            ("rss_anon_mib", cost.rss_anon_mib),
            ("rss_of_one_mib", cost.rss_of_one_mib),
        ] {
            figures.insert(format!("host_{name}_{figure}"), json!(value));
        }
    }
    for (name, what, at_once) in
        [("alone", "a thread lost, one at a time", false), ("storm", "on all shards at once", true)]
    {
        let took: Vec<_> = (0..args.rounds).flat_map(|_| host.lose_a_thread_each(at_once)).collect();
        let figure = distribution(&took);
        let number = |key: &str| figure[key].as_f64().unwrap_or(f64::NAN);
        println!(
            "  {what:<28} end to verdict, ms: p50 {:.2}, p99 {:.2}, max {:.2} (n {})",
            number("p50"),
            number("p99"),
            number("max"),
            took.len()
        );
        figures.insert(format!("host_{name}_end_to_verdict_ms"), figure);
    }
}

fn fleets(args: &Args, figures: &mut Map<String, Value>) {
    let model = Model::start();
    let pages = model.pages();
    println!("the pages of one shard:");
    for (name, page) in ["sidecar", "executor"].iter().zip(pages) {
        println!("  {name:<10}{:>6} series of {} metrics, {} bytes", page.series, page.metrics, page.bytes);
        figures.insert(
            format!("fleet_{name}"),
            json!({ "series": page.series, "metrics": page.metrics, "bytes": page.bytes }),
        );
    }
    println!("Prometheus, every {} s:", args.every);
    let mut runs = Vec::new();
    for shards in &args.fleets {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let taken = fleet::scrape(&model, folder.path(), usize::from(*shards), args.every);
        report(&format!("{shards} shards"), &taken);
        figures.insert(format!("fleet_{shards}"), to_json(&taken));
        runs.push((f64::from(*shards), taken));
    }
    let [.., (few, before), (many, after)] = &runs[..] else { return };
    let by_line = |of: fn(&Taken) -> f64| {
        let slope = (of(after) - of(before)) / (many - few);
        of(after) + slope * (LARGE_FLEET - many)
    };
    let large = Taken {
        series: by_line(|taken| taken.series),
        samples_per_second: by_line(|taken| taken.samples_per_second),
        rss_mib: by_line(|taken| taken.rss_mib),
        cpu_percent_of_core: by_line(|taken| taken.cpu_percent_of_core),
    };
    report(&format!("{LARGE_FLEET} by the line through the last two"), &large);
    #[allow(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let bytes = pages.iter().map(|page| page.bytes as f64).sum::<f64>() * LARGE_FLEET;
    let per_second = bytes / f64::from(args.every) / f64::from(1 << 20);
    println!("  {:<40}{per_second:.0} MiB a second over the network", "");
    figures.insert("fleet_10000".to_owned(), to_json(&large));
    figures.insert("fleet_10000_mib_per_second".to_owned(), json!(per_second));
}

fn report(what: &str, taken: &Taken) {
    println!(
        "  {what:<40}{:.0} series, {:.0} samples a second, {:.0} MiB, {:.1} % of a core",
        taken.series, taken.samples_per_second, taken.rss_mib, taken.cpu_percent_of_core
    );
}

fn to_json(taken: &Taken) -> Value {
    json!({
        "series": taken.series,
        "samples_per_second": taken.samples_per_second,
        "rss_mib": taken.rss_mib,
        "cpu_percent_of_core": taken.cpu_percent_of_core,
    })
}
