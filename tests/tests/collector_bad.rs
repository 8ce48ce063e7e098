//! Row 53: faulty collectors. What cannot be sent is counted, costs no memory, delays neither
//! verdict nor kill nor the end of the sidecar, and is sent later as far as possible.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::collector::{Bad, BadCollector, Collector, Traced};
use shard_tests::figures::{Record, milliseconds};
use shard_tests::sidecar::Settings;
use shard_tests::{api, incident, wait};

/// Longer than anything that a scenario waits for: waiting for the collector would never end.
const FOR_EVER: &str = "600000";
/// Log lines while nothing accepts them. Fewer than a queue holds: the test measures their cost.
const LINES: usize = 400;
/// The most that these lines, a few incidents and request buffers may cost, in KiB. A line is a few
/// hundred bytes.
const MOST_KIB: u64 = 8 << 10;

/// The variables that set where a sidecar sends, and how long a request may take.
fn variables(to: SocketAddr, protocol: &str, timeout: &str) -> Vec<(String, String)> {
    let pairs = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{to}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout.to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn dropped(traced: &Traced, signal: &str) -> Option<f64> {
    traced.metric("shard_watchdog_telemetry_dropped_total", &[&format!("signal=\"{signal}\"")])
}

/// Loses the thread, waits until the process is killed for it, and records the times.
#[track_caller]
fn killed(traced: &Traced, record: Record, prefix: &str) -> (Record, Value) {
    let fired = traced.lose_thread();
    let found = wait::until("a verdict and a kill", || {
        let all = traced.sidecar.told_incidents();
        all.into_iter().find(|incident| incident::step_at(incident, "exited").is_some())
    });
    assert_eq!(found["reason"], "thread_gone", "{found:#}");
    assert!(incident::step_at(&found, "signal").is_some_and(|at| at > fired), "{found:#}");
    let steps = ["verdict", "signal", "exited"].into_iter();
    let record = steps.fold(record, |record, step| {
        let at = incident::step_at(&found, step).map(|at| milliseconds(fired, at));
        record.fact(&format!("{prefix}{step}_ms"), &at.into())
    });
    (record, found)
}

/// Makes the sidecar log, one line after the other.
#[track_caller]
fn log_lines(traced: &mut Traced) {
    for _ in 0..LINES {
        let watchdog = traced.watchdog();
        let from = watchdog.line_count();
        watchdog.signal(Signal::HUP);
        watchdog.line("a reload", from, |line| line.contains("reload: ").then_some(()));
    }
}

/// A sidecar whose collector is bad, and beside it one without a collector.
#[track_caller]
fn a_bad_collector(case: &str, how: Bad, protocol: &str) {
    let folder = tempfile::tempdir().unwrap();
    let collector = BadCollector::start(how);
    let calm = Traced::start(folder.path(), "calm", &Settings::default(), &[]);
    let impatient = variables(collector.address, protocol, "500");
    let mut sick = Traced::start(folder.path(), "sick", &Settings::default(), &impatient);

    wait::until("metrics that are dropped, counted and shown", || {
        dropped(&sick, "otlp_metrics").filter(|count| *count >= 1.0)
    });
    let (record, _) = killed(&calm, Record::row(53).case(case), "undisturbed_");
    let asked = collector.asked();
    let (record, _) = killed(&sick, record, "disturbed_");
    wait::until("that the collector is asked all along", || (collector.asked() > asked).then_some(()));

    let before = sick.resident_kib();
    log_lines(&mut sick);
    let after = sick.resident_kib();
    record
        .fact("resident_before_kib", &before.into())
        .fact("resident_after_kib", &after.into())
        .fact("requests", &collector.asked().into())
        .keep();
    assert!(after < before + MOST_KIB, "{LINES} lines took {before} KiB to {after} KiB");
    assert!(sick.end_sidecar(Signal::TERM).success());

    // A request to the next collector may take for ever: only a flush with a limit of its own ends.
    sick.set_variables(&variables(collector.address, protocol, FOR_EVER));
    sick.start_sidecar();
    let asked = collector.asked();
    wait::until("a request under way", || (collector.asked() > asked).then_some(()));
    assert!(sick.end_sidecar(Signal::TERM).success());
}

#[test]
fn row_53_a_collector_that_never_answers() {
    a_bad_collector("collector-silent", Bad::Silent, "http/protobuf");
}

#[test]
fn row_53_a_collector_that_never_answers_over_grpc() {
    a_bad_collector("collector-silent-grpc", Bad::Silent, "grpc");
}

#[test]
fn row_53_a_collector_that_is_busy() {
    a_bad_collector("collector-503", Bad::Busy, "http/protobuf");
}

#[test]
fn row_53_a_collector_that_was_asked_too_often() {
    a_bad_collector("collector-429", Bad::TooMany, "http/protobuf");
}

#[test]
fn row_53_a_collector_that_resets_connections() {
    a_bad_collector("collector-resets", Bad::Resets, "http/protobuf");
}

#[test]
fn row_53_a_collector_that_resets_connections_over_grpc() {
    a_bad_collector("collector-resets-grpc", Bad::Resets, "grpc");
}

/// More lines than a queue holds, while the first request never ends.
#[test]
fn row_53_lines_beyond_the_queue_are_dropped_and_counted() {
    /// Enough for four times what the queue and the request under way hold.
    const MOST_ROUNDS: usize = 25;
    let folder = tempfile::tempdir().unwrap();
    let collector = BadCollector::start(Bad::Silent);
    let patient = variables(collector.address, "http/protobuf", FOR_EVER);
    let mut sick = Traced::start(folder.path(), "sick", &Settings::default(), &patient);
    let before = sick.resident_kib();
    let mut rounds = 0;
    while !dropped(&sick, "otlp_logs").is_some_and(|count| count >= 1.0) {
        rounds += 1;
        assert!(rounds < MOST_ROUNDS, "{} lines and none is dropped", rounds * LINES);
        log_lines(&mut sick);
    }
    let after = sick.resident_kib();
    let name = "collector-silent-lines";
    let record = Record::row(53).case(name).fact("lines", &(rounds * LINES).into());
    let record = record.fact("resident_before_kib", &before.into());
    let (record, _) = killed(&sick, record.fact("resident_after_kib", &after.into()), "disturbed_");
    record.keep();
    assert!(after < before + 2 * MOST_KIB, "{before} KiB became {after} KiB");
    assert!(sick.end_sidecar(Signal::TERM).success());
}

/// Nothing ever listens: the sidecar ends in the middle of a request that it keeps retrying.
#[test]
fn row_53_no_collector_at_all_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = variables(api::free_address(), "grpc", "10000");
    let mut sick = Traced::start(folder.path(), "sick", &Settings::default(), &nobody);
    let (record, _) = killed(&sick, Record::row(53).case("collector-none-grpc"), "disturbed_");
    record.keep();
    sick.watchdog().line("that nobody takes the spans", 0, |line| {
        (line.contains("\"otlp_failing\"") && line.contains("otlp_traces")).then_some(())
    });
    assert!(sick.end_sidecar(Signal::TERM).success());
}

/// Nothing listens while the incident happens; then a collector does.
#[track_caller]
fn gone_for_a_while(case: &str, binary: &Path, protocol: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (http, grpc) = (api::free_address(), api::free_address());
    let to = if protocol == "grpc" { grpc } else { http };
    let calm = Traced::start(folder.path(), "calm", &Settings::default(), &[]);
    let mut sick =
        Traced::start(folder.path(), "sick", &Settings::default(), &variables(to, protocol, "1000"));
    wait::until("metrics that are dropped, counted and shown", || {
        dropped(&sick, "otlp_metrics").filter(|count| *count >= 1.0)
    });
    let (record, _) = killed(&calm, Record::row(53).case(case), "undisturbed_");
    let (record, _) = killed(&sick, record, "disturbed_");
    record.keep();
    let told = sick.sidecar.incident("recovered");
    for signal in ["otlp_metrics", "otlp_logs", "otlp_traces"] {
        let failing = |line: &str| line.contains("\"otlp_failing\"") && line.contains(signal);
        sick.watchdog().line("that it fails", 0, |line| failing(line).then_some(()));
    }

    let collector = Collector::start_at(binary, folder.path(), http, grpc);
    let trace = collector.whole_trace(told["trace"]["trace_id"].as_str().unwrap());
    let names: Vec<_> = trace.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names.len(), 7, "nothing of it is lost: {names:?}");
    let kills = [("shard", "sick"), ("reason", "thread_gone")];
    let drops = [("shard", "sick"), ("signal", "otlp_metrics")];
    let record = collector.arrived("metrics that make up for those that were dropped", |record| {
        let killed = record.newest("shard_watchdog_kills_total", &kills)? >= 1.0;
        let dropped = record.newest("shard_watchdog_telemetry_dropped_total", &drops)? >= 1.0;
        let opened = record.logs.iter().any(|log| log.event == "incident_opened");
        (killed && dropped && opened).then(|| record.clone())
    });
    assert!(record.logs.iter().any(|log| log.event == "started"), "the first line too");
    assert_eq!(dropped(&sick, "otlp_traces"), Some(0.0));
    assert_eq!(dropped(&sick, "otlp_logs"), Some(0.0));
    for signal in ["otlp_metrics", "otlp_logs", "otlp_traces"] {
        let of_signal = |event: &str, line: &str| line.contains(event) && line.contains(signal);
        sick.watchdog().line("that it works", 0, |line| of_signal("\"otlp_works\"", line).then_some(()));
        let lines = sick.watchdog().lines();
        let failing = lines.iter().filter(|line| of_signal("\"otlp_failing\"", line)).count();
        assert_eq!(failing, 1, "told once: {lines:#?}");
    }
    let libraries: Vec<_> =
        sick.watchdog().lines().into_iter().filter(|line| line.contains("\"library\"")).collect();
    assert!(libraries.is_empty(), "nothing in between: {libraries:#?}");
    assert!(sick.end_sidecar(Signal::TERM).success());
}

#[test]
fn row_53_a_collector_that_comes_late() {
    let test = "row_53_a_collector_that_comes_late";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    gone_for_a_while("collector-gone", &binary, "http/protobuf");
}

#[test]
fn row_53_a_collector_that_comes_late_over_grpc() {
    let test = "row_53_a_collector_that_comes_late_over_grpc";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    gone_for_a_while("collector-gone-grpc", &binary, "grpc");
}
