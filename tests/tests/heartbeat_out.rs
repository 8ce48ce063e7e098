//! `[heartbeat_out]`: a service outside hears of a sidecar that sees its target, and of no other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use shard_tests::collector::{Traced, TracedTarget};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

/// The part of the address that nobody else may learn.
const SECRET: &str = "hunter2";

/// A service that accepts everything, and the number of requests so far. Its thread ends with the
/// test's process.
fn service() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            assert_eq!(head[0], format!("GET /ping/{SECRET} HTTP/1.1"), "{head:#?}");
            assert!(head.iter().any(|line| line.contains("shard-watchdog/")), "{head:#?}");
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            (&stream).write_all(answer).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, asked)
}

fn telling(service: SocketAddr) -> Settings {
    let append = format!("[heartbeat_out]\nurl = \"http://{service}/ping/{SECRET}\"\ninterval = \"1s\"\n");
    Settings { append, ..Settings::default() }
}

#[test]
fn a_service_outside_hears_of_a_sidecar_that_watches_and_not_of_one_that_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (address, asked) = service();
    let mut traced = Traced::start(folder.path(), "0", &telling(address), &[]);
    wait::until("signs of life", || (asked.load(Ordering::Relaxed) >= 3).then_some(()));
    let status = wait::until("that the status tells of them", || {
        traced.sidecar.status().filter(|status| status["heartbeat_out"]["sent"].as_u64() >= Some(3))
    });
    let told = &status["heartbeat_out"];
    assert_eq!(told["service"], format!("http://{address}"), "{told:#}");
    assert!(told["trouble"].is_null() && told["withheld"].is_null(), "{told:#}");
    wait::until("that the metric tells of them", || {
        let sent = traced.metric("shard_watchdog_heartbeats_out_total", &["outcome=\"sent\""])?;
        (sent >= 3.0).then_some(())
    });

    // A lost thread changes nothing: the sidecar sees it.
    traced.lose_thread();
    traced.sidecar.incident("recovered");
    let before = asked.load(Ordering::Relaxed);
    wait::until("that it goes on", || (asked.load(Ordering::Relaxed) > before).then_some(()));

    let lines = traced.watchdog().lines().concat();
    assert!(!lines.contains(SECRET) && !status.to_string().contains(SECRET), "{lines}");
    assert!(traced.end_sidecar(Signal::TERM).success());
}

#[test]
fn a_sidecar_without_a_target_lives_and_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (address, asked) = service();
    let sidecar = Sidecar::configure(folder.path(), "0", TracedTarget::THREAD, &telling(address));
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config);
    let mut process = Process::start("sidecar", command);
    let told = wait::until("a reason to send nothing", || {
        let status = sidecar.status()?;
        status["heartbeat_out"]["withheld"].is_string().then(|| status["heartbeat_out"].clone())
    });
    assert_eq!((told["sent"].as_u64(), told["failed"].as_u64()), (Some(0), Some(0)), "{told:#}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["status", "--url", &format!("http://{}", sidecar.http)]);
    let status = Process::start("status", command);
    status.line("what a person reads", 0, |line| line.contains("none is sent now").then_some(()));
    process.signal(Signal::TERM);
    assert!(process.wait("the end of the sidecar").success());
}
