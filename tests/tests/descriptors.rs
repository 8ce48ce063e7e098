//! Row 30: more threads than descriptors. The sidecar still observes the threads it can, kills,
//! answers and writes, and reports those that it cannot see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit};
use shard_tests::crowd::Move;
use shard_tests::limited::{Limited, limit, numbers};
use shard_tests::process::binary;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

#[test]
fn row_30_400_threads_and_1024_descriptors_a_lost_thread_is_seen_and_killed() {
    let mut scene = Limited::start(400, 1_024, 1_024, &Settings::default());
    scene.sidecar.wait_for("healthy");
    assert_eq!(scene.unobserved(), Some(0.0));
    assert!(scene.held() <= 800 + 64, "{} held", scene.held());
    scene.kills_for(399);
}

#[test]
fn row_30_64_threads_and_256_descriptors_a_lost_thread_is_seen_and_killed() {
    for thread_events in ["pidfd", "poll"] {
        let (thread_events, stall_after) = (thread_events.to_owned(), "10m".to_owned());
        let settings = Settings { thread_events, stall_after, ..Settings::default() };
        let mut scene = Limited::start(64, 256, 256, &settings);
        scene.sidecar.wait_for("healthy");
        // All are at work and stand still, so each is asked about at every observation.
        scene.crowd.all(Move::Progress);
        wait::until("all threads at work", || {
            let status = scene.sidecar.status()?;
            status["threads"].as_array()?.iter().all(|thread| thread["work_key"].is_u64()).then_some(())
        });
        assert!(scene.held() < 256, "{} held", scene.held());
        scene.crowd.all(Move::Rest);
        scene.kills_for(63);
    }
}

#[test]
fn row_30_threads_without_descriptors_are_degraded_and_those_with_are_watched_on() {
    let mut scene = Limited::start(400, 512, 512, &Settings::default());
    let status = scene.sidecar.wait_for("degraded");
    let (seen, unseen) = (numbers(&status, true), numbers(&status, false));
    // A sidecar that inherits descriptors has fewer to spend.
    let lost = unseen.len();
    assert!(seen.len() + lost == 400 && (208..300).contains(&lost), "{lost} are out of sight");
    let why = status["reason"].as_str().unwrap();
    assert!(why.contains(&format!("{lost} of 400 watched threads are out of sight")), "{why}");
    assert!(why.contains(&format!("by {} at least (LimitNOFILE=", lost * 2)), "{why}");
    assert_eq!(scene.unobserved(), Some(lost as f64));
    scene.process.line("a warning with the limit", 0, |line| {
        (line.contains("few_descriptors") && line.contains("its limit is 512")).then_some(())
    });
    scene.kills_for(seen[0]);
}

/// The thread that it asks whether the process goes on without the lost one already has its file
/// open.
#[test]
fn row_30_a_sidecar_that_can_open_nothing_more_kills_for_a_lost_thread() {
    let mut scene = Limited::start(8, 1_024, 1_024, &Settings::default());
    scene.sidecar.wait_for("healthy");
    let none = Rlimit { current: Some(0), maximum: Some(1_024) };
    let pid = rustix::process::Pid::from_raw(scene.process.pid());
    rustix::process::prlimit(pid, Resource::Nofile, none).unwrap();
    scene.crowd.lose(3);
    assert_eq!(scene.crowd.ended().signal(), Some(9), "killed");
}

#[test]
fn row_30_who_is_killed_for_is_watched_before_who_is_only_reported() {
    // Last to be found by its position, first by its rule.
    let report = "[[thread]]\nname = \"exec-s*\"\non = \"report\"\nstall_after = \"1s\"\n";
    for kill in [0, 199] {
        let thread = Some(format!("exec-s{kill}"));
        let settings = Settings { thread, append: report.to_owned(), ..Settings::default() };
        let mut scene = Limited::start(200, 256, 256, &settings);
        let status = scene.sidecar.wait_for("degraded");
        assert!(numbers(&status, true).contains(&kill), "{:?}", numbers(&status, true));
        scene.kills_for(kill);
    }
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_and_that_is_said() {
    let scene = Limited::start(200, 256, 1_024, &Settings::default());
    scene.sidecar.wait_for("healthy");
    assert_eq!(scene.unobserved(), Some(0.0));
    scene.process.line("the limit", 0, |line| {
        line.contains("the soft limit of open files was raised from 256 to 1024").then_some(())
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
fn check_does_the_sum() {
    let folder = tempfile::tempdir().unwrap();
    let check = |threads: u32, hard: u64| {
        let append = format!("[[thread]]\nname = \"net-*\"\ncount = {threads}\nstall_after = \"1s\"\n");
        let settings = Settings { append, ..Settings::default() };
        let sidecar = Sidecar::configure(folder.path(), "check", "exec-s0", &settings);
        let mut command = Command::new(binary("shard-watchdog"));
        command.arg("check").arg("--config").arg(&sidecar.config);
        limit(&mut command, hard.min(256), hard);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(check(399, 1_024), "");
    let told = check(399, 512);
    assert!(
        told.contains(": warning: under the limit of this shell, 400 watched threads take 800"),
        "{told}"
    );
    assert!(told.contains("LimitNOFILE=") && told.contains("ulimit -n"), "{told}");
}
