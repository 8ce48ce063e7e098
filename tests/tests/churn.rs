//! Threads that leave the watch and end in good order are no loss, whenever they are observed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;
use std::time::Duration;

use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, footprint, wait};

/// Long enough for some hundred observations by polling, and some thousand threads.
const A_WHILE: Duration = Duration::from_secs(5);

/// The sidecar's own count of observations.
const LOOKS: &str = "shard_watchdog_loop_late_seconds_count";

#[track_caller]
fn nobody_is_lost(thread_events: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { thread_events: thread_events.to_owned(), ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "churn", "exec-s*", &settings);
    let mut command = Command::new(binary("puppet"));
    command.arg("churn").arg(&sidecar.heartbeat);
    let mut target = Process::start("churn", command);
    target.line("its first threads", 0, |line| (line == "churning").then_some(()));
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    command.env("SHARD_WATCHDOG_THREAD_EVENTS", thread_events);
    let _process = Process::start("sidecar", command);
    sidecar.wait_for("healthy");
    wait::holds_for(A_WHILE, "the process lives", || target.is_running());
    let page = api::get(sidecar.http, "/metrics").unwrap().body;
    assert!(footprint::sum_on_page(&page, LOOKS) >= Some(100.0), "it was looked at: {page}");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    assert!(target.is_running());
}

#[test]
fn threads_that_leave_and_end_are_no_loss_to_who_polls() {
    nobody_is_lost("poll");
}

#[test]
fn threads_that_leave_and_end_are_no_loss_to_who_has_pidfds() {
    nobody_is_lost("pidfd");
}
