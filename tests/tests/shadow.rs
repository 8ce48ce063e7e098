//! A second policy beside the live one reports what it would do, and does nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use rustix::process::{Pid, PidfdFlags, Signal};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::sidecar::Settings;
use shard_tests::{api, blocks, faults, wait};

const SHADOW: &str = "[[shadow.thread]]\nname = \"exec-s*\"\nstall_after = \"300ms\"\n";

/// The live policy would wait for a minute, the shadow for 300 ms; each transaction takes a second.
#[test]
fn a_shadow_that_would_have_killed_says_so_and_the_shard_lives() {
    let settings =
        Settings { stall_after: "60s".to_owned(), append: SHADOW.to_owned(), ..Settings::default() };
    let plan = Plan { settings, coordinator: false, block_deadline: "120s".to_owned(), ..Plan::default() };
    let mut cluster = Cluster::start(&plan);
    let generated = blocks::generated(cluster.folder(), 1, 8);
    let before = cluster.shards[0].sidecar.wait_for("healthy");
    assert_eq!(before["shadow"]["would_have_killed"], 0, "{before:#}");
    faults::order(&cluster.shards[0].faults, &["arm slow 1s"]);
    cluster.run_blocks(&generated, "120s");
    let sidecar = &cluster.shards[0].sidecar;
    let told = wait::until("what the shadow would have killed", || {
        sidecar.status().filter(|status| status["shadow"]["would_have_killed"].as_u64() > Some(0))
    });
    assert_eq!(told["shadow"]["last_kill"]["reason"], "stalled", "{told:#}");
    cluster.verified_after(0);
    let shard = &cluster.shards[0];
    let status = wait::until("the live verdict and the shadow's both to be healthy again", || {
        let status = shard.sidecar.status()?;
        (status["verdict"] == "healthy" && status["shadow"]["verdict"] == "healthy").then_some(status)
    });
    assert_eq!(status["pid"], before["pid"], "the same process: {status:#}");
    assert_eq!(status["kills_left"], before["kills_left"], "{status:#}");
    assert!(shard.sidecar.incidents().is_empty(), "no incident: {:#?}", shard.sidecar.incidents());
    for event in ["shadow_would_kill", "shadow_lifted"] {
        shard.supervisor.line(event, 0, |line| line.contains(event).then_some(()));
    }
    let kills = |name: &str| {
        let page = api::get(shard.sidecar.http, "/metrics")?.body;
        let line =
            page.lines().find(|line| line.starts_with(name) && line.contains("\"stalled\""))?.to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    assert!(kills("shard_watchdog_shadow_kills_total") > Some(0.0), "it is counted");
    assert_eq!(kills("shard_watchdog_kills_total"), Some(0.0), "and is no kill");
}

#[test]
fn a_reload_takes_a_shadow_away() {
    let settings = Settings { append: SHADOW.to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let before = shard.sidecar.wait_for("healthy");
    assert!(before["shadow"].is_object(), "{before:#}");
    let config = std::fs::read_to_string(&shard.sidecar.config).unwrap();
    std::fs::write(&shard.sidecar.config, config.replace(SHADOW, "")).unwrap();
    let sidecar = shard.supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(sidecar).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::HUP).unwrap();
    wait::until("a status without a shadow", || {
        shard.sidecar.status().filter(|status| status["shadow"].is_null() && status["pid"] == before["pid"])
    });
}
