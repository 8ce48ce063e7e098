//! Row 53: what floods, blocks or fills up around a sidecar must delay neither its verdict nor its
//! kill.
//!
//! A shared machine says little about milliseconds, so none are asserted: verdict and kill must
//! come while the disturbance lasts. The record also holds the times of an undisturbed sidecar, for
//! people to compare.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::io::Write;

use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan, Shard, Strain};
use shard_tests::figures::{Record, milliseconds};
use shard_tests::flood::Flood;
use shard_tests::{incident, wait};

const LOST: [&str; 2] = ["hook off", "arm panic after 3"];

/// Waits for the incident of a fault as the sidecar reports it, including the dead target.
#[track_caller]
fn killed(shard: &Shard, fired: u64) -> Value {
    let found = wait::until("a verdict and a kill", || {
        let all = shard.sidecar.told_incidents();
        all.into_iter().find(|incident| incident::step_at(incident, "exited").is_some())
    });
    assert_eq!(found["reason"], "thread_gone", "{found:#}");
    assert!(incident::step_at(&found, "signal").is_some_and(|at| at > fired), "{found:#}");
    found
}

fn times(record: Record, prefix: &str, incident: &Value, fired: u64) -> Record {
    ["verdict", "signal", "exited"].into_iter().fold(record, |record, step| {
        let at = incident::step_at(incident, step).map(|at| milliseconds(fired, at));
        record.fact(&format!("{prefix}{step}_ms"), &at.into())
    })
}

/// Both shards lose a thread, first the one with the undisturbed sidecar.
#[track_caller]
fn compared(case: &str, cluster: &mut Cluster, mut holds: impl FnMut(&Shard) -> bool) {
    let record = Record::row(53).case(case);
    let fired = cluster.inject(0, &LOST);
    let calm = killed(&cluster.shards[0], fired);
    let record = times(record, "undisturbed_", &calm, fired);
    cluster.verified_after(incident::step_at(&calm, "exited").unwrap());

    let fired = cluster.inject(1, &LOST);
    let disturbed = killed(&cluster.shards[1], fired);
    assert!(holds(&cluster.shards[1]), "the disturbance lasted until then");
    let verified = cluster.verified_after(incident::step_at(&disturbed, "exited").unwrap());
    times(record, "disturbed_", &disturbed, fired).time("disturbed_verified_ms", fired, verified.at).keep();
    cluster.assert_common_rule(&[0, 1]);
}

#[test]
fn row_53_a_flood_of_requests_does_not_hold_up_verdict_or_kill() {
    let mut cluster = Cluster::start(&Plan::default());
    let record = Record::row(53).case("http-flood");
    let fired = cluster.inject(0, &LOST);
    let calm = killed(&cluster.shards[0], fired);
    let record = times(record, "undisturbed_", &calm, fired);
    cluster.verified_after(incident::step_at(&calm, "exited").unwrap());

    let flood = Flood::start(cluster.shards[1].sidecar.http, 8);
    wait::until("the flood", || (flood.answered() > 50).then_some(()));
    let before = flood.tried();
    let fired = cluster.inject(1, &LOST);
    // Read from disk: whether the flood leaves room for one more request is not tested.
    let disturbed = cluster.shards[1].sidecar.incident("recovered");
    assert_eq!(disturbed["reason"], "thread_gone", "{disturbed:#}");
    assert!(incident::step_at(&disturbed, "signal").is_some(), "{disturbed:#}");
    wait::until("the flood to go on", || (flood.tried() > before).then_some(()));
    let verified = cluster.verified_after(incident::step_at(&disturbed, "exited").unwrap());
    times(record, "disturbed_", &disturbed, fired)
        .time("disturbed_verified_ms", fired, verified.at)
        .fact("requests", &flood.tried().into())
        .fact("answered", &flood.answered().into())
        .keep();
    drop(flood);
    cluster.assert_common_rule(&[0, 1]);
}

#[test]
fn row_53_a_log_that_nobody_reads_does_not_hold_up_verdict_or_kill() {
    let strained = Some((1, Strain::UnreadLogs));
    let mut cluster = Cluster::start(&Plan { strained, ..Plan::default() });
    // Its pipe was full before it started and is held open, unread, until the end.
    compared("unread-logs", &mut cluster, |shard| shard.apart.is_some());
    assert!(cluster.shards[1].apart.as_mut().unwrap().is_running(), "the sidecar lives");
}

/// The evidence directory has no room left, in a filesystem that only that sidecar sees.
#[test]
fn row_53_a_full_disk_does_not_hold_up_verdict_or_kill() {
    if !rustix::process::geteuid().is_root() {
        let name = "row_53_a_full_disk_does_not_hold_up_verdict_or_kill";
        shard_tests::skip::note(name, "mounting a tiny filesystem needs root");
        return;
    }
    let strained = Some((1, Strain::TinyDisk));
    let mut cluster = Cluster::start(&Plan { strained, ..Plan::default() });
    let shard = &cluster.shards[1];
    let disk =
        format!("/proc/{}/root{}", shard.apart.as_ref().unwrap().pid(), shard.sidecar.evidence.display());
    let disk = std::path::Path::new(&disk);
    let full = |at: &std::path::Path| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(at.join("filler"))?;
        // Bounded: the filesystem has room for 8 KiB.
        (0..64).try_for_each(|_| file.write_all(&[0; 1024]))
    };
    let error = full(disk).expect_err("it is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    compared("full-disk", &mut cluster, |_| full(disk).is_err());
    let sidecar = cluster.shards[1].apart.as_ref().unwrap();
    sidecar
        .line("that it cannot write", 0, |line| line.contains("incidents cannot be written").then_some(()));
}
