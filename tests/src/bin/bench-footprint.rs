//! What a sidecar costs beside its shard: CPU, memory and threads, with the shard idle and busy.
//!
//! One shard and one sidecar with the default thresholds, sending OTLP to a real collector where
//! one is installed. At rest, nothing is sent to the shard; then a coordinator runs block after
//! block over it. Nothing scrapes meanwhile: the sidecar's own count of observations is read before
//! and after.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::collector::Collector;
use shard_tests::footprint::{self, Size, Used, Window};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, blocks, machine, wait};

/// Each round of the watch loop adds one to this.
const LOOKS: &str = "shard_watchdog_loop_late_seconds_count";
/// What a sidecar may cost, percent of a core and MiB.
const AIM: (f64, f64) = (0.1, 12.0);

#[derive(Debug, Parser)]
#[command(about = "CPU, memory and threads of a sidecar at rest and beside a busy shard")]
struct Args {
    /// How long to measure in each of the two states.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    window: u64,
    /// How long to wait before each measurement. The default is longer than one export interval, so
    /// that the first export has made its allocations.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The result of one window.
struct Footprint {
    used: Used,
    size: Size,
    samples_per_second: f64,
    target: Used,
}

fn main() {
    let args = Args::parse();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let collector = Collector::installed_or_skip("bench-footprint")
        .map(|binary| Collector::start(&binary, folder.path()));
    let mut figures = Map::new();
    figures.insert("otlp_on".to_owned(), json!(u8::from(collector.is_some())));
    if collector.is_none() {
        println!("OTLP is off: there is no collector to send to");
    }
    let otlp = collector.as_ref().map(|collector| collector.http.to_string());
    let mut cluster = Cluster::start(&Plan {
        shards: 1,
        settings: settings(otlp.as_deref()),
        // Its sidecar is started here, so that its pid is known.
        watched: false,
        coordinator: false,
        quiet_output: true,
        ..Plan::default()
    });
    let sidecar = cluster.shards[0].sidecar.clone();
    let process = beside(&sidecar, folder.path());
    let target = sidecar.pid();
    if let Some(collector) = &collector {
        collector.has(LOOKS.trim_end_matches("_count"));
    }
    let rest = measure(&args, &sidecar, process.pid(), target);
    rest.report("", "at rest", &mut figures);

    let blocks = blocks::generated(cluster.folder(), 20, 200);
    cluster.run_blocks(&blocks, "20s");
    cluster.verified_after(0);
    let busy = measure(&args, &sidecar, process.pid(), target);
    assert_eq!(sidecar.pid(), target, "the same process all along");
    busy.report("busy_", "beside a busy shard", &mut figures);

    figures.insert("window_seconds".to_owned(), json!(args.window));
    figures.insert("machine".to_owned(), machine::describe());
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// As with a config that omits all optional settings. The harness always writes a threshold, so
/// this one is the default.
fn settings(otlp: Option<&str>) -> Settings {
    Settings {
        stall_after: "5s".to_owned(),
        mode: "observe".to_owned(),
        append: otlp.map_or_else(String::new, |at| format!("[otlp]\nendpoint = \"http://{at}\"\n")),
        ..Settings::default()
    }
}

/// Starts the sidecar, and waits until it watches.
fn beside(sidecar: &Sidecar, folder: &Path) -> Process {
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config).env("SHARD_WATCHDOG_SUPERVISED", "1");
    let process = Process::start_into_file("sidecar", command, &folder.join("sidecar.out"));
    sidecar.wait_for("healthy");
    process
}

fn measure(args: &Args, sidecar: &Sidecar, pid: i32, target: i32) -> Footprint {
    std::thread::sleep(Duration::from_secs(args.settle));
    let (before, at) = (looks(sidecar), Instant::now());
    // Work left over from the answer does not belong to this window.
    std::thread::sleep(Duration::from_millis(100));
    let (own, targets) = (Window::open(pid), Window::open(target));
    std::thread::sleep(Duration::from_secs(args.window));
    let (used, target) = (own.close(), targets.close());
    let size = Size::of(pid);
    let samples_per_second = (looks(sidecar) - before) / at.elapsed().as_secs_f64();
    Footprint { used, size, samples_per_second, target }
}

/// How many rounds the watch loop has made so far, by the sidecar's own count.
fn looks(sidecar: &Sidecar) -> f64 {
    wait::until("the sidecar's count of its looks", || {
        footprint::sum_on_page(&api::get(sidecar.http, "/metrics")?.body, LOOKS)
    })
}

impl Footprint {
    fn report(&self, prefix: &str, what: &str, figures: &mut Map<String, Value>) {
        let Self { used, size, samples_per_second, target } = self;
        println!("{what} (the shard: {:.1} % of a core):", target.cpu_percent_of_core);
        let rows = [
            ("cpu_percent_of_core", used.cpu_percent_of_core, Some(AIM.0)),
            ("rss_mib", size.rss_mib, Some(AIM.1)),
            ("rss_anon_mib", size.rss_anon_mib, None),
            ("threads", size.threads, None),
            ("samples_per_second", *samples_per_second, None),
        ];
        for (name, value, aim) in rows {
            let aim = aim.map_or_else(String::new, |aim| format!("  aim {aim}"));
            println!("  {name:<24}{value:>12.3}{aim}");
            figures.insert(format!("{prefix}{name}"), json!(value));
        }
        println!("  {:<24}{:>12}{:>20}", "thread", "% of a core", "wake-ups a second");
        let mut threads: Vec<_> = used.cpu_percent_by_thread.iter().collect();
        threads.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, share) in threads {
            let wakeups = used.wakeups_per_second_by_thread.get(name).copied().unwrap_or_default();
            println!("  {name:<24}{share:>12.4}{wakeups:>20.1}");
        }
        for (name, numbers) in [
            ("cpu_percent_of_core_by_thread", &used.cpu_percent_by_thread),
            ("wakeups_per_second_by_thread", &used.wakeups_per_second_by_thread),
        ] {
            figures.insert(format!("{prefix}{name}"), footprint::by_name(numbers));
        }
        figures.insert(format!("{prefix}target_cpu_percent_of_core"), json!(target.cpu_percent_of_core));
    }
}
