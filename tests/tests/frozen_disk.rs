//! The segment is on a disk that no longer answers. The target hangs at its next beat, and so does
//! the sidecar's thread that beats back; verdict and signal wait for neither.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use shard_tests::disk::Disk;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::THREAD;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, incident, skip, wait};

#[test]
fn a_kill_goes_out_while_the_file_system_of_the_segment_is_frozen() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {why}");
            return skip::note("a_kill_goes_out_while_the_file_system_of_the_segment_is_frozen", &why);
        }
    };
    let folder = tempfile::tempdir().unwrap();
    // An answer from before the disk was frozen is too old by then: the target's identity has to be
    // verified meanwhile, by a thread that does not hang.
    let settings = Settings { stall_after: "8s".to_owned(), ..Settings::default() };
    let mut sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, &settings);
    let heartbeat = disk.path().join("puppet.heartbeat");
    let config = std::fs::read_to_string(&sidecar.config).unwrap();
    let elsewhere = config.replace(&format!("{:?}", sidecar.heartbeat), &format!("{heartbeat:?}"));
    std::fs::write(&sidecar.config, elsewhere).unwrap();
    sidecar.heartbeat = heartbeat;
    let mut target = Command::new(binary("puppet"));
    target.arg("target").arg(&sidecar.heartbeat).arg(api::free_address().to_string());
    let mut target = Process::start("target", target);
    let mut watch = Command::new(binary("shard-watchdog"));
    watch.arg("run").arg("--config").arg(&sidecar.config);
    let _watch = Process::start("sidecar", watch);
    sidecar.wait_for("healthy");

    let frozen = disk.freeze();
    let killed = wait::until("a signal", || {
        let all = sidecar.told_incidents();
        all.into_iter().find(|incident| incident::step_at(incident, "signal").is_some())
    });
    assert_eq!(killed["reason"], "stalled", "{killed:#}");
    // It writes to the disk, and no signal ends that.
    assert!(target.is_running(), "it hung in the disk, not in something else");
    drop(frozen);
    target.wait("its end");
    wait::until("the end in the incident", || {
        let all = sidecar.incidents();
        all.into_iter().find(|incident| incident::step_at(incident, "exited").is_some())
    });
}
