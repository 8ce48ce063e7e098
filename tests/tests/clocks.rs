//! Row 48: somebody sets the wall clock by an hour, forwards and back, under a shard and its sidecar. Neither notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::Process;
use shard_tests::{skip, wait};

const HOUR: i64 = 3_600;

/// The library that tells programs another wall-clock time.
fn library() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let of = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    found.map(of).chain([of("/usr/lib".into())]).find(|path| path.is_file())
}

/// What puts a wall clock under everything that is started: the offset stands in `file`, and may change at any time.
fn clock_of(library: &Path, file: &Path) -> Vec<(String, String)> {
    let variable = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    vec![
        variable("LD_PRELOAD", library),
        variable("FAKETIME_TIMESTAMP_FILE", file),
        variable("FAKETIME_NO_CACHE", Path::new("1")),
        variable("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        variable("FAKETIME_DONT_RESET", Path::new("1")),
    ]
}

/// Sets it, and proves with another program that it is set.
fn set(file: &Path, seconds: i64, variables: &[(String, String)]) {
    // Renamed into place: nobody reads half of it.
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(&next, file).unwrap();
    let mut date = Command::new("date");
    date.arg("+%s").envs(variables.iter().cloned());
    let date = Process::start("date", date);
    let told: i64 = date.line("the time", 0, |line| line.trim().parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    assert!((told - now - seconds).abs() < HOUR / 6, "the clock is not faked: {told} at {now}");
}

fn has_mapped(pid: i32, library: &Path) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.contains(&library.display().to_string())
}

#[test]
fn row_48_a_wall_clock_that_is_set_by_an_hour_changes_nothing() {
    let test = "row_48_a_wall_clock_that_is_set_by_an_hour_changes_nothing";
    let Some(library) = library() else {
        let why = "libfaketime is not installed (apt-get install libfaketime)";
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}: .ci/run installs it");
        return skip::note(test, why);
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offset");
    let variables = clock_of(&library, &file);
    set(&file, 0, &variables);
    let cluster = Cluster::start(&Plan { environment: variables.clone(), ..Plan::default() });
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    let watchdog = cluster.shards[0].supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    assert!(has_mapped(pid, &library) && has_mapped(watchdog, &library), "both have the clock");
    // A machine that is busy with other tests may starve it for a moment: that is told, and has nothing to do with the clock.
    let well = |verdict: &str| verdict == "healthy" || verdict == "excused";
    let healthy = || {
        sidecar
            .status()
            .is_none_or(|status| status["verdict"].as_str().is_some_and(well) && status["pid"] == pid)
    };
    // Forwards, back, further back, and to where it was: each is a jump of one or two hours.
    for offset in [HOUR, 0, -HOUR, HOUR, 0] {
        let at = monotonic_ns();
        set(&file, offset, &variables);
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
    // And it still sees what is wrong.
    cluster.inject(0, &["arm spin"]);
    assert_eq!(sidecar.incident("recovered")["reason"], "stalled");
}
