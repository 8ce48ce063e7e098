//! Common supervisors, each with the scripts that are shipped for it: it restarts what the sidecar
//! kills, and its own orders are no incident.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shard_tests::process::{Process, binary};
use shard_tests::sidecar::Settings;
use shard_tests::supervised::{Kind, Service, Supervised, whoami};
use shard_tests::{blocks, faults, skip, wait};

const ALL: [Kind; 3] = [Kind::Runit, Kind::S6, Kind::Supervisord];

/// Whether this kind can be tried here; if not, the test is noted as skipped, and in CI it fails.
fn possible(kind: Kind, test: &str) -> bool {
    kind.impossible().is_none_or(|why| skipped(test, &why))
}

/// Notes a test as skipped; in CI it fails.
fn skipped(test: &str, why: &str) -> bool {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
    skip::note(test, why);
    false
}

/// A lost thread, a restart, an orderly stop, a start, and the end.
fn a_shards_life(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let supervised = Supervised::start(kind, folder.path(), &Settings::default());
    let sidecar = supervised.sidecar.clone();
    sidecar.wait_for("healthy");
    let (executor, watchdog) = (supervised.pid(Service::Executor), supervised.pid(Service::Watchdog));
    assert_eq!(sidecar.pid(), executor, "the supervisor's child is the shard itself, no shell in between");

    let blocks = blocks::generated(folder.path(), 10, 20);
    let mut command = Command::new(binary("shard-executor"));
    command.args(["coordinator", "--shards", &supervised.listen.to_string(), "--blocks"]).arg(&blocks);
    command.args(["--repeat", "0", "--json", "--block-deadline", "60s"]);
    let coordinator = Process::start("coordinator", command);
    faults::order(&supervised.faults, &["hook off", "arm panic"]);
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert_ne!(supervised.pid(Service::Executor), executor);
    assert_eq!(supervised.pid(Service::Watchdog), watchdog, "the sidecar was left alone");
    drop(coordinator);
    sidecar.wait_for("healthy");

    supervised.stop(Service::Executor);
    wait::until("the sidecar's word on an orderly stop", || {
        let status = sidecar.status()?;
        status["reason"].as_str()?.contains("stopped in an orderly way").then_some(())
    });
    supervised.start_again(Service::Executor);
    let executor = sidecar.wait_for("healthy")["pid"].clone();
    supervised.kill(Service::Watchdog);
    wait::until("another sidecar", || (supervised.pid(Service::Watchdog) != watchdog).then_some(()));
    assert_eq!(sidecar.wait_for("healthy")["pid"], executor, "the shard was left alone");
    assert_eq!(sidecar.incidents().len(), 1, "orders and a lost sidecar are no incidents");

    let told = supervised.told();
    for service in ["shard-executor", "shard-watchdog"] {
        let lines = told.iter().filter(|(name, _)| name.starts_with(service));
        assert!(lines.map(|(_, text)| text.len()).sum::<usize>() > 0, "no log of {service}: {told:?}");
    }
    supervised.end();
}

#[test]
fn runit_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident() {
    if possible(Kind::Runit, "runit_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident") {
        a_shards_life(Kind::Runit);
    }
}

#[test]
fn s6_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident() {
    if possible(Kind::S6, "s6_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident") {
        a_shards_life(Kind::S6);
    }
}

#[test]
fn supervisord_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident() {
    if possible(
        Kind::Supervisord,
        "supervisord_restarts_a_shard_that_lost_its_thread_and_its_orders_are_no_incident",
    ) {
        a_shards_life(Kind::Supervisord);
    }
}

/// Everything that is shipped and run by `/bin/sh`.
fn scripts() -> Vec<PathBuf> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, into);
            } else if std::fs::read(&path).unwrap().starts_with(b"#!/bin/sh\n") {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    ALL.iter().for_each(|kind| walk(&kind.shipped(), &mut found));
    assert!(found.len() > 12, "{found:?}");
    found
}

#[test]
fn shipped_scripts_can_be_executed_and_shellcheck_finds_nothing_in_them() {
    for script in scripts() {
        let mode = std::fs::metadata(&script).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{}", script.display());
    }
    let mut shellcheck = Command::new("shellcheck");
    // The content of N.env is unknown until it is written.
    shellcheck.args(["--shell=sh", "--exclude=SC1090"]).args(scripts());
    match run(&mut shellcheck) {
        Ok(told) => assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout)),
        Err(_) => {
            let why = "shellcheck is not installed (apt-get install shellcheck)";
            skipped("shipped_scripts_can_be_executed_and_shellcheck_finds_nothing_in_them", why);
        }
    }
}

#[test]
fn a_service_whose_folder_has_no_number_says_so_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Runit, Kind::S6] {
        for service in ["shard-executor", "shard-watchdog"] {
            let mut script = Command::new(kind.shipped().join(service).join("run"));
            let told = run(script.current_dir(folder.path())).unwrap();
            let said = String::from_utf8_lossy(&told.stdout).into_owned();
            assert_eq!(told.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("has to be called {service}-N")), "{said}");
        }
    }
}

#[test]
fn the_shipped_config_passes_check() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(Kind::Runit.shipped().join("../0.toml")).unwrap();
    assert!(text.contains("user = \"shard\""), "{text}");
    // That user may not exist here.
    let text = text.replace("user = \"shard\"", &format!("user = {:?}", whoami()));
    let config = folder.path().join("0.toml");
    std::fs::write(&config, text).unwrap();
    let told = run(Command::new(binary("shard-watchdog")).arg("check").arg("--config").arg(&config)).unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[allow(
    clippy::disallowed_methods,
    reason = "each of these ends by itself, and the runner ends a test that does not"
)]
fn run(command: &mut Command) -> std::io::Result<Output> {
    command.output()
}
