//! What a sidecar saw is on disk and available on demand, whatever becomes of the sidecar.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::binary;
use shard_tests::sidecar::Settings;
use shard_tests::{api, replayed, wait};

fn watchdog(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary("shard-watchdog")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A sidecar that dies in the middle of it leaves a recording; the next sidecar begins another.
#[test]
fn a_long_recording_outlives_its_sidecar_and_a_short_one_is_had_on_demand() {
    let public = api::free_address();
    let settings = Settings {
        // It goes where the section on HTTP ends.
        append: format!("public = \"{public}\"\n[recorder]\nkeep = {{ days = 2, bytes = \"16MiB\" }}\n"),
        ..Settings::default()
    };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let sidecar = &shard.sidecar;
    let first = sidecar_pid(shard, 0);
    let files = |status: &Value| status["recorder"]["files"].as_u64();
    let written = wait::until("a chunk of the first sidecar on the disk", || {
        sidecar.status().filter(|status| files(status) == Some(1))
    });
    assert_eq!(written["recorder"]["missing_looks"], 0, "{written:#}");
    let seen = shard.supervisor.line_count();
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(first).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    assert_ne!(sidecar_pid(shard, seen), first);
    wait::until("a chunk of the second sidecar on the disk", || {
        sidecar.status().filter(|status| files(status) == Some(2))
    });

    let folder = sidecar.evidence.join("recordings");
    let mut recordings: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|item| item.unwrap().path()).collect();
    recordings.sort();
    assert_eq!(recordings.len(), 2);
    for recording in &recordings {
        replays(recording, &sidecar.config);
    }
    let minute = cluster.folder().join("minute");
    let url = format!("http://{}", sidecar.http);
    let (code, said) = watchdog(&["record", "--out", minute.to_str().unwrap(), "--url", &url]);
    assert_eq!(code, Some(0), "{said}");
    replays(&minute, &sidecar.config);
    let arguments: Vec<_> =
        ["suggest"].into_iter().chain(recordings.iter().map(|path| path.to_str().unwrap())).collect();
    let (code, said) = watchdog(&arguments);
    assert!(code == Some(0) && said.contains("TOO SHORT"), "{said}");

    assert_eq!(
        api::get(public, "/api/v1/recording").map(|answer| answer.code),
        Some(404),
        "not for everybody"
    );
    let (code, said) = watchdog(&["record", "--out", "/nowhere/minute", "--url", &url]);
    assert!(code == Some(2) && said.contains("/nowhere/minute: cannot be written"), "{said}");
    let (code, said) = watchdog(&["record", "--out", "/nowhere", "--url", &format!("http://{public}")]);
    assert!(code == Some(3) && said.contains("The public address has none"), "{said}");
}

#[track_caller]
fn replays(recording: &Path, config: &Path) {
    let told = replayed::again(recording, config);
    assert!(told["looks"].as_u64() > Some(0), "{told:#}");
    assert_eq!(told["would_kill"], false, "{told:#}");
    assert_eq!(told["problems"], Value::Array(Vec::new()), "{told:#}");
}

#[track_caller]
fn sidecar_pid(shard: &shard_tests::cluster::Shard, from: usize) -> i32 {
    shard.supervisor.line("the sidecar's pid", from, |line| {
        let (pid, what) = line.strip_prefix("supervise: sidecar pid ")?.split_once(' ')?;
        pid.parse().ok().filter(|_| what.starts_with("started"))
    })
}
