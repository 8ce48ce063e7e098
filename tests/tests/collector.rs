//! What a sidecar sends arrives: metrics, log lines and the one trace of an incident, checked where
//! a real collector recorded them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::collections::HashSet;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::collector::{Collector, Record, Span, Traced, trace_of};
use shard_tests::sidecar::Settings;

/// The child spans for an incident whose process was killed and came back.
const CHILDREN: [&str; 6] = ["stall", "evidence", "signal", "exit", "restart", "recover"];

/// Settings of a sidecar that sends to `collector` with short delays.
fn sending(collector: &Collector, protocol: &str) -> Settings {
    let address = if protocol == "grpc" { collector.grpc } else { collector.http };
    let append =
        format!("[otlp]\nendpoint = \"http://{address}\"\nprotocol = {protocol:?}\ninterval = \"250ms\"\n");
    Settings { append, ..Settings::default() }
}

/// The time of a step of the timeline (which has microseconds), in nanoseconds since 1970.
#[track_caller]
fn told_at(incident: &Value, step: &str) -> u64 {
    let timeline = incident["timeline"].as_array().unwrap();
    let entry = timeline.iter().find(|entry| entry["step"] == step);
    nanoseconds(entry.unwrap_or_else(|| panic!("the step {step}: {incident:#}"))["at"].as_str().unwrap())
}

/// Nanoseconds since 1970 of an RFC 3339 time in UTC, as the documents have it.
#[track_caller]
fn nanoseconds(text: &str) -> u64 {
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
    // Days since 1970 of a date in the Gregorian calendar, with years that begin in March.
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    seconds * 1_000_000_000 + number(20, 26) * 1_000
}

/// The trace of an incident that ended well: one root, each child once, and the times of the
/// timeline.
#[track_caller]
fn assert_trace(spans: &[Span], incident: &Value) {
    let ids = &incident["trace"];
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    let [root] = &roots[..] else { panic!("one root: {spans:#?}") };
    assert_eq!(root.name, "incident");
    assert_eq!(ids["span_id"], root.id, "the root's id stands in the document");
    assert_eq!(root.attributes["incident.id"], incident["id"].as_str().unwrap());
    assert_eq!(root.attributes["process.pid"], incident["target"]["pid"].to_string());
    for span in spans {
        assert_eq!(ids["trace_id"], span.trace);
        assert!(span.parent.is_empty() || span.parent == root.id, "a child of the root: {span:#?}");
        assert!(span.start >= root.start && span.end <= root.end && span.start <= span.end, "{span:#?}");
    }
    let parts = [
        ("stall", "last_progress", "verdict"),
        ("signal", "verdict", "signal"),
        ("exit", "signal", "exited"),
        ("restart", "exited", "restarted"),
        ("recover", "restarted", "recovered"),
        ("incident", "last_progress", "recovered"),
    ];
    for (name, from, to) in parts {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        let [span] = &found[..] else { panic!("{name} once: {spans:#?}") };
        // The document has microseconds, the span the clock's full resolution.
        assert_eq!(span.start / 1_000, told_at(incident, from) / 1_000, "{name} begins: {incident:#}");
        assert_eq!(span.end / 1_000, told_at(incident, to) / 1_000, "{name} ends: {incident:#}");
    }
    let steps: Vec<_> = incident["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["step"].as_str().unwrap())
        .collect();
    assert_eq!(root.events, steps, "its events are the timeline");
}

/// Every log line about the incident belongs to its trace, under its root.
#[track_caller]
fn assert_logs(record: &Record, incident: &Value) {
    let id = incident["id"].as_str().unwrap();
    let about: Vec<_> =
        record.logs.iter().filter(|log| log.attributes.get("incident").is_some_and(|of| of == id)).collect();
    for step in ["signal", "exited", "restarted", "recovered"] {
        let told = |log: &&&_| matches(log, "incident_step") && log.attributes["step"] == step;
        assert_eq!(about.iter().filter(told).count(), 1, "{step} is told once: {about:#?}");
    }
    assert!(about.iter().any(|log| matches(log, "incident_opened")), "{about:#?}");
    for log in about {
        assert_eq!(incident["trace"]["trace_id"], log.trace, "{log:#?}");
        assert_eq!(incident["trace"]["span_id"], log.span, "{log:#?}");
        assert!(log.at > 0, "it says when: {log:#?}");
        assert_eq!(log.event, log.attributes["event"], "an event has its name: {log:#?}");
    }
}

fn matches(log: &shard_tests::collector::Log, event: &str) -> bool {
    log.attributes.get("event").is_some_and(|name| name == event)
}

#[track_caller]
fn a_lost_thread_arrives(test: &str, protocol: &str) {
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&binary, folder.path());
    let settings = sending(&collector, protocol);
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let incident = cluster.shards[0].sidecar.incident("recovered");

    let trace = collector.whole_trace(incident["trace"]["trace_id"].as_str().unwrap());
    assert_trace(&trace, &incident);
    let kills = [("shard", "0"), ("reason", "thread_gone")];
    collector.arrived("the kill, counted", |record| {
        let newest = record.newest("shard_watchdog_kills_total", &kills)?;
        (newest >= 1.0).then_some(())
    });
    let recovered = |log: &&shard_tests::collector::Log| {
        log.attributes.get("step").is_some_and(|step| step == "recovered")
    };
    let record = collector.arrived("the last line about it", |record| {
        record.logs.iter().any(|log| recovered(&log)).then(|| record.clone())
    });
    assert_logs(&record, &incident);
    let none = [("shard", "1"), ("reason", "thread_gone")];
    let other = record.newest("shard_watchdog_kills_total", &none);
    assert_eq!(other, Some(0.0), "the other shard's sidecar tells of itself");
    assert!(record.points.iter().all(|point| point.attributes.contains_key("shard")), "on every point");
    for resource in record.points.iter().map(|point| &point.resource).chain(trace.iter().map(|s| &s.resource))
    {
        assert_eq!(resource["service.name"], "shard-watchdog", "{resource:?}");
        assert!(resource.contains_key("service.version"), "{resource:?}");
    }
    // A restart of the sidecar must not begin every series of the metrics anew.
    assert!(record.points.iter().all(|point| !point.resource.contains_key("process.pid")));
    assert!(trace.iter().all(|span| span.resource.contains_key("process.pid")), "{trace:#?}");
    assert!(record.logs.iter().all(|log| log.resource.contains_key("process.pid")));
    // Threads that never had work have no beats, and the first beats may come with the next export.
    let beats = [("shard", "0"), ("thread", "exec-s0")];
    let told: [(_, &[_]); 2] = [
        ("shard_watchdog_heartbeats_total", &beats),
        ("shard_watchdog_detection_seconds", &[("shard", "0")]),
    ];
    for (metric, labels) in told {
        collector.arrived(metric, |record| {
            record.newest(metric, labels).is_some_and(|value| value > 0.0).then_some(())
        });
    }
    cluster.assert_common_rule(&[0]);
}

#[test]
fn a_lost_thread_arrives_over_http() {
    a_lost_thread_arrives("a_lost_thread_arrives_over_http", "http/protobuf");
}

#[test]
fn a_lost_thread_arrives_over_grpc() {
    a_lost_thread_arrives("a_lost_thread_arrives_over_grpc", "grpc");
}

/// A collector, and a target whose sidecar learns only from variables where to send.
#[track_caller]
fn told_by_variables(binary: &Path, folder: &Path) -> (Collector, Traced) {
    let collector = Collector::start(binary, folder);
    let endpoint = format!("http://{}", collector.http);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
        ("OTEL_SERVICE_NAME", "watch-of-7"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.namespace=chain"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let traced = Traced::start(folder, "7", &Settings::default(), &variables);
    (collector, traced)
}

#[test]
fn the_root_is_linked_to_the_work_in_flight_and_the_resource_says_what_it_was_told() {
    let test = "the_root_is_linked_to_the_work_in_flight_and_the_resource_says_what_it_was_told";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (collector, mut traced) = told_by_variables(&binary, folder.path());
    traced.lose_thread();
    let incident = traced.sidecar.incident("recovered");
    let trace = collector.whole_trace(incident["trace"]["trace_id"].as_str().unwrap());
    assert_trace(&trace, &incident);

    let block = incident["thread"]["work_key"].as_u64().unwrap();
    let in_flight = trace_of(block);
    let root = trace.iter().find(|span| span.parent.is_empty()).unwrap();
    assert_eq!(root.links, [(hex(&in_flight.trace_id), hex(&in_flight.span_id))], "{root:#?}");
    assert_eq!(root.attributes["work.key"], block.to_string());
    assert_eq!(root.attributes["work.attempt"], "2");

    assert!(traced.end_sidecar(Signal::TERM).success());
    let record = collector.record();
    let resources = [&root.resource, &record.logs[0].resource, &record.points[0].resource];
    for resource in resources {
        assert_eq!(resource["service.name"], "watch-of-7", "{resource:?}");
        assert_eq!(resource["service.namespace"], "chain", "{resource:?}");
        assert_eq!(resource["deployment.environment.name"], "test", "{resource:?}");
        assert_eq!(resource["service.instance.id"], "7", "{resource:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sidecar is killed while its target is dead and the target is held back: the next sidecar
/// finds the incident half reported.
#[test]
fn an_incident_that_outlives_its_sidecar_is_one_trace() {
    let test = "an_incident_that_outlives_its_sidecar_is_one_trace";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (collector, mut traced) = told_by_variables(&binary, folder.path());
    traced.hold();
    traced.lose_thread();
    let before = traced.sidecar.incident_with("exited");
    traced.end_sidecar(Signal::KILL);
    assert_eq!(before["status"], "open", "{before:#}");
    traced.start_sidecar_early();
    // It goes on with the incident, whose root is sent once the next target has recovered.
    traced.release();
    let id = before["trace"]["trace_id"].as_str().unwrap();
    let spans = collector.whole_trace(id);

    let incidents = traced.sidecar.incidents();
    let [after] = &incidents[..] else { panic!("one incident: {incidents:#?}") };
    assert_eq!(after["trace"], before["trace"], "the same ids");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    let [root] = &roots[..] else { panic!("one root: {spans:#?}") };
    assert_eq!(after["trace"]["span_id"], root.id);
    for name in &CHILDREN[..4] {
        // The first sidecar may have sent it before it was killed: then it was sent twice, as the
        // same span.
        let of_name = spans.iter().filter(|span| span.name == *name);
        let ids: HashSet<_> = of_name.map(|span| (&span.id, &span.parent)).collect();
        assert_eq!(ids.len(), 1, "{name} is one span: {spans:#?}");
        assert!(ids.iter().all(|(_, parent)| **parent == root.id), "{spans:#?}");
    }
    let other: Vec<_> = collector.record().spans.into_iter().filter(|span| span.trace != id).collect();
    assert!(other.is_empty(), "no other trace: {other:#?}");
}
