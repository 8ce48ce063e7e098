//! CPU that one scrape of the sidecar's `/metrics` costs at 64 threads, compared with Debian's
//! `prometheus-process-exporter -threads`: the same target, in the same run.
//!
//! Each round scrapes both repeatedly, one after the other, then leaves both alone for as long. The
//! cost of a scrape is the CPU time of the first half minus that of the second, divided by the
//! number of scrapes. The sidecar's watch thread is excluded: it shares nothing with a scrape, and
//! beside 64 threads at work the noise of its observations would exceed a scrape. What the sidecar
//! spends without being scraped is reported separately (its observations, and its target's totals,
//! which it reads on a timer while the exporter reads them in the scrape).

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures, and says where it ended"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Map, Value, json};
use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};
use shard_tests::figures::distribution;
use shard_tests::footprint::{cpu_time, cpu_time_of};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, machine, wait};

/// The number of slots that a segment has by default.
const THREADS: usize = 64;
/// Where Debian's package `prometheus-process-exporter` installs it.
const PEER: &str = "/usr/bin/prometheus-process-exporter";
/// The kernel's name for the target, by which the exporter finds it.
const TARGET: &str = "scrape-target";
/// Time between two beats of each thread of the target: short enough that every scrape finds other
/// numbers and no thread comes near its threshold.
const BEAT: Duration = Duration::from_millis(500);
/// After this time a target ends by itself, in case its harness is gone and could not end it.
const TARGET_LIVES: Duration = Duration::from_secs(3600);
/// The sidecar's thread that observes the target, scraped or not.
const WATCH: &str = "watch";
/// The ratio that we want, at most.
const AIM: f64 = 1.0 / 30.0;

#[derive(Debug, Parser)]
#[command(about = "CPU of one scrape at 64 threads, beside prometheus-process-exporter")]
struct Args {
    /// Rounds, each with scrapes and the same time without.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Scrapes per round.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scrapes: u32,
    /// Time between two scrapes. The sidecar caches a page for 100 ms, so it must be longer than
    /// that.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(150..=60_000))]
    interval: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the target: register the threads in this segment.
    #[arg(long, value_name = "SEGMENT", hide = true)]
    target: Option<PathBuf>,
}

fn main() {
    let args = Args::parse();
    if let Some(segment) = &args.target {
        return be_the_target(segment);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = Settings {
        thread: Some("w-*".to_owned()),
        stall_after: "5s".to_owned(),
        mode: "observe".to_owned(),
        ..Settings::default()
    };
    let sidecar = Sidecar::configure(folder.path(), "scrape", "w-*", &settings);
    let target = start_target(&sidecar.heartbeat);
    let mut scraped = vec![Scraped::sidecar(&sidecar, folder.path())];
    if Path::new(PEER).is_file() {
        scraped.push(Scraped::peer("peer_", "exporter -threads", &[], folder.path()));
        // The exporter reads `smaps` unless that is switched off. It holds the target's memory lock
        // meanwhile, which not everybody wants.
        let without = ["-gather-smaps=false"];
        scraped.push(Scraped::peer("peer_no_smaps_", "exporter without smaps", &without, folder.path()));
    } else {
        println!("{PEER} is not installed, so there is nothing to compare with. To have it:");
        println!("  apt-get install --no-install-recommends prometheus-process-exporter");
    }
    for round in 0..args.rounds {
        eprint!("\rround {} of {} ", round + 1, args.rounds);
        measure(&args, &mut scraped);
    }
    eprintln!();
    assert_eq!(sidecar.pid(), target.pid(), "the same target all along");

    let mut figures = Map::new();
    report(&args, &scraped, &mut figures);
    figures.insert("threads".to_owned(), json!(THREADS));
    figures.insert("machine".to_owned(), machine::describe());
    figures.insert("processes_on_machine".to_owned(), json!(machine::processes()));
    if let Some(path) = args.json {
        let text = format!("{:#}\n", Value::Object(figures));
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// Runs this program again as the target, and waits until all its threads are registered.
fn start_target(segment: &Path) -> Process {
    let own = std::env::current_exe().expect("a program knows its own path");
    let mut command = Command::new(own);
    command.arg("--target").arg(segment);
    let process = Process::start("target", command);
    process.line("all threads registered", 0, |line| (line == "registered").then_some(()));
    process
}

/// Registers the threads, each at work and beating, and lives until it is told to end.
fn be_the_target(segment: &Path) {
    rustix::thread::set_name(&std::ffi::CString::new(TARGET).expect("no zero in it")).expect("a short name");
    let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("scrape")).expect("a segment");
    let (registered, all) = std::sync::mpsc::channel();
    for number in 0..THREADS {
        let (heartbeat, registered) = (heartbeat.clone(), registered.clone());
        let name = format!("w-{number:02}");
        let of_slot = name.clone();
        let beating = move || {
            let beat = heartbeat.register(&of_slot).expect("a slot");
            let _working = beat.working(Work::new(number as u64));
            registered.send(()).expect("somebody counts");
            loop {
                beat.progress();
                std::thread::sleep(BEAT);
            }
        };
        std::thread::Builder::new().name(name).spawn(beating).expect("a thread");
    }
    for _ in 0..THREADS {
        all.recv_timeout(wait::GENEROUS).expect("every thread registers");
    }
    heartbeat.set_state(ProcessState::Running);
    println!("registered");
    std::thread::sleep(TARGET_LIVES);
}

/// One of the scraped programs, and the CPU time that it has used so far.
struct Scraped {
    prefix: &'static str,
    what: &'static str,
    process: Process,
    address: SocketAddr,
    page_bytes: usize,
    rounds: Vec<Round>,
}

/// CPU time of one round, in milliseconds.
struct Round {
    scraped: f64,
    left_alone: f64,
    /// The watch thread, during the half without scrapes.
    watch: f64,
}

/// CPU time so far, in milliseconds.
#[derive(Clone, Copy)]
struct Cpu {
    /// Without the watch thread.
    serving: f64,
    watch: f64,
}

impl Scraped {
    /// The sidecar, once it watches every thread.
    fn sidecar(sidecar: &Sidecar, folder: &Path) -> Self {
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(["run", "--config"]).arg(&sidecar.config).env("SHARD_WATCHDOG_SUPERVISED", "1");
        let process = Process::start_into_file("sidecar", command, &folder.join("sidecar.out"));
        sidecar.wait_for("healthy");
        // Its thread totals come from a separate reader, a moment later.
        Self::ready(
            "",
            "shard-watchdog",
            process,
            sidecar.http,
            "shard_watchdog_thread_run_delay_seconds_total{",
        )
    }

    /// The exporter, once it reports every thread.
    fn peer(prefix: &'static str, what: &'static str, further: &[&str], folder: &Path) -> Self {
        let address = api::free_address();
        let mut command = Command::new(PEER);
        command
            .args(["-threads", "-procnames", TARGET, "-web.listen-address", &address.to_string()])
            .args(further);
        let out = folder.join(format!("{prefix}exporter.out"));
        let process = Process::start_into_file(what, command, &out);
        Self::ready(prefix, what, process, address, "namedprocess_namegroup_thread_count{")
    }

    /// Waits until its page has one `series` for each thread.
    fn ready(
        prefix: &'static str,
        what: &'static str,
        mut process: Process,
        address: SocketAddr,
        series: &str,
    ) -> Self {
        let page_bytes = wait::until(&format!("{what} with every thread on its page"), || {
            if let Some(status) = process.ended() {
                panic!("{what} ended with {status}: {}", process.lines().join("\n"));
            }
            let page = api::get(address, "/metrics")?;
            let of_threads = |line: &&str| line.starts_with(series) && line.contains("\"w-");
            (page.body.lines().filter(of_threads).count() >= THREADS).then_some(page.body.len())
        });
        Self { prefix, what, process, address, page_bytes, rounds: Vec::new() }
    }

    fn scrape(&self) {
        let page = api::get(self.address, "/metrics");
        let whole = page.is_some_and(|page| page.code == 200 && page.body.len() * 2 > self.page_bytes);
        assert!(whole, "{} answers a scrape", self.what);
    }

    fn cpu(&self) -> Cpu {
        let pid = self.process.pid();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let watch = milliseconds(cpu_time_of(pid, WATCH));
        Cpu { serving: milliseconds(cpu_time(pid)) - watch, watch }
    }
}

/// One round: scraped for a time, left alone for the same time.
fn measure(args: &Args, scraped: &mut [Scraped]) {
    let interval = Duration::from_millis(args.interval);
    let half = interval * args.scrapes;
    let before: Vec<_> = scraped.iter().map(Scraped::cpu).collect();
    let began = Instant::now();
    for number in 1..=args.scrapes {
        scraped.iter().for_each(Scraped::scrape);
        sleep_until(began + interval * number);
    }
    let between: Vec<_> = scraped.iter().map(Scraped::cpu).collect();
    let scraping = began.elapsed();
    let began = Instant::now();
    sleep_until(began + half);
    let stretch = scraping.as_secs_f64() / began.elapsed().as_secs_f64();
    for ((one, before), between) in scraped.iter_mut().zip(before).zip(between) {
        let after = one.cpu();
        one.rounds.push(Round {
            scraped: between.serving - before.serving,
            left_alone: (after.serving - between.serving) * stretch,
            watch: (after.watch - between.watch) * stretch,
        });
    }
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn report(args: &Args, scraped: &[Scraped], figures: &mut Map<String, Value>) {
    let scrapes = f64::from(args.scrapes);
    let seconds = Duration::from_millis(args.interval).as_secs_f64() * scrapes;
    let (mut own, mut ratios) = (f64::NAN, Vec::new());
    println!(
        "{:<24}{:>16}{:>22}{:>20}{:>12}",
        "", "ms a scrape", "rounds, p50 and max", "ms/s left alone", "page, KiB"
    );
    for one in scraped {
        let each = |number: fn(&Round) -> f64| one.rounds.iter().map(number).collect::<Vec<_>>();
        let rounds: Vec<_> =
            each(|round| round.scraped - round.left_alone).iter().map(|cost| cost / scrapes).collect();
        let alone = each(|round| round.left_alone + round.watch);
        let (cost, at_rest, spread) = (mean(&rounds), mean(&alone) / seconds, distribution(&rounds));
        let number = |key: &str| spread[key].as_f64().unwrap_or(f64::NAN);
        #[allow(clippy::cast_precision_loss, reason = "a page that fits in memory")]
        let kib = one.page_bytes as f64 / 1024.0;
        println!(
            "{:<24}{cost:>16.3}{:>13.3}{:>9.3}{at_rest:>20.3}{kib:>12.1}",
            one.what,
            number("p50"),
            number("max")
        );
        let prefix = one.prefix;
        figures.insert(format!("{prefix}cpu_ms_per_scrape"), json!(cost));
        figures.insert(format!("{prefix}cpu_ms_per_scrape_by_round"), spread);
        figures.insert(format!("{prefix}cpu_ms_per_second_unscraped"), json!(at_rest));
        figures.insert(format!("{prefix}page_kib"), json!(kib));
        if prefix.is_empty() {
            own = cost;
        } else {
            figures.insert(format!("{prefix}ratio"), json!(own / cost));
            ratios.push((one.what, own / cost));
        }
    }
    for (what, ratio) in ratios {
        println!("shard-watchdog to {what}: 1/{:.1} (aim 1/{:.0})", 1.0 / ratio, 1.0 / AIM);
    }
}

fn mean(values: &[f64]) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few rounds")]
    let count = values.len() as f64;
    values.iter().sum::<f64>() / count
}
