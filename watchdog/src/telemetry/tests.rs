use super::*;

use std::collections::BTreeMap;

use crate::archive::Archive;
use crate::board::sample;
use crate::board::totals::{ProcessTotals, TargetStats, ThreadCpu};
use crate::clock::Monotonic;
use crate::snapshot::TargetIdentity;
use shard_telemetry::metric::Kind;
use shard_telemetry::sign_of_life::{SignOfLife, SignOfLifeConfig};

/// A board with a value for everything that can be known.
fn full() -> (Arc<Board>, Telemetry) {
    let board = sample::board();
    let recorder =
        crate::config::RecorderConfig { directory: "/nonexistent".into(), keep_days: 1, keep_bytes: 1 << 24 };
    for which in crate::board::listening::Which::ALL {
        let there = crate::board::listening::State::Listens("127.0.0.1:1".to_owned());
        board.listening().set(*which, there);
    }
    board.set_archive(Archive::start(&recorder, board.shard(), *board.anchor(), Arc::default()).unwrap());
    let url = shard_telemetry::sign_of_life::Address::parse("http://127.0.0.1:1/").unwrap();
    let second = Duration::from_secs(1);
    let sign = SignOfLifeConfig { url, interval: second, time_limit: second };
    board.set_sign_of_life(SignOfLife::start(sign, "test", || Err("a test".to_owned())).unwrap());
    let telemetry = Telemetry::new(&board, None).unwrap();
    let snapshot = sample::snapshot();
    let totals = ProcessTotals {
        cpu: Duration::from_millis(1_500),
        resident_bytes: 4_096,
        virtual_bytes: 8_192,
        open_fds: Some(9),
        max_fds: Some(1_024),
        threads: Some(6),
        start_unix_seconds: 1_700_000_000,
    };
    let thread = ThreadCpu { name: "exec-s0".to_owned(), user: 1.5, system: 0.25, run_delay: Some(0.125) };
    board.set_target(Arc::new(TargetStats {
        at: crate::clock::now(),
        identity: snapshot.target,
        process: Some(totals),
        threads: vec![thread.clone(), thread],
        sidecar: Some(totals),
    }));
    let at = snapshot.at;
    board.set_snapshot(Arc::new(snapshot));
    telemetry.detected(&Opening {
        incident: 1,
        at,
        reason: Reason::Stalled,
        why: String::new(),
        target: TargetIdentity { pid: 1, start_time: 1, incarnation: 1 },
        thread: None,
        last_progress: Monotonic(at.0 - 5_004_000_000),
        seen: at,
        threshold: Some(Duration::from_secs(5)),
        observations: Vec::new(),
        last_words: None,
        tracer: None,
    });
    telemetry.restarted(Duration::from_millis(20));
    let gaps = vec![(Arc::from("exec-s0"), Duration::from_millis(3))];
    telemetry.timings(&Timings { late: vec![Duration::from_micros(70)], gaps });
    telemetry.near_miss("exec-s0", NearMissOutcome::Recovered);
    (board, telemetry)
}

/// Name and labels of every sample on the page.
fn samples(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parse = |line: &str| {
        let (name, rest) = line.split_once('{').expect("every sample has labels");
        let (labels, value) = rest.rsplit_once("} ").expect("labels end");
        value.parse::<f64>().expect("a number");
        let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect();
        (name.to_owned(), labels)
    };
    lines.map(parse).collect()
}

#[test]
fn every_metric_of_the_catalogue_is_on_the_page_under_its_own_name_and_type() {
    let (_board, telemetry) = full();
    let page = telemetry.page().unwrap();
    for metric in catalogue::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(page.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} in\n{page}", metric.name);
    }
    assert_eq!(page.matches("# TYPE ").count(), catalogue::ALL.len(), "nothing else is on it:\n{page}");
}

#[test]
fn every_sample_names_its_shard_and_none_a_thread_id() {
    let (_board, telemetry) = full();
    let page = telemetry.page().unwrap();
    for (name, labels) in samples(&page) {
        assert_eq!(labels.get("shard").map(String::as_str), Some("7"), "{name}");
        let stem =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let metric = catalogue::ALL.iter().find(|metric| metric.name == stem || metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is in the catalogue"));
        for label in labels.keys() {
            let known =
                ["shard", "le"].contains(&label.as_str()) || metric.labels.iter().any(|l| l.name == label);
            assert!(known, "{name} has label {label}");
        }
    }
}

#[test]
fn a_verdict_is_one_of_all() {
    let (_board, telemetry) = full();
    let page = telemetry.page().unwrap();
    let verdicts: Vec<_> = page.lines().filter(|line| line.starts_with("shard_watchdog_verdict{")).collect();
    assert_eq!(verdicts.len(), crate::verdict::Verdict::ALL.len());
    assert_eq!(verdicts.iter().filter(|line| line.ends_with(" 1")).count(), 1);
    assert!(
        page.contains("shard_watchdog_verdict{verdict=\"healthy\",shard=\"7\"} 1")
            || page.contains("shard_watchdog_verdict{shard=\"7\",verdict=\"healthy\"} 1"),
        "{page}"
    );
}

#[test]
fn numbers_of_threads_that_share_a_name_are_joined() {
    let (_board, telemetry) = full();
    let page = telemetry.page().unwrap();
    let user =
        page.lines().find(|l| l.starts_with("shard_watchdog_thread_cpu") && l.contains("\"user\"")).unwrap();
    assert!(user.ends_with(" 3"), "{user}");
}

#[test]
fn a_thread_that_left_is_told_no_longer() {
    let (board, telemetry) = full();
    assert!(telemetry.page().unwrap().contains("thread=\"net-in\""));
    let mut snapshot = sample::snapshot();
    snapshot.threads.truncate(1);
    board.set_snapshot(Arc::new(snapshot));
    std::thread::sleep(Duration::from_millis(120));
    let page = telemetry.page().unwrap();
    assert!(!page.contains("thread=\"net-in\""), "{page}");
    assert!(page.contains("thread=\"exec-s0\""));
}

#[test]
fn a_hostile_name_is_escaped() {
    let board = sample::board();
    let telemetry = Telemetry::new(&board, None).unwrap();
    let mut snapshot = sample::snapshot();
    snapshot.threads[0].name = "a\"} 1\nfake{x=\"\\".to_owned();
    board.set_snapshot(Arc::new(snapshot));
    let page = telemetry.page().unwrap();
    assert!(!page.lines().any(|line| line.starts_with("fake")), "{page}");
    assert!(page.contains(r#"thread="a\"} 1fake{x=\"\\""#), "{page}");
}

#[test]
fn totals_of_another_process_are_not_told_as_the_targets() {
    let (board, telemetry) = full();
    let mut snapshot = sample::snapshot();
    snapshot.target = Some(TargetIdentity { pid: 99, start_time: 1, incarnation: 1 });
    board.set_snapshot(Arc::new(snapshot));
    let page = telemetry.page().unwrap();
    assert!(!page.contains("\nshard_process_"), "{page}");
    assert!(page.contains("\nprocess_cpu_seconds_total"));
}

#[test]
fn a_stall_is_measured_from_the_moment_it_could_have_been_seen() {
    let (_board, telemetry) = full();
    let page = telemetry.page().unwrap();
    let sum = page.lines().find(|line| line.starts_with("shard_watchdog_detection_seconds_sum")).unwrap();
    assert!(sum.ends_with(" 0.004"), "{sum}");
}
