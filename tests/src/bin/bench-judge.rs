//! What one observation costs: the probe's observation and the judge's decision, each on its own,
//! at 1, 8, 64 and 1,000 threads of a real process; and how long `replay` takes for an hour.
//!
//! These are the watch loop's own probe and judge, called as the loop calls them. Threads make
//! progress between two observations and sleep during one. Two observations are as far apart as at
//! the highest rate of the loop, so that caches are as cold as they are there.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_tests::crowd::{self, Crowd, Move};
use shard_tests::figures::distribution;
use shard_tests::process::binary;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{footprint, hour, machine, proof};
use shard_watchdog::clock::now;
use shard_watchdog::config::read;
use shard_watchdog::judge::Judge;
use shard_watchdog::judge::policy::Policy;
use shard_watchdog::observation::Observation;
use shard_watchdog::probe::Probe;

/// How long one observation of 8 threads that make progress may take, in microseconds.
const AIM: (usize, f64) = (8, 20.0);
/// How long `replay` may take for an hour, in milliseconds.
const REPLAY_AIM: f64 = 1_000.0;
/// Observations before those that count: descriptors are opened and buffers grow.
const WARM_UP: u32 = 20;
/// How often the checks before a signal are timed.
const PROOFS: usize = 1_000;

#[derive(Debug, Parser)]
#[command(about = "Cost of one observation by number of threads, for probe and judge; time to replay 1h")]
struct Args {
    /// Numbers of threads of the target; one run for each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,64,1000")]
    threads: Vec<usize>,
    /// Observations per run.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    looks: u32,
    /// Time between two observations.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 4_000)]
    every: u64,
    /// Only this run: progress, idle or still.
    #[arg(long, value_name = "RUN")]
    only: Option<String>,
    /// Length of the replayed recording in seconds; 0 skips the replay.
    #[arg(long, default_value_t = 3_600)]
    replay: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Lanes of each thread's slot, its own included; a thread without workers needs 1.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=128))]
    lanes: u32,
    /// Be the target: register this many threads, with this many lanes each, in this segment.
    #[arg(long, value_name = "SEGMENT", num_args = 3, hide = true)]
    target: Vec<String>,
}

/// One kind of steady state.
struct Run {
    prefix: &'static str,
    name: &'static str,
    what: &'static str,
    then: Move,
}

const RUNS: [Run; 3] = [
    Run { prefix: "", name: "progress", what: "all make progress", then: Move::Progress },
    Run { prefix: "idle_", name: "idle", what: "all idle", then: Move::Rest },
    Run { prefix: "still_", name: "still", what: "one stands still", then: Move::AllButFirst },
];

fn main() {
    let args = Args::parse();
    if let [segment, threads, lanes] = &args.target[..] {
        let threads = threads.parse().expect("a number");
        return crowd::be(Path::new(segment), threads, lanes.parse().expect("a number"));
    }
    // Two descriptors for each thread, as in the sidecar.
    shard_watchdog::descriptors::raise_limit();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut figures = Map::new();
    println!(
        "{:<20}{:>8}{:>34}{:>34}",
        "", "threads", "observe, µs: p50, p99, max", "judge, µs: p50, p99, max"
    );
    for run in RUNS.iter().filter(|run| args.only.as_ref().is_none_or(|only| only == run.name)) {
        let (mut observe, mut judge) = (Map::new(), Map::new());
        for threads in &args.threads {
            let cost = measure(&args, folder.path(), run, *threads);
            let (seen, judged) = (distribution(&cost.observe_us), distribution(&cost.judge_us));
            println!("{:<20}{threads:>8}{:>34}{:>34}", run.what, told(&seen), told(&judged));
            if run.prefix.is_empty() && *threads == AIM.0 {
                let proven = distribution(&cost.prove_us);
                println!("{:<28}checks before a signal, µs: {}", "", told(&proven));
                figures.insert("prove_us".to_owned(), proven);
                println!("{:<28}aim {} µs together", "", AIM.1);
            }
            observe.insert(threads.to_string(), seen);
            judge.insert(threads.to_string(), judged);
        }
        figures.insert(format!("{}observe_us", run.prefix), Value::Object(observe));
        figures.insert(format!("{}judge_us", run.prefix), Value::Object(judge));
    }
    if args.replay > 0 {
        replay(&args, folder.path(), &mut figures);
    }
    figures.insert("machine".to_owned(), machine::describe());
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// The cost of each observation, in microseconds.
struct Cost {
    observe_us: Vec<f64>,
    judge_us: Vec<f64>,
    /// The checks before a signal, which is not sent.
    prove_us: Vec<f64>,
}

fn measure(args: &Args, folder: &Path, run: &Run, threads: usize) -> Cost {
    let sidecar = Sidecar::configure(folder, &format!("{}-{threads}", run.name), "exec-s*", &settings());
    let policy = read::load(&sidecar.config).expect("the config is good").policy(false);
    let mut command = Command::new(std::env::current_exe().expect("a program knows its own path"));
    command.arg("--target").arg(&sidecar.heartbeat).arg(threads.to_string()).arg(args.lanes.to_string());
    let mut crowd = Crowd::start(command);
    let prove_us = proof::times(&sidecar.heartbeat, "crowd", PROOFS);
    let mut probe = proof::adopt(&sidecar.heartbeat, "crowd");
    // Once, so that threads that stand still afterwards have been at work.
    crowd.all(Move::Progress);
    Cost { prove_us, ..look_at(args, &mut probe, &policy, &mut crowd, run.then) }
}

fn look_at(args: &Args, probe: &mut Probe, policy: &Policy, crowd: &mut Crowd, then: Move) -> Cost {
    let mut judge = Judge::new(now());
    let mut seen = Observation::default();
    let mut cost = Cost { observe_us: Vec::new(), judge_us: Vec::new(), prove_us: Vec::new() };
    for look in 0..WARM_UP + args.looks {
        let due = Instant::now() + Duration::from_micros(args.every);
        crowd.all(then);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        probe.observe(now(), &mut seen);
        let observed = Instant::now();
        let decision = judge.observe(policy, &seen);
        let judged = Instant::now();
        assert!(!decision.condemned, "{}", judge.why());
        if look >= WARM_UP {
            cost.observe_us.push((observed - began).as_secs_f64() * 1e6);
            cost.judge_us.push((judged - observed).as_secs_f64() * 1e6);
        }
    }
    cost
}

/// A threshold that no thread reaches, however long the run.
fn settings() -> Settings {
    Settings { stall_after: "10h".to_owned(), mode: "observe".to_owned(), ..Settings::default() }
}

/// Times the program `shard-watchdog replay` as a person runs it, the best of three: by then the
/// file is in memory. Its CPU time shows what a quiet machine would take.
fn replay(args: &Args, folder: &Path, figures: &mut Map<String, Value>) {
    let path = folder.join("hour");
    let looks = hour::write(&path, args.replay).expect("a recording can be written");
    let sidecar = Sidecar::configure(folder, "replay", "exec-s*", &settings());
    let took = (0..3).map(|_| {
        let (began, used) = (Instant::now(), footprint::cpu_time_of_children());
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("replay").arg(&path).arg("--config").arg(&sidecar.config).arg("--json");
        let output = command.output().expect("replay starts");
        let took = began.elapsed().as_secs_f64() * 1e3;
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON from replay");
        assert_eq!(told["looks"], looks, "all of it was judged");
        (took, (footprint::cpu_time_of_children() - used).as_secs_f64() * 1e3)
    });
    let (took, used) =
        took.fold((f64::INFINITY, f64::INFINITY), |least, now| (least.0.min(now.0), least.1.min(now.1)));
    #[allow(clippy::cast_precision_loss, reason = "a file of some megabytes")]
    let (mib, hours) = {
        let bytes = std::fs::metadata(&path).expect("it was written").len();
        (bytes as f64 / f64::from(1 << 20), args.replay as f64 / 3_600.0)
    };
    println!(
        "replay of {looks} looks ({} s at {} a second, {} threads): {took:.0} ms, {:.0} ms an hour (aim {REPLAY_AIM} ms), {:.0} ms of CPU an hour, {:.1} MiB an hour",
        args.replay,
        hour::LOOKS_PER_SECOND,
        hour::THREADS,
        took / hours,
        used / hours,
        mib / hours
    );
    figures.insert("replay_hour_ms".to_owned(), json!(took / hours));
    figures.insert("replay_hour_cpu_ms".to_owned(), json!(used / hours));
    figures.insert("replay_hour_mib".to_owned(), json!(mib / hours));
}

fn told(distribution: &Value) -> String {
    let number = |key: &str| distribution[key].as_f64().unwrap_or(f64::NAN);
    format!("{:.1} {:>8.1} {:>8.1}", number("p50"), number("p99"), number("max"))
}
