//! The benchmarks run and produce the numbers that scripts read. The values are not asserted:
//! windows are as short as possible, and the binaries are those of the tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shard_tests::process::Process;
use shard_tests::prometheus::Prometheus;
use shard_tests::{skip, wait};

/// For debug binaries on a busy machine; even half of it would be a lot.
const BENCH_ENDS_WITHIN: Duration = Duration::from_secs(180);

/// Runs a benchmark to its end and reads its figures.
#[track_caller]
fn figures(name: &str, program: &str, arguments: &[&str]) -> Value {
    run(name, program, arguments).0
}

/// The same, and what it printed.
#[track_caller]
fn run(name: &str, program: &str, arguments: &[&str]) -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(program);
    command.args(arguments).arg("--json").arg(&json);
    let mut bench = Process::start(name, command);
    let status = wait::within(BENCH_ENDS_WITHIN, &format!("the end of {name}"), || bench.ended());
    assert!(status.success(), "{name}: {status}\n{}", bench.lines().join("\n"));
    let text = std::fs::read_to_string(&json).unwrap();
    (serde_json::from_str(&text).unwrap(), bench.lines())
}

#[track_caller]
fn assert_numbers(figures: &Value, keys: &[&str]) {
    for key in keys {
        assert!(figures[key].is_f64(), "{key} is a number in {figures:#}");
    }
}

#[test]
fn bench_footprint_gives_its_numbers() {
    let arguments = ["--window", "1", "--settle", "0"];
    let figures = figures("bench-footprint", env!("CARGO_BIN_EXE_bench-footprint"), &arguments);
    for prefix in ["", "busy_"] {
        let keys = ["cpu_percent_of_core", "rss_mib", "threads", "samples_per_second"];
        let keys = keys.map(|key| format!("{prefix}{key}"));
        assert_numbers(&figures, &keys.each_ref().map(String::as_str));
        let threads = &figures[format!("{prefix}cpu_percent_of_core_by_thread")];
        assert!(threads["watch"].is_f64(), "the watch thread is among {threads}");
    }
    // Counted by its own loop: a program that asked the wrong process would find none.
    assert!(figures["samples_per_second"].as_f64() > Some(0.0), "{figures:#}");
}

#[test]
fn bench_judge_gives_its_numbers() {
    let arguments = ["--threads", "1,8", "--looks", "20", "--every", "0", "--replay", "20"];
    let figures = figures("bench-judge", env!("CARGO_BIN_EXE_bench-judge"), &arguments);
    for prefix in ["", "idle_", "still_"] {
        for (key, threads) in ["observe_us", "judge_us"].into_iter().flat_map(|key| [(key, "1"), (key, "8")])
        {
            let distribution = &figures[format!("{prefix}{key}")][threads];
            assert_eq!(distribution["n"], 20, "{prefix}{key}: {figures:#}");
            assert_numbers(distribution, &["p50", "p99", "max"]);
        }
    }
    assert_numbers(&figures, &["replay_hour_ms", "replay_hour_cpu_ms", "replay_hour_mib"]);
}

#[test]
fn bench_scrape_gives_its_numbers() {
    let arguments = ["--rounds", "1", "--scrapes", "2", "--interval", "150"];
    let figures = figures("bench-scrape", env!("CARGO_BIN_EXE_bench-scrape"), &arguments);
    assert_numbers(&figures, &["cpu_ms_per_scrape", "cpu_ms_per_second_unscraped"]);
    if figures.get("peer_cpu_ms_per_scrape").is_some() {
        assert_numbers(&figures, &["peer_cpu_ms_per_scrape", "peer_ratio"]);
    } else {
        let why =
            "prometheus-process-exporter is not installed (apt-get install prometheus-process-exporter)";
        skip::note("bench_scrape_peer", why);
    }
}

#[test]
fn bench_evidence_gives_its_numbers() {
    let arguments = ["--threads", "8", "--dumps", "2", "--gdb", "1"];
    let figures = figures("bench-evidence", env!("CARGO_BIN_EXE_bench-evidence"), &arguments);
    for key in ["snapshot_ms", "stands_still_ms", "evidence_ms", "evidence_kib"] {
        let distribution = &figures[key]["8"];
        assert_eq!(distribution["n"], 2, "{key}: {figures:#}");
        assert_numbers(distribution, &["p50", "p99", "max"]);
    }
    assert_numbers(&figures["helper_rss_mib"], &["8"]);
    if figures["peer_gdb_stands_still_ms"]["8"]["n"] == 0 {
        skip::note("bench_evidence_peer", "gdb is not installed (apt-get install gdb)");
    }
}

#[test]
fn bench_scale_gives_its_numbers() {
    let arguments = ["--shards", "3", "--rounds", "1", "--window", "1", "--fleets", "2,4", "--every", "1"];
    let figures = figures("bench-scale", env!("CARGO_BIN_EXE_bench-scale"), &arguments);
    assert_numbers(&figures, &["host_idle_cpu_percent_of_core", "host_busy_rss_anon_mib"]);
    for key in ["host_alone_end_to_verdict_ms", "host_storm_end_to_verdict_ms"] {
        assert_eq!(figures[key]["n"], 3, "{figures:#}");
    }
    if !Prometheus::installed_or_skip("bench_scale_fleet") {
        return;
    }
    // Twice as many shards have twice as many series; a page gains a few more while it is new.
    let series = |shards: &str| figures[format!("fleet_{shards}")]["series"].as_f64().unwrap();
    assert!((1.5..2.5).contains(&(series("4") / series("2"))), "{figures:#}");
    assert_numbers(&figures["fleet_10000"], &["series", "samples_per_second", "rss_mib"]);
}

#[test]
fn bench_exec_gives_its_cold_ratio() {
    let arguments = ["--cold-only", "--rounds", "3"];
    let figures = figures("bench-exec", env!("CARGO_BIN_EXE_bench-exec"), &arguments);
    for time in ["precompile_cold_us", "precompile_warm_us"] {
        assert!(figures[time]["point evaluation"].is_f64(), "{figures:#}");
    }
    if shard_tests::blocks::real().is_none() {
        return skip::note("bench_exec_gives_its_cold_ratio", "no real blocks");
    }
    for key in ["p50", "max"] {
        assert!(figures["cold_ratio"][key].is_f64(), "{figures:#}");
    }
}

#[test]
fn bench_peers_prints_its_table_and_gives_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (page, plot) = (folder.path().join("page.md"), folder.path().join("plot.svg"));
    let (page, plot) = (page.to_str().unwrap(), plot.to_str().unwrap());
    let arguments = ["--only", "ours", "--rounds", "1", "--settle", "0", "--rest", "1", "--starve", "1"];
    let arguments = [&arguments[..], &["--markdown", page, "--plot", plot]].concat();
    let (figures, lines) = run("bench-peers", env!("CARGO_BIN_EXE_bench-peers"), &arguments);
    let ours = &figures["peers"]["ours"];
    assert_eq!(ours["sees_lost_thread"], true, "{figures:#}");
    assert_eq!(ours["sees_stall"], true, "{figures:#}");
    assert_eq!(ours["false_kills"], 0, "{figures:#}");
    for times in [&ours["detect_ms"], &ours["running_again_ms"]] {
        assert_numbers(&times["lost_thread"], &["p50", "p99", "max"]);
        assert_numbers(&times["stall"], &["p50", "p99", "max"]);
    }
    // The stall is not detected before its threshold has passed: otherwise another fault would have
    // been measured.
    let threshold = figures["threshold_ms"].as_f64();
    assert!(ours["detect_ms"]["stall"]["p50"].as_f64() >= threshold, "{figures:#}");
    assert_numbers(ours, &["cpu_percent_of_core", "rss_mib"]);
    assert!(lines.iter().any(|line| line.starts_with("ours ") && line.contains("yes")), "{lines:#?}");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("| shard-watchdog | yes |"), "{text}");
    let text = std::fs::read_to_string(plot).unwrap();
    assert!(text.contains("shard-watchdog") && text.trim_end().ends_with("</svg>"), "{text}");
}

#[test]
fn bench_peers_names_the_peers_that_there_are() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-peers"));
    command.args(["--only", "upstart"]);
    let mut bench = Process::start("bench-peers", command);
    let status = wait::within(BENCH_ENDS_WITHIN, "the end of bench-peers", || bench.ended());
    assert_eq!(status.code(), Some(2), "{:?}", bench.lines());
    bench.line("the names", 0, |line| line.contains("ours, guard-dog, systemd-worker").then_some(()));
}
