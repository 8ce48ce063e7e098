//! TLS to a collector: only the signer of the collector's certificate is trusted, and an untrusted
//! collector costs what any bad collector costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use rustix::process::Signal;
use shard_tests::collector::{Attributes, Collector, TlsFront, Traced};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

/// The variables that set where a sidecar sends over TLS, and whom it trusts.
fn variables(front: &TlsFront, protocol: &str, trust: bool) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", front.address)),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250".to_owned()),
    ];
    if trust {
        pairs.push(("OTEL_EXPORTER_OTLP_CERTIFICATE", front.authority.display().to_string()));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[track_caller]
fn over_tls(test: &str, protocol: &str) {
    let Some(binary) = Collector::installed_or_skip(test).filter(|_| TlsFront::installed_or_skip(test))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&binary, folder.path());
    let target = if protocol == "grpc" { collector.grpc } else { collector.http };
    let front = TlsFront::start(folder.path(), target);

    let trusting = variables(&front, protocol, true);
    let mut traced = Traced::start(folder.path(), "trusting", &Settings::default(), &trusting);
    traced.lose_thread();
    let incident = traced.sidecar.incident("recovered");
    collector.whole_trace(incident["trace"]["trace_id"].as_str().unwrap());
    collector.arrived("metrics and log lines", |record| {
        let built = record.newest("shard_watchdog_build_info", &[("shard", "trusting")])?;
        (built >= 1.0 && record.logs.iter().any(|log| log.event == "started")).then_some(())
    });
    front.process.line("TLS", 0, |line| line.contains("TLSv1.").then_some(()));
    assert!(traced.end_sidecar(Signal::TERM).success());

    // This machine trusts many authorities, but not this one.
    let wary = variables(&front, protocol, false);
    let mut wary = Traced::start(folder.path(), "wary", &Settings::default(), &wary);
    wait::until("metrics that are dropped and counted", || {
        let drops = wary.metric("shard_watchdog_telemetry_dropped_total", &["signal=\"otlp_metrics\""])?;
        (drops >= 1.0).then_some(())
    });
    let told =
        wary.watchdog().line("why", 0, |line| line.contains("\"otlp_failing\"").then(|| line.to_owned()));
    assert!(told.contains("certificate") && told.contains("UnknownIssuer"), "it says why: {told}");
    assert!(wary.end_sidecar(Signal::TERM).success());
    let record = collector.record();
    let of_wary = |resource: &Attributes| resource["service.instance.id"] == "wary";
    assert!(!record.points.iter().any(|point| of_wary(&point.resource)), "nothing went to a stranger");
    assert!(!record.logs.iter().any(|log| of_wary(&log.resource)), "nothing went to a stranger");
}

#[test]
fn over_tls_a_known_authority_is_trusted_and_no_other() {
    over_tls("over_tls_a_known_authority_is_trusted_and_no_other", "http/protobuf");
}

#[test]
fn over_tls_and_grpc_a_known_authority_is_trusted_and_no_other() {
    over_tls("over_tls_and_grpc_a_known_authority_is_trusted_and_no_other", "grpc");
}

/// A container without any certificates still sends to its neighbour.
#[test]
fn without_tls_no_certificates_are_needed() {
    let test = "without_tls_no_certificates_are_needed";
    let Some(binary) = Collector::installed_or_skip(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&binary, folder.path());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.http)),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250".to_owned()),
        ("SSL_CERT_FILE", "/dev/null".to_owned()),
        ("SSL_CERT_DIR", folder.path().join("none").display().to_string()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let _traced = Traced::start(folder.path(), "bare", &Settings::default(), &variables);
    collector.arrived("metrics", |record| {
        record.newest("shard_watchdog_build_info", &[("shard", "bare")]).filter(|built| *built >= 1.0)
    });
}

#[test]
fn a_certificate_that_cannot_be_read_is_told_at_once_and_costs_only_what_would_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "0", "any", &Settings::default());
    let mut command = Command::new(binary("shard-watchdog"));
    command
        .args(["run", "--config"])
        .arg(&sidecar.config)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", folder.path().join("nothing.pem"));
    let process = Process::start("sidecar", command);
    for kind in ["metrics", "logs", "traces"] {
        process.line("which variable and which file, and what is not sent", 0, |line| {
            let file = line.contains("OTEL_EXPORTER_OTLP_CERTIFICATE") && line.contains("nothing.pem");
            (file && line.contains(&format!("{kind} are not sent"))).then_some(())
        });
    }
    process.line("that it goes on without", 0, |line| line.contains("\"started\"").then_some(()));
}
