//! How fast blocks are executed: in order on one thread, on several threads of one process, and
//! over a cluster.
//!
//! The same blocks run in every way, in turn, in the same run. In one process, a block is timed
//! from its state to its receipts root and the state after it. Over a cluster the coordinator's own
//! time counts, which includes building the state of a block that brings its own; the
//! single-process time compared with it includes that too.

#![allow(
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot go on has no figures and says where it ended; counts are far below 2^52"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_executor::block::{Blocks, load_chain};
use shard_executor::generate::{Kind, Plan};
use shard_executor::local::Local;
use shard_executor::validate;
use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions};
use shard_tests::execution::beats::Cost;
use shard_tests::execution::cold;
use shard_tests::execution::over_cluster::Shards;
use shard_tests::execution::{self, Times, side_by_side, slow};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{blocks, figures, machine, wait};

/// What execution on two threads should reach: on generated swaps without conflict, over all real
/// blocks of at least `LARGE` transactions together, and on each of those.
const AIM: (f64, f64, f64) = (1.7, 1.2, 0.9);
/// How long the first block of a process may take relative to its second run: the median of all
/// blocks, and the worst.
const COLD_AIM: (f64, f64) = (1.5, 3.0);
/// Smaller blocks are over before a second thread has begun.
const LARGE: usize = 100;
/// The added latency of a state request in the second run over a cluster.
const LATENCY: (&str, Duration) = ("100us", Duration::from_micros(100));

/// The same allocator as the executor's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Mgas/s of sequential, parallel and sharded execution of the same blocks")]
struct Args {
    /// How many times each block is executed in each way
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u32).range(3..=1000))]
    rounds: u32,
    /// Highest number of threads; the default is one per core, at least two
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(2..=64))]
    threads: Option<u64>,
    /// Run only the measurements that need no cluster
    #[arg(long)]
    local_only: bool,
    /// Compare only the first and second execution of a block in fresh processes, and of
    /// precompiles
    #[arg(long)]
    cold_only: bool,
    /// Print the time of the precompile at this index; for the benchmark's own use
    #[arg(long, value_name = "N", hide = true)]
    precompile: Option<usize>,
    /// Beat into this segment and print the cost; for the benchmark's own use
    #[arg(long, value_name = "FILE", hide = true)]
    beats: Option<PathBuf>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() {
    let args = Args::parse();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = args.threads.map_or(cores.max(2), |threads| usize::try_from(threads).expect("at most 64"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut out = Map::new();
    let swaps = execution::generated(
        Plan {
            transactions: 200,
            conflict: 0.0,
            seed: 1,
            kind: Kind::Swaps,
            skew: 0.0,
            // Execution is measured as on the real blocks, which have no witness.
            witness: false,
            ..Plan::default()
        },
        10,
    );
    if let Some(segment) = &args.beats {
        return beats(segment, &swaps, args.rounds);
    }
    if let Some(place) = args.precompile {
        return println!("{}", json!(cold::this_precompile(place)));
    }
    in_fresh_processes(args.rounds, &mut out);
    if args.cold_only {
        return save(args.json.as_deref(), out);
    }
    if let Some(path) = blocks::real() {
        let real = load_chain(&path).expect("blocks");
        in_process("", "real blocks", &real, threads, args.rounds, &mut out);
        if !args.local_only {
            over_cluster("", "real blocks", &real, &folder.path().join("real"), &args, &mut out);
        }
    } else {
        println!("no real blocks at SHARD_BLOCKS or ../shared/blocks: generated ones only");
    }
    in_process("swaps_", "generated swaps without conflict", &swaps, threads, args.rounds, &mut out);
    if !args.local_only {
        over_cluster("swaps_", "generated swaps", &swaps, &folder.path().join("swaps"), &args, &mut out);
    }
    heartbeats(&folder.path().join("beats"), args.rounds, &mut out);
    save(args.json.as_deref(), out);
}

fn save(path: Option<&Path>, mut out: Map<String, Value>) {
    out.insert("machine".to_owned(), machine::describe());
    if let Some(path) = path {
        let text = format!("{:#}\n", Value::Object(out));
        std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// Compares the first block of a fresh process with its second run, and the first call of each
/// precompile with later ones.
fn in_fresh_processes(rounds: u32, out: &mut Map<String, Value>) {
    let this = binary("bench-exec");
    let precompiles = cold::precompiles(|place| {
        let mut command = Command::new(&this);
        command.args(["--precompile", &place.to_string()]);
        command
    });
    println!("precompiles, each in a process of its own:      first call        later");
    for one in &precompiles {
        println!("    {:<40}{:>11.1} µs{:>10.1} µs", one.name, one.cold_us, one.warm_us);
    }
    let by_name = |time: fn(&cold::Precompile) -> f64| {
        precompiles.iter().map(|one| (one.name.clone(), json!(time(one)))).collect::<Map<_, _>>()
    };
    out.insert("precompile_cold_us".to_owned(), Value::Object(by_name(|one| one.cold_us)));
    out.insert("precompile_warm_us".to_owned(), Value::Object(by_name(|one| one.warm_us)));
    let Some(folder) = blocks::real() else { return };
    let with_point = blocks::with_point_evaluation();
    // A third of the rounds: each starts a process and reads the block.
    let measured = cold::blocks(&folder, with_point.as_slice(), rounds.div_ceil(3));
    println!(
        "first block of a fresh process against its second run, medians of {} processes",
        rounds.div_ceil(3)
    );
    for block in &measured {
        let (first, second) = (block.first.median(), block.second.median());
        println!("    block {:>9}{first:>10.3} ms{second:>10.3} ms{:>7.2} ×", block.number, block.ratio());
    }
    let mut ratios: Vec<f64> = measured.iter().map(cold::Cold::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let ratios = figures::distribution(&ratios);
    let of = |key: &str| ratios[key].as_f64().unwrap_or(f64::NAN);
    println!(
        "  median {:.2} × (aim {}), worst {:.2} × (aim {})",
        of("p50"),
        COLD_AIM.0,
        of("max"),
        COLD_AIM.1
    );
    out.insert("cold_ratio".to_owned(), ratios);
}

/// In order and on up to `threads` threads.
fn in_process(
    prefix: &str,
    what: &str,
    blocks: &Blocks,
    threads: usize,
    rounds: u32,
    out: &mut Map<String, Value>,
) {
    let locals: Vec<Local> =
        (1..=threads).map(|threads| Local::with_threads(1, threads).expect("threads")).collect();
    let mut times = vec![vec![Times::default(); blocks.len()]; locals.len()];
    for _ in 0..rounds {
        for (local, times) in locals.iter().zip(&mut times) {
            execution::once(local, blocks, times);
        }
    }
    println!("{what}: {} blocks, {rounds} rounds, medians", blocks.len());
    let gas: Vec<f64> = blocks.iter().map(|block| block.expected.gas_used as f64 / 1e6).collect();
    let large: Vec<usize> =
        blocks.iter().enumerate().filter(|(_, b)| b.transactions.len() >= LARGE).map(|(at, _)| at).collect();
    let total = |times: &[Times]| large.iter().map(|at| times[*at].median()).sum::<f64>();
    let in_order = total(&times[0]);
    let mgas = large.iter().map(|at| gas[*at]).sum::<f64>() / (in_order / 1e3);
    println!("  in order: {mgas:.0} Mgas/s over the {} blocks of {LARGE} transactions or more", large.len());
    out.insert(format!("{prefix}sequential_mgas_per_s"), json!(mgas));
    let (mut ratios, mut again, mut worst) = (Map::new(), Map::new(), Map::new());
    let mut ceilings = Map::new();
    for (threads, times_here) in times.iter().enumerate().skip(1).map(|(at, times)| (at + 1, times)) {
        let ratio = in_order / total(times_here);
        let each =
            large.iter().map(|at| (times[0][*at].median() / times_here[*at].median(), blocks[*at].number()));
        let (least, at) = each.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, 0));
        let executed: usize = large.iter().map(|at| blocks[*at].transactions.len()).sum();
        let ran_again: usize = large.iter().map(|at| times_here[*at].again).sum();
        let share = 100.0 * ran_again as f64 / (executed as f64 * f64::from(rounds));
        let aim = if prefix.is_empty() { AIM.1 } else { AIM.0 };
        let apart = side_by_side::in_order(blocks, threads, rounds);
        let ceiling = threads as f64 * in_order / large.iter().map(|at| apart[*at]).sum::<f64>();
        println!(
            "  {threads} threads: {ratio:.2} × (aim {aim} on 2), worst block {at} {least:.2} × (aim {}), {share:.1} % ran again; in order {threads} times side by side {ceiling:.2} ×",
            AIM.2
        );
        ratios.insert(threads.to_string(), json!(ratio));
        worst.insert(threads.to_string(), json!(least));
        ceilings.insert(threads.to_string(), json!(ceiling));
        again.insert(threads.to_string(), json!(share));
    }
    for at in large.iter().filter(|_| prefix.is_empty()) {
        let sequential = times[0][*at].median();
        let others: Vec<String> =
            times[1..].iter().map(|times| format!("{:>6.2} ×", sequential / times[*at].median())).collect();
        let block = &blocks[*at];
        println!(
            "    block {:>9}{:>6} txs{:>8.2} Mgas{sequential:>9.2} ms {}",
            block.number(),
            block.transactions.len(),
            gas[*at],
            others.join(" ")
        );
    }
    out.insert(format!("{prefix}local_ratio"), Value::Object(ratios));
    out.insert(format!("{prefix}side_by_side_ratio"), Value::Object(ceilings));
    out.insert(format!("{prefix}local_worst_block_ratio"), Value::Object(worst));
    out.insert(format!("{prefix}reexecuted_percent"), Value::Object(again));
}

/// Over 1, 2 and 4 shards, with state that answers at once and with state that takes its time.
fn over_cluster(
    prefix: &str,
    what: &str,
    blocks: &Blocks,
    folder: &Path,
    args: &Args,
    out: &mut Map<String, Value>,
) {
    // A third of the rounds: a cluster takes several times as long.
    let rounds = args.rounds.div_ceil(3);
    execution::write(blocks, &folder.join("blocks"));
    let (with_state, slowly) = sequential(blocks, rounds);
    let transactions: usize = blocks.iter().map(|block| block.transactions.len()).sum();
    let pieces = [(None, "", with_state), (Some(LATENCY.0), "latency_100us_", slowly)];
    for (slow_state, suffix, in_order) in pieces {
        println!("{what} over a cluster, state requests + {}", slow_state.unwrap_or("0"));
        println!("  in order{in_order:>12.2} ms for all");
        let (mut ratios, mut again) = (Map::new(), Map::new());
        for count in [1, 2, 4] {
            let at = folder.join(format!("{suffix}{count}"));
            let shards = Shards::start(count, &at, slow_state);
            let times = shards.run(&folder.join("blocks"), rounds);
            let all: f64 = times.iter().map(|(_, times)| times.median()).sum();
            let ran_again: usize = times.iter().map(|(_, times)| times.again).sum();
            let share = 100.0 * ran_again as f64 / (transactions as f64 * f64::from(rounds));
            let (per_block, per_tx) =
                ((all - in_order) / blocks.len() as f64, (all - in_order) * 1e3 / transactions as f64);
            println!(
                "  {count} shards{all:>12.2} ms  {:.2} ×  overhead {per_block:.2} ms a block, {per_tx:.1} µs a transaction, {share:.1} % ran again",
                in_order / all
            );
            ratios.insert(count.to_string(), json!(in_order / all));
            again.insert(count.to_string(), json!(share));
            out.insert(format!("{prefix}{suffix}cluster_{count}_overhead_ms_per_block"), json!(per_block));
            out.insert(format!("{prefix}{suffix}cluster_{count}_overhead_us_per_transaction"), json!(per_tx));
        }
        out.insert(format!("{prefix}{suffix}cluster_ratio"), Value::Object(ratios));
        out.insert(format!("{prefix}{suffix}cluster_reexecuted_percent"), Value::Object(again));
    }
}

/// All blocks in order, in milliseconds: including the building of their states, and with slow
/// state.
fn sequential(blocks: &Blocks, rounds: u32) -> (f64, f64) {
    let local = Local::new(1).expect("no threads");
    let mut times = vec![Times::default(); blocks.len()];
    let mut slowly = vec![Times::default(); blocks.len()];
    for round in 0..rounds {
        let mut previous = None;
        for (block, (times, slowly)) in blocks.iter().zip(times.iter_mut().zip(&mut slowly)) {
            // A few rounds suffice: nearly all of it is waiting, which varies little.
            if round < 3 {
                let state = validate::open(block, previous.clone()).expect("a state");
                slowly.milliseconds.push(slow::in_order(block, &state, LATENCY.1));
            }
            let (report, after) = local.run(block, previous.take(), &|| {}).expect("executed");
            times.milliseconds.push(report.milliseconds);
            previous = Some(after);
        }
    }
    let sum = |times: &[Times]| times.iter().map(Times::median).sum();
    (sum(&times), sum(&slowly))
}

/// The same blocks in order, alternately with and without a beat after each transaction, while a
/// sidecar reads the segment. A separate process runs them: a sidecar does not watch the process
/// that started it.
fn heartbeats(folder: &Path, rounds: u32, out: &mut Map<String, Value>) {
    std::fs::create_dir_all(folder).expect("a folder");
    let settings =
        Settings { mode: "observe".to_owned(), stall_after: "5s".to_owned(), ..Settings::default() };
    let sidecar = Sidecar::configure(folder, "bench", "exec-bench", &settings);
    let mut beating = Command::new(binary("bench-exec"));
    beating.args(["--rounds", &rounds.to_string(), "--beats"]).arg(&sidecar.heartbeat);
    let mut beating = Process::start("beats", beating);
    beating.line("its segment", 0, |line| (line == "beating").then_some(()));
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config).env("SHARD_WATCHDOG_SUPERVISED", "1");
    let _watching = Process::start_into_file("sidecar", command, &folder.join("sidecar.out"));
    sidecar.wait_for("healthy");
    // The process has waited for this.
    std::fs::write(go(&sidecar.heartbeat), "").expect("a file");
    let cost: Cost = beating.line("its figures", 0, |line| serde_json::from_str(line).ok());
    beating.wait("its end");
    let (low, percent, high) = cost.median();
    println!(
        "heartbeats: {percent:+.2} % of CPU time ({low:+.2} to {high:+.2} in 95 of 100 cases) with a sidecar polling, aim 0.5 %, {} pairs; \
         by count {:.4} %, at {:.2} ns a beat",
        cost.pairs.len(),
        cost.by_count,
        cost.beat_ns
    );
    out.insert("heartbeat_cost_percent".to_owned(), json!(percent));
    out.insert("heartbeat_cost_percent_interval".to_owned(), json!({ "low": low, "high": high }));
    out.insert("heartbeat_cost_percent_by_count".to_owned(), json!(cost.by_count));
    out.insert("heartbeat_beat_ns".to_owned(), json!(cost.beat_ns));
}

/// The file that signals that the sidecar watches.
fn go(heartbeat: &Path) -> PathBuf {
    heartbeat.with_extension("go")
}

/// What [`heartbeats`] starts: prints what beats cost, as [`Cost`].
fn beats(segment: &Path, blocks: &Blocks, rounds: u32) {
    let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("bench".to_owned())).expect("a segment");
    let beat = heartbeat.register("exec-bench").expect("a slot");
    heartbeat.set_state(ProcessState::Running);
    println!("beating");
    wait::until("a sidecar that watches", || go(segment).exists().then_some(()));
    // More rounds than elsewhere: the effect sought is smaller than the scatter.
    let cost = execution::beats::measure(&beat, blocks, rounds * 4);
    beat.leave();
    println!("{}", json!(cost));
}
