//! `just observe` as a person would run it: everything whose address it prints exists, shows the
//! fault, and ends with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use shard_tests::alertmanager;
use shard_tests::collector::Collector;
use shard_tests::process::{Process, binary};
use shard_tests::{api, wait};

/// To a port of this machine: either the connection is refused at once, or something listens.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn the_demo_is_observed_by_prometheus_alertmanager_and_collector() {
    let test = "the_demo_is_observed_by_prometheus_alertmanager_and_collector";
    if !alertmanager::installed_or_skip(test) || Collector::installed_or_skip(test).is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let addresses = [(); 4].map(|()| api::free_address());
    let [prometheus, alertmanager, otlp_http, otlp_grpc] = addresses;
    let mut command = Command::new("bash");
    command
        .arg(root.join("tests/observe"))
        .arg("--bin")
        .arg(binary("shard-watchdog").parent().unwrap())
        .env("OBSERVE_DIR", folder.path())
        .env("OBSERVE_PROMETHEUS", prometheus.to_string())
        .env("OBSERVE_ALERTMANAGER", alertmanager.to_string())
        .env("OBSERVE_OTLP_HTTP", otlp_http.to_string())
        .env("OBSERVE_OTLP_GRPC", otlp_grpc.to_string());
    let mut observe = Process::start("observe", command);
    observe.line("the recovery, and that it goes on", 0, |line| {
        line.contains("it continues until Ctrl-C").then_some(())
    });
    let body = |address, path: &str| {
        let answer = api::get(address, path).filter(|answer| answer.code == 200);
        answer.map(|answer| answer.body).unwrap_or_default()
    };
    wait::until("Prometheus to reach three sidecars and three executors", || {
        let all = "/api/v1/query?query=count(up%3D%3D1)%3D%3D6";
        body(prometheus, all).contains("\"6\"").then_some(())
    });
    wait::until("Alertmanager to hear of the lost thread", || {
        body(alertmanager, "/api/v2/alerts").contains("ShardThreadGone").then_some(())
    });
    wait::until("the incident's trace and a block's at the collector", || {
        let arrived = std::fs::read_to_string(folder.path().join("collector.log")).unwrap_or_default();
        (arrived.contains(": incident") && arrived.contains(": execute")).then_some(())
    });
    observe.signal(Signal::TERM);
    let status = observe.wait("the end of everything");
    assert!(status.success(), "{status}");
    for address in addresses {
        assert!(
            TcpStream::connect_timeout(&address, CONNECTS_WITHIN).is_err(),
            "somebody still listens on {address}"
        );
    }
}
