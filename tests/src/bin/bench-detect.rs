//! From a fault to the verdict, signal, death, restart and next verified block: distributions over
//! injected faults.
//!
//! Two shards under the embedded supervisor run generated blocks. Some executor threads panic with
//! the hook off, so that the thread is lost and the process lives. Others deadlock, which measures
//! the overshoot of the stall verdict (a deadlock sleeps, so its time counts in full even on a busy
//! machine). The times are those that the fault, the sidecar's journal and the coordinator recorded
//! themselves, all on one clock.

use std::path::PathBuf;

use clap::Parser;
use serde_json::{Map, Value};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::{distribution, milliseconds};
use shard_tests::hogs::Hogs;
use shard_tests::sidecar::Settings;
use shard_tests::{incident, machine, proof, wait};

/// The stall threshold. Short, so that a run ends; below one second the overshoot does not depend
/// on it.
const STALL_AFTER_MS: f64 = 500.0;
/// What the issue calls a busy machine.
const HOGS: usize = 8;
/// How often the checks before a signal are timed in each run.
const PROOFS: usize = 400;
/// Real-time priority of the watch thread in the runs that have it.
const PRIORITY: &str = "50";

#[derive(Debug, Parser)]
#[command(about = "Time from fault to verdict, death, restart and the next verified block")]
struct Args {
    /// Lost threads in the quiet run; each of the others gets a quarter of that.
    #[arg(long, default_value_t = 120)]
    faults: u32,
    /// Deadlocks in the quiet run; each of the others gets a quarter of that.
    #[arg(long, default_value_t = 40)]
    stalls: u32,
    /// Only the quiet run at normal priority.
    #[arg(long)]
    quiet_only: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One of the runs.
struct Run {
    prefix: &'static str,
    what: &'static str,
    loaded: bool,
    fifo: bool,
    /// Whether evidence is gathered before the signal.
    evidence: bool,
}

const RUNS: [Run; 5] = [
    Run { prefix: "", what: "quiet, normal priority", loaded: false, fifo: false, evidence: true },
    Run { prefix: "loaded_", what: "8 CPU hogs, normal priority", loaded: true, fifo: false, evidence: true },
    Run { prefix: "fifo_", what: "quiet, SCHED_FIFO", loaded: false, fifo: true, evidence: true },
    Run { prefix: "fifo_loaded_", what: "8 CPU hogs, SCHED_FIFO", loaded: true, fifo: true, evidence: true },
    Run {
        prefix: "no_evidence_",
        what: "quiet, without evidence",
        loaded: false,
        fifo: false,
        evidence: false,
    },
];

/// The times that one kind of fault took.
#[derive(Default)]
struct Samples {
    exit_to_wakeup_us: Vec<f64>,
    exit_to_verdict_us: Vec<f64>,
    verdict_to_signal_us: Vec<f64>,
    /// The time in which the sidecar verifies the identity of the process again, measured alone and
    /// at normal priority.
    prove_us: Vec<f64>,
    signal_to_dead_us: Vec<f64>,
    dead_to_running_ms: Vec<f64>,
    running_to_verified_ms: Vec<f64>,
    fault_to_verified_ms: Vec<f64>,
    stall_overshoot_ms: Vec<f64>,
}

fn main() {
    let args = Args::parse();
    let mut figures = Map::new();
    for run in &RUNS {
        if args.quiet_only && !run.prefix.is_empty() {
            continue;
        }
        let part = if run.prefix.is_empty() { 1 } else { 4 };
        println!("{}:", run.what);
        let samples = measure(run, args.faults.div_ceil(part), args.stalls.div_ceil(part));
        samples.report(run.prefix, &mut figures);
    }
    figures.insert("machine".to_owned(), machine::describe());
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

fn measure(run: &Run, faults: u32, stalls: u32) -> Samples {
    let settings = Settings {
        stall_after: format!("{STALL_AFTER_MS}ms"),
        kills: 1_000_000,
        // The same blocks repeat, and must not be what ends a shard.
        judge: "poison_after = 0".to_owned(),
        evidence: if run.evidence { String::new() } else { "time_limit = \"0s\"".to_owned() },
        watch_priority: run.fifo.then(|| PRIORITY.to_owned()),
        ..Settings::default()
    };
    let supervise = ["--settled-after", "0s"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(&Plan {
        settings,
        supervise,
        coordinator: false,
        quiet_output: true,
        ..Plan::default()
    });
    let blocks = shard_tests::blocks::generated(cluster.folder(), 20, 200);
    cluster.run_blocks(&blocks, "20s");
    cluster.verified_after(0);
    let _hogs = run.loaded.then(|| Hogs::start(HOGS));
    let mut samples = Samples::default();
    for number in 0..faults + stalls {
        let stall = number >= faults;
        one(&mut cluster, number as usize % 2, stall, &mut samples);
        eprint!("\r{} of {} ", number + 1, faults + stalls);
    }
    eprintln!();
    samples.prove_us = proof::times(&cluster.shards[0].sidecar.heartbeat, "0", PROOFS);
    samples
}

/// One fault, up to its recovery.
fn one(cluster: &mut Cluster, shard: usize, stall: bool, samples: &mut Samples) {
    let orders: &[&str] = if stall { &["arm deadlock after 5"] } else { &["hook off", "arm panic after 5"] };
    let fired = cluster.inject(shard, orders);
    let incident = wait::until("the recovery", || {
        incident::newest(&cluster.shards[shard].sidecar.evidence)
            .filter(|incident| incident["status"] == "recovered" && after(incident, fired))
    });
    let at = |step| incident::step_at(&incident, step).unwrap_or_else(|| panic!("no {step} in {incident:#}"));
    let (verdict, dead, running) = (at("verdict"), at("exited"), at("restarted"));
    let verified = cluster.verified_after(dead).at;
    if stall {
        samples.stall_overshoot_ms.push(milliseconds(fired, verdict) - STALL_AFTER_MS);
        return;
    }
    samples.exit_to_wakeup_us.push(milliseconds(fired, at("seen")) * 1e3);
    samples.exit_to_verdict_us.push(milliseconds(fired, verdict) * 1e3);
    samples.verdict_to_signal_us.push(milliseconds(verdict, at("signal")) * 1e3);
    samples.signal_to_dead_us.push(milliseconds(at("signal"), dead) * 1e3);
    samples.dead_to_running_ms.push(milliseconds(dead, running));
    samples.running_to_verified_ms.push(milliseconds(running, verified));
    samples.fault_to_verified_ms.push(milliseconds(fired, verified));
}

fn after(incident: &Value, fired: u64) -> bool {
    incident::step_at(incident, "verdict").is_some_and(|verdict| verdict >= fired)
}

impl Samples {
    fn report(&self, prefix: &str, figures: &mut Map<String, Value>) {
        let rows: [(&str, &[f64]); 9] = [
            ("exit_to_wakeup_us", &self.exit_to_wakeup_us),
            ("exit_to_verdict_us", &self.exit_to_verdict_us),
            ("verdict_to_signal_us", &self.verdict_to_signal_us),
            ("prove_us", &self.prove_us),
            ("signal_to_dead_us", &self.signal_to_dead_us),
            ("dead_to_running_ms", &self.dead_to_running_ms),
            ("running_to_verified_ms", &self.running_to_verified_ms),
            ("fault_to_verified_ms", &self.fault_to_verified_ms),
            ("stall_overshoot_ms", &self.stall_overshoot_ms),
        ];
        println!("  {:<24}{:>6}{:>12}{:>12}{:>12}", "", "n", "p50", "p99", "max");
        for (name, values) in rows {
            let figure = distribution(values);
            let number = |key: &str| figure[key].as_f64().unwrap_or(f64::NAN);
            println!(
                "  {name:<24}{:>6}{:>12.2}{:>12.2}{:>12.2}",
                values.len(),
                number("p50"),
                number("p99"),
                number("max")
            );
            figures.insert(format!("{prefix}{name}"), figure);
        }
    }
}
