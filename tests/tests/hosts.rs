//! Names in the Host header, as a scraper in a cluster or in docker compose sends them: configured
//! names are answered, and the refusal of any other explains how to configure it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, wait};

/// The whole answer to `GET /metrics` with this Host.
#[track_caller]
fn asked(address: SocketAddr, host: &str) -> String {
    let mut stream = wait::until("somebody who listens", || TcpStream::connect(address).ok());
    stream.set_read_timeout(Some(wait::GENEROUS)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn assert_hosts(address: SocketAddr, refusal: &str) {
    for host in ["127.0.0.1", "localhost:1", "shard-0:9612", "SHARD-0.shards.svc.", "a.b.example"] {
        let answer = asked(address, host);
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    let answer = asked(address, "shard-1:9612");
    assert!(answer.starts_with("HTTP/1.1 421") && answer.contains(refusal), "{answer}");
}

#[test]
fn a_sidecar_answers_by_the_names_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let public = api::free_address();
    let hosts = "[\"shard-0\", \"shard-0.shards.svc\", \"*.example\"]";
    // The last section of the config is about HTTP.
    let append = format!("public = \"{public}\"\nhosts = {hosts}\n");
    let sidecar = Sidecar::configure(folder.path(), "0", "any", &Settings { append, ..Settings::default() });
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config);
    let _running = Process::start("sidecar", command);
    for address in [sidecar.http, public] {
        assert_hosts(address, "http.hosts in the config of the sidecar (hosts = [\"shard-1\"])");
    }
}

#[test]
fn a_shard_answers_by_the_names_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = api::free_address();
    let mut command = Command::new(binary("shard-executor"));
    command.args(["shard", "--id", "0", "--listen", "127.0.0.1:0", "--heartbeat"]);
    command.arg(folder.path().join("heartbeat")).args(["--metrics", &metrics.to_string()]);
    command.args(["--metrics-hosts", "shard-0,shard-0.shards.svc,*.example"]);
    let _running = Process::start("shard", command);
    assert_hosts(metrics, "--metrics-hosts shard-1");
}
