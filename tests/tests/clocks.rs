//! Row 48: the wall clock of a shard and its sidecar is set by an hour, forwards and back. Neither
//! notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::{faketime, skip, wait};

const HOUR: i64 = 3_600;

#[test]
fn row_48_a_wall_clock_that_is_set_by_an_hour_changes_nothing() {
    let test = "row_48_a_wall_clock_that_is_set_by_an_hour_changes_nothing";
    let Some(library) = faketime::library() else {
        let why = "libfaketime is not installed (apt-get install libfaketime)";
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}: .ci/run installs it");
        return skip::note(test, why);
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offset");
    let variables = faketime::variables(&library, &file);
    faketime::set(&file, 0, &variables);
    let cluster = Cluster::start(&Plan { environment: variables.clone(), ..Plan::default() });
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    let watchdog = cluster.shards[0].supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    assert!(
        faketime::has_mapped(pid, &library) && faketime::has_mapped(watchdog, &library),
        "both have the clock"
    );
    // On a machine busy with other tests it may starve for a moment: that is reported, and has
    // nothing to do with the clock.
    let well = |verdict: &str| verdict == "healthy" || verdict == "excused";
    let healthy = || {
        sidecar
            .status()
            .is_none_or(|status| status["verdict"].as_str().is_some_and(well) && status["pid"] == pid)
    };
    // Forwards, back, further back, and to where it was: each is a jump of one or two hours.
    for offset in [HOUR, 0, -HOUR, HOUR, 0] {
        let at = monotonic_ns();
        faketime::set(&file, offset, &variables);
        wait::holds_for(Duration::from_secs(2), "healthy under another clock", healthy);
        cluster.verified_after(at);
    }
    let status = sidecar.status().unwrap();
    for kind in ["suspended", "observer_late"] {
        let excused = status["excused_seconds"][kind].as_f64().unwrap_or_default();
        assert!(excused < 60.0, "an hour of {kind}: {status:#}");
    }
    for shard in &cluster.shards {
        assert!(shard.sidecar.incidents().is_empty(), "{:#?}", shard.sidecar.incidents());
    }
    // The sidecar still detects a fault.
    cluster.inject(0, &["arm spin"]);
    assert_eq!(sidecar.incident("recovered")["reason"], "stalled");
}
