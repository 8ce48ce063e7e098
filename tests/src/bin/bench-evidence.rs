//! What evidence costs, by number of threads: how long reading `/proc` takes, during which the
//! target runs on; how long the target stands still for a dump, how long the dump takes and how
//! large it is, and what the helper needs. In the same run, on the same target, what gdb needs for
//! the stacks of all threads.
//!
//! The target itself says how long it stood still: one of its threads prints the time every
//! millisecond, and the longest gap between two of these times counts. Both are measured so.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_tests::figures::distribution;
use shard_tests::process::binary;
use shard_tests::stack_target::{self, StackTarget};
use shard_tests::{clock, machine, wait};
use shard_watchdog::dump::client::Helper;
use shard_watchdog::dump::wire::Request;
use shard_watchdog::evidence::{Evidence, Subject};

/// Where Debian's package `gdb` installs it.
const GDB: &str = "/usr/bin/gdb";
/// Time between two lines of the target, in milliseconds: what its gaps are measured by.
const BEAT_MS: u64 = 1;
/// Between two measurements, so that what one has left over does not count for the next.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Parser)]
#[command(about = "What evidence costs the target and the kill, beside gdb")]
struct Args {
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "8,64,500")]
    threads: Vec<usize>,
    /// Snapshots and dumps for each number of threads.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    dumps: u32,
    /// Runs of gdb for each number of threads.
    #[arg(long, default_value_t = 3)]
    gdb: u32,
    /// Memory that the target has in use, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    heap: usize,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One number of threads.
#[derive(Default)]
struct Measured {
    snapshot_ms: Vec<f64>,
    stands_still_ms: Vec<f64>,
    evidence_ms: Vec<f64>,
    evidence_kib: Vec<f64>,
    helper_rss_mib: f64,
    gdb_stands_still_ms: Vec<f64>,
    gdb_ms: Vec<f64>,
}

fn main() {
    let args = Args::parse();
    let gdb = if Path::new(GDB).is_file() { args.gdb } else { 0 };
    if gdb < args.gdb {
        println!("{GDB} is not installed, so there is nothing to compare with");
    }
    println!(
        "{:>8}{:>18}{:>22}{:>22}{:>12}{:>14}{:>24}",
        "threads",
        "snapshot, ms",
        "stands still, ms",
        "until the file, ms",
        "KiB",
        "helper, MiB",
        "gdb: stands still, ms"
    );
    let mut figures = Map::new();
    for threads in &args.threads {
        let measured = measure(*threads, &args, gdb);
        report(*threads, &measured, &mut figures);
    }
    figures.insert("heap_mib".to_owned(), json!(args.heap));
    figures.insert("machine".to_owned(), machine::describe());
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

fn measure(threads: usize, args: &Args, gdb: u32) -> Measured {
    let beat = BEAT_MS.to_string();
    let heap = args.heap.to_string();
    let further = ["--beat", &beat, "--heap", &heap];
    // Two threads of the target are none of those that wait.
    let target =
        StackTarget::start_by(Command::new(stack_target::program()), threads.saturating_sub(2), &further);
    let mut helper = Helper::new(|| {
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("evidence-helper");
        command
    });
    helper.start().expect("the helper starts");
    let request = Request {
        pid: target.process.pid(),
        start_time: target.start_time(),
        tid: target.tid,
        time_limit: Duration::from_secs(10),
        most_threads: 10_000,
    };
    let mut measured = Measured::default();
    let process = File::open(format!("/proc/{}", target.process.pid())).expect("the target lives");
    let subject = Subject { at_fault: Some(target.tid), watched: Vec::new(), others: true };
    for _ in 0..args.dumps {
        std::thread::sleep(PAUSE);
        let deadline = shard_watchdog::clock::now().plus(wait::GENEROUS);
        let evidence = Evidence::gather(process.as_fd(), &subject, deadline);
        assert!(evidence.threads.len() >= threads, "all threads are in it");
        measured.snapshot_ms.push(evidence.took_ms);
        std::thread::sleep(PAUSE);
        let stood_still = longest_gap(&target, || {
            let began = Instant::now();
            let dumped = helper.dump(&request, began + wait::GENEROUS).expect("a dump");
            measured.evidence_ms.push(began.elapsed().as_secs_f64() * 1e3);
            #[allow(clippy::cast_precision_loss, reason = "a dump of some MiB")]
            measured.evidence_kib.push(dumped.account.bytes as f64 / 1024.0);
        });
        measured.stands_still_ms.push(stood_still);
    }
    measured.helper_rss_mib = peak_mib(helper.pid().expect("it runs"));
    for _ in 0..gdb {
        std::thread::sleep(PAUSE);
        let stood_still = longest_gap(&target, || {
            let began = Instant::now();
            let pid = target.process.pid().to_string();
            let mut command = Command::new(GDB);
            command.args(["-nx", "-batch", "-p", &pid, "-ex", "thread apply all bt"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let status = command.status().expect("gdb runs");
            assert!(status.success(), "gdb: {status}");
            measured.gdb_ms.push(began.elapsed().as_secs_f64() * 1e3);
        });
        measured.gdb_stands_still_ms.push(stood_still);
    }
    measured
}

/// The longest time between two lines of the target while `work` is done, in milliseconds, less the
/// usual time between them.
fn longest_gap(target: &StackTarget, work: impl FnOnce()) -> f64 {
    let from = target.process.line_count().saturating_sub(1);
    work();
    let ended = clock::monotonic_ns();
    let time = |line: &str| line.strip_prefix("beat ")?.parse::<u64>().ok();
    target.process.line("a line after the end", from, |line| time(line).filter(|at| *at > ended));
    let times: Vec<u64> = target.process.lines()[from..].iter().filter_map(|line| time(line)).collect();
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    #[allow(clippy::cast_precision_loss, reason = "a few seconds in nanoseconds")]
    let longest = gaps.max().unwrap_or(0) as f64 / 1e6;
    (longest - Duration::from_millis(BEAT_MS).as_secs_f64() * 1e3).max(0.0)
}

/// The most memory that a process had in use at a time.
fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn report(threads: usize, measured: &Measured, figures: &mut Map<String, Value>) {
    let all = [
        ("snapshot_ms", &measured.snapshot_ms),
        ("stands_still_ms", &measured.stands_still_ms),
        ("evidence_ms", &measured.evidence_ms),
        ("evidence_kib", &measured.evidence_kib),
        ("peer_gdb_stands_still_ms", &measured.gdb_stands_still_ms),
        ("peer_gdb_ms", &measured.gdb_ms),
    ];
    let distributions = all.map(|(key, values)| (key, distribution(values)));
    let number = |key: &str, of: &str| {
        let found = distributions.iter().find(|(name, _)| *name == key);
        found.and_then(|(_, spread)| spread[of].as_f64()).unwrap_or(f64::NAN)
    };
    println!(
        "{threads:>8}{:>9.2}{:>9.2}{:>11.1}{:>11.1}{:>11.1}{:>11.1}{:>12.0}{:>14.1}{:>24.1}",
        number("snapshot_ms", "p50"),
        number("snapshot_ms", "max"),
        number("stands_still_ms", "p50"),
        number("stands_still_ms", "max"),
        number("evidence_ms", "p50"),
        number("evidence_ms", "max"),
        number("evidence_kib", "max"),
        measured.helper_rss_mib,
        number("peer_gdb_stands_still_ms", "p50"),
    );
    let mut keep = |key: &str, value: Value| {
        let by_threads = figures.entry(key).or_insert_with(|| json!({}));
        by_threads[threads.to_string()] = value;
    };
    for (key, spread) in distributions {
        keep(key, spread);
    }
    keep("helper_rss_mib", json!(measured.helper_rss_mib));
}
