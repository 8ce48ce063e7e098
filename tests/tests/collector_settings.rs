//! Row 63: unusable variables that agents and operators put into units and pods are reported once
//! and stop neither sidecar nor shard. Usable ones reach a real collector: gzip, a path, a proxy
//! that is not for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use rustix::process::Signal;
use shard_heartbeat::{ProcessState, Reader, Sample};
use shard_tests::collector::{Collector, Traced};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Nothing listens there, which is logged as another line than the ones counted.
const NOBODY: (&str, &str) = (ENDPOINT, "http://127.0.0.1:9");

/// Variables that cannot be used, and one that can, with the number of warnings for each.
const ODD: [(&str, &str, usize); 12] = [
    ("OTEL_METRIC_EXPORT_INTERVAL", "10s", 1),
    ("OTEL_METRIC_EXPORT_INTERVAL", "0", 1),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", 1),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "1e3", 1),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy", 1),
    ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", 1),
    ("OTEL_RESOURCE_ATTRIBUTES", "hunter2", 1),
    ("OTEL_TRACES_EXPORTER", "jaeger", 1),
    (ENDPOINT, "localhost:9", 1),
    (ENDPOINT, "http://127.0.0.1:9 ", 0),
    (ENDPOINT, "unix:///run/otel.sock", 1),
    ("OTEL_SDK_DISABLED", "true", 1),
];

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn row_63_a_sidecar_goes_on_with_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut traced = Traced::start(folder.path(), "0", &Settings::default(), &[]);
    for (name, value, warnings) in ODD {
        assert!(traced.end_sidecar(Signal::TERM).success());
        traced.set_variables(&owned(&[NOBODY, (name, value)]));
        // Waits until it watches.
        traced.start_sidecar();
        traced.watchdog().line("its start", 0, |line| line.contains("\"started\"").then_some(()));
        let lines = traced.watchdog().lines();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("telemetry_setting")).collect();
        assert_eq!(told.len(), warnings, "{name}={value}: {told:#?}");
        assert!(told.iter().all(|line| line.contains(name)), "{told:#?}");
        assert!(!lines.concat().contains("hunter2"), "{told:#?}");
    }
    assert!(traced.end_sidecar(Signal::TERM).success());
}

#[test]
fn row_63_a_shard_goes_on_with_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (name, value, warnings)) in ODD.into_iter().enumerate() {
        let heartbeat = folder.path().join(number.to_string());
        let mut command = Command::new(binary("shard-executor"));
        command.args(["shard", "--id", "0", "--listen", "127.0.0.1:0", "--heartbeat"]).arg(&heartbeat);
        command.envs(owned(&[NOBODY, (name, value)]));
        let mut shard = Process::start("shard", command);
        wait::until("a shard that runs", || {
            let mut sample = Sample::default();
            Reader::open(&heartbeat).ok()?.sample(&mut sample).ok()?;
            (sample.state.known() == Some(ProcessState::Running)).then_some(())
        });
        shard.signal(Signal::TERM);
        assert!(shard.wait("its end").success(), "{name}={value}: {:#?}", shard.lines());
        let lines = shard.lines();
        let told = lines.iter().filter(|line| line.contains(name)).count();
        assert_eq!(told, warnings, "{name}={value}: {lines:#?}");
        assert!(!lines.concat().contains("hunter2"), "{lines:#?}");
    }
}

/// A log filter is telemetry too, and is set in the environment of whole machines.
#[test]
fn row_63_a_filter_of_the_log_that_cannot_be_used_is_told_and_the_default_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let odd = "shard=loud";
    let sidecar = Sidecar::configure(folder.path(), "0", "any", &Settings::default());
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config).env("SHARD_WATCHDOG_LOG", odd);
    let sidecar = Process::start("sidecar", command);
    sidecar.line("the warning", 0, |line| {
        (line.contains("telemetry_setting") && line.contains("SHARD_WATCHDOG_LOG")).then_some(())
    });
    sidecar.line("its start, which the default shows", 0, |line| line.contains("\"started\"").then_some(()));

    let mut command = Command::new(binary("shard-executor"));
    command.args(["shard", "--id", "0", "--listen", "127.0.0.1:0", "--heartbeat"]);
    command.arg(folder.path().join("heartbeat")).env("RUST_LOG", odd);
    let mut shard = Process::start("shard", command);
    shard.line("the warning", 0, |line| {
        (line.contains("RUST_LOG") && line.contains(odd) && line.contains("ignored")).then_some(())
    });
    assert!(shard.is_running());
}

#[test]
fn check_tells_what_cannot_be_used_and_calls_the_config_good() {
    let folder = tempfile::tempdir().unwrap();
    let append = "[otlp]\nendpoint = \"https://127.0.0.1:4318\"\n".to_owned();
    let settings = Settings { append, ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "0", "any", &settings);
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["check", "--config"]).arg(&sidecar.config);
    command.envs([
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
    ]);
    let mut check = Process::start("check", command);
    for wanted in ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_RESOURCE_ATTRIBUTES", "/nowhere/ca.pem"] {
        check.line("a warning", 0, |line| {
            (line.contains(": warning: ") && line.contains(wanted)).then_some(())
        });
    }
    assert_eq!(check.wait("its end").code(), Some(0));
}

#[test]
fn gzip_arrives_below_a_path_and_past_a_proxy_that_is_not_for_loopback() {
    let test = "gzip_arrives_below_a_path_and_past_a_proxy_that_is_not_for_loopback";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start_below(&binary, folder.path(), "/otlp");
    let (http, grpc) = (format!("http://{}/otlp/", collector.http), format!("http://{}", collector.grpc));
    let variables = [
        (ENDPOINT, &*http),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &*grpc),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=a%2Cb"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
    ];
    let mut traced = Traced::start(folder.path(), "7", &Settings::default(), &owned(&variables));
    let record = collector.arrived("metrics and a line of the log", |record| {
        let metrics = record.newest("shard_watchdog_build_info", &[("shard", "7")])? >= 1.0;
        let logs = record.logs.iter().any(|log| log.event == "started");
        (metrics && logs).then(|| record.clone())
    });
    assert_eq!(record.points[0].resource["service.namespace"], "a,b");
    traced.lose_thread();
    let incident = traced.sidecar.incident("recovered");
    let spans = collector.whole_trace(incident["trace"]["trace_id"].as_str().unwrap());
    assert!(spans.len() > 1, "{spans:#?}");
    let lines = traced.watchdog().lines();
    let failing: Vec<_> = lines.iter().filter(|line| line.contains("otlp_failing")).collect();
    assert!(failing.is_empty(), "{failing:#?}");
}
