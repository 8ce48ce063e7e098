//! The real systemd as the supervisor: it restarts what the sidecar kills, and `check` knows its
//! limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::systemd::Systemd;
use shard_tests::{api, blocks, faults, skip, wait};

/// Whether systemd can be started here; if not, the test is noted as skipped, and in CI it fails.
fn systemd(test: &str) -> bool {
    let Some(why) = Systemd::impossible() else { return true };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs systemd: {why}");
    skip::note(test, &why);
    false
}

#[test]
fn systemd_restarts_a_shard_that_lost_its_thread_and_check_knows_its_start_limit() {
    if !systemd("systemd_restarts_a_shard_that_lost_its_thread_and_check_knows_its_start_limit") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &Settings::default());
    let config = std::fs::read_to_string(&sidecar.config).unwrap();
    let config = config.replace("[target]\n", "[target]\nsystemd_unit = \"shard.service\"\n");
    std::fs::write(&sidecar.config, &config).unwrap();
    let (listen, orders) = (api::free_address(), folder.path().join("0.faults"));
    let shard = format!(
        "StartLimitIntervalSec=10\nStartLimitBurst=4\n[Service]\nExecStart={} shard --id 0 --listen {listen} --heartbeat {} --faults {}\n\
         Restart=always\nRestartSec=0\n",
        binary("shard-executor").display(),
        sidecar.heartbeat.display(),
        orders.display()
    );
    let watchdog = format!(
        "[Service]\nExecStart={} run --config {}\nRestart=always\nRestartSec=0\n",
        binary("shard-watchdog").display(),
        sidecar.config.display()
    );
    let systemd = Systemd::start(folder.path(), &[("shard.service", shard), ("watchdog.service", watchdog)]);
    sidecar.wait_for("healthy");

    // Three kills, the first start and a crash are five; it may be started four times.
    let check =
        systemd.run(binary("shard-watchdog"), &["check", "--config", sidecar.config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success(), "{said}");
    assert!(said.contains("warning: ") && said.contains("StartLimitBurst=5"), "{said}");
    let modest = folder.path().join("modest.toml");
    std::fs::write(&modest, config.replace("kills = 3", "kills = 2")).unwrap();
    let check = systemd.run(binary("shard-watchdog"), &["check", "--config", modest.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&check.stderr), "");

    let blocks = blocks::generated(folder.path(), 10, 20);
    let mut command = Command::new(binary("shard-executor"));
    command.args(["coordinator", "--shards", &listen.to_string(), "--blocks"]).arg(&blocks);
    command.args(["--repeat", "0", "--json", "--block-deadline", "60s"]);
    let coordinator = Process::start("coordinator", command);
    let first = systemd.property("shard.service", "MainPID");
    faults::order(&orders, &["hook off", "arm panic"]);
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    wait::until("systemd's word", || (systemd.property("shard.service", "NRestarts") == "1").then_some(()));
    assert_ne!(systemd.property("shard.service", "MainPID"), first);
    assert_eq!(systemd.property("watchdog.service", "NRestarts"), "0");
    drop(coordinator);
}
