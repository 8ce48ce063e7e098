//! Rows of the fault matrix that must not be killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::io::{Seek, Write};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use shard_heartbeat::layout;
use shard_tests::cluster::{Blocks, Cluster, Plan, Shard};
use shard_tests::sidecar::Settings;
use shard_tests::{api, faults, wait};

fn quick_stall() -> Settings {
    Settings { stall_after: "200ms".to_owned(), ..Settings::default() }
}

fn nothing_happened(shard: &Shard, pid: &serde_json::Value) {
    let status = shard.sidecar.status().expect("the sidecar answers");
    assert_eq!(status["pid"], *pid, "the same process: {status:#}");
    assert!(shard.sidecar.incidents().is_empty(), "no incident: {:#?}", shard.sidecar.incidents());
}

#[test]
fn row_40_idle_for_a_hundred_thresholds_is_healthy() {
    let settings = Settings { stall_after: "100ms".to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let pid = shard.sidecar.wait_for("healthy")["pid"].clone();
    wait::holds_for(Duration::from_secs(10), "healthy while idle", || {
        // A sidecar too busy to answer at once is not under test here.
        shard.sidecar.status().is_none_or(|status| status["verdict"] == "healthy" && status["pid"] == pid)
    });
    nothing_happened(shard, &pid);
}

#[test]
fn row_41_a_block_of_ten_thresholds_that_progresses_is_healthy() {
    let plan = Plan { settings: quick_stall(), block_deadline: "120s".to_owned(), ..Plan::default() };
    let mut cluster = Cluster::start(&Plan { coordinator: false, ..plan });
    let blocks = shard_tests::blocks::generated(cluster.folder(), 1, 100);
    let pid = cluster.shards[0].sidecar.wait_for("healthy")["pid"].clone();
    // 100 transactions over two shards, each with 50 ms: 2 s and more for a threshold of 200 ms.
    for shard in &cluster.shards {
        faults::order(&shard.faults, &["arm slow 50ms"]);
    }
    cluster.run_blocks(&blocks, "120s");
    cluster.verified_after(0);
    nothing_happened(&cluster.shards[0], &pid);
}

/// The coordinator here stands for any peer that answers late: it may be stopped, frozen or short
/// of CPU time. Its own deadline for state is 30 s, thirty times the threshold of the shard.
#[test]
fn row_42_a_shard_that_waits_for_a_coordinator_that_does_not_run_is_healthy() {
    let plan = Plan {
        block_deadline: "300s".to_owned(),
        blocks: Blocks::Generated { blocks: 10, transactions: 40 },
        ..Plan::default()
    };
    let cluster = Cluster::start(&plan);
    let (shard, coordinator) = (&cluster.shards[0], &cluster.coordinator().process);
    let pid = shard.sidecar.wait_for("healthy")["pid"].clone();
    let executor = || {
        let status = shard.sidecar.status()?;
        status["threads"].as_array()?.iter().find(|thread| thread["name"] == "exec-s0").cloned()
    };
    wait::until("a shard whose executor waits for the coordinator", || {
        coordinator.signal(Signal::STOP);
        let waits = wait::until("a thread that rests or waits", || {
            let thread = executor()?;
            // A part of such a block takes some milliseconds.
            let waits = thread["work_age_seconds"].as_f64().is_some_and(|age| age > 0.3);
            (waits || thread["health"] == "idle").then_some(waits)
        });
        if !waits {
            coordinator.signal(Signal::CONT);
        }
        waits.then_some(())
    });
    wait::holds_for(Duration::from_secs(3), "well while it waits", || {
        // On a busy machine it may itself be short of CPU time for a moment.
        let well =
            |status: &serde_json::Value| ["healthy", "excused"].map(Into::into).contains(&status["verdict"]);
        shard.sidecar.status().is_none_or(|status| well(&status) && status["pid"] == pid)
    });
    coordinator.signal(Signal::CONT);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    cluster.verified_after(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned());
    nothing_happened(shard, &pid);
}

#[test]
fn row_43_a_stop_within_its_excuse_is_excused_and_then_healthy() {
    let cluster = Cluster::start(&Plan { settings: quick_stall(), ..Plan::default() });
    let shard = &cluster.shards[0];
    let pid = shard.sidecar.status().unwrap()["pid"].clone();
    let number = Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::STOP).unwrap();
    let excused = shard.sidecar.wait_for("excused");
    assert_eq!(excused["no_kill"][0]["because"], "stopped", "{excused:#}");
    assert_eq!(excused["deadlines"][0]["at_most_seconds"], 60.0, "{excused:#}");
    wait::holds_for(Duration::from_secs(2), "excused while stopped", || {
        shard.sidecar.status().is_none_or(|status| status["verdict"] == "excused")
    });
    rustix::process::pidfd_send_signal(&pidfd, Signal::CONT).unwrap();
    shard.sidecar.wait_for("healthy");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    cluster.verified_after(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned());
    nothing_happened(&cluster.shards[0], &pid);
}

#[test]
fn row_49_a_graceful_stop_and_a_rolling_restart_are_no_incident() {
    let mut cluster = Cluster::start(&Plan::default());
    let sidecar = cluster.shards[0].sidecar.clone();
    let before = sidecar.status().unwrap()["pid"].clone();
    let number = Pid::from_raw(i32::try_from(before.as_i64().unwrap()).unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty()).unwrap();
    // The supervisor restarts it: that is a rolling restart. The supervisor's own stop below is a
    // graceful one.
    rustix::process::pidfd_send_signal(&pidfd, Signal::TERM).unwrap();
    wait::until("the next incarnation", || {
        sidecar.status().filter(|status| status["pid"].is_i64() && status["pid"] != before)
    });
    sidecar.wait_for("healthy");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    let shard = &mut cluster.shards[0];
    shard.supervisor.signal(Signal::TERM);
    let status = shard.supervisor.wait("the supervisor's end");
    assert_eq!(status.code(), Some(0), "the code of the command: {status}");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
}

#[test]
fn row_49_a_reload_is_no_incident_and_a_bad_one_changes_nothing() {
    let cluster = Cluster::start(&Plan { shards: 1, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let before = shard.sidecar.wait_for("healthy");
    let reload = |text: &str| {
        std::fs::write(&shard.sidecar.config, text).unwrap();
        let line = shard.supervisor.line("the sidecar's pid", 0, |line| {
            line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
        });
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(line).unwrap(), PidfdFlags::empty()).unwrap();
        let from = shard.supervisor.line_count();
        rustix::process::pidfd_send_signal(&pidfd, Signal::HUP).unwrap();
        shard.supervisor.line("the reload", from, |line| line.contains("reload").then(|| line.to_owned()))
    };
    let config = std::fs::read_to_string(&shard.sidecar.config).unwrap();
    let refused = reload("[target]\nshard = 7\n");
    assert!(refused.contains("keeps"), "{refused}");
    let in_force = |flag: &str| {
        wait::until("what became of the reload, as a metric", || {
            let page = api::get(shard.sidecar.http, "/metrics")?.body;
            let line = page
                .lines()
                .find(|line| line.starts_with("shard_watchdog_config_last_reload_successful{"))?;
            line.ends_with(flag).then_some(())
        });
    };
    in_force(" 0");
    let taken = reload(&config.replace("stall_after = \"1s\"", "stall_after = \"3s\""));
    let changed = ".stall_after: \\\"1s\\\" → \\\"3s\\\"";
    assert!(taken.contains("in force now: thread.") && taken.contains(changed), "{taken}");
    in_force(" 1");
    wait::until("the new threshold", || {
        let status = shard.sidecar.status()?;
        (status["threads"][0]["stall_after_seconds"] == 3.0).then_some(())
    });
    nothing_happened(shard, &before["pid"]);
}

#[test]
fn row_57_a_rule_that_matches_no_thread_is_degraded() {
    let settings = Settings {
        thread: Some("nobody-*".to_owned()),
        judge: "startup_grace = \"500ms\"".to_owned(),
        ..Settings::default()
    };
    let cluster = Cluster::start(&Plan { shards: 1, settings, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let status = shard.sidecar.wait_for("degraded");
    assert!(status["reason"].as_str().unwrap().contains("nobody-*"), "{status:#}");
    nothing_happened(shard, &status["pid"]);
}

/// Row 58: the segment is replaced by one that names another process of the same user.
#[test]
fn row_58_a_segment_that_names_another_process_is_refused() {
    let cluster = Cluster::start(&Plan { shards: 1, coordinator: false, ..Plan::default() });
    let shard = &cluster.shards[0];
    let real = shard.sidecar.wait_for("healthy")["pid"].as_i64().unwrap();
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();

    // The forged segment claims that its writer's executor thread is gone, which would be a reason
    // to kill.
    let forged = cluster.folder().join("forged");
    let bytes = std::fs::read(&shard.sidecar.heartbeat).unwrap();
    let mut file = std::fs::File::create(&forged).unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(std::io::SeekFrom::Start(layout::H_PID as u64)).unwrap();
    file.write_all(&u64::from(victim.id()).to_le_bytes()).unwrap();
    let settings = Settings::default();
    let sidecar =
        shard_tests::sidecar::Sidecar::configure(cluster.folder(), "forged-sidecar", "exec-s0", &settings);
    sidecar.watch_shard("0");
    std::fs::rename(&forged, &sidecar.heartbeat).unwrap();
    let mut command = std::process::Command::new(shard_tests::process::binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    let _watchdog = shard_tests::process::Process::start("second sidecar", command);

    let status = wait::until("the refusal", || {
        sidecar
            .status()
            .filter(|status| status["reason"].as_str().is_some_and(|why| why.contains("does not map")))
    });
    assert_eq!(status["verdict"], "unguarded", "{status:#}");
    assert!(victim.try_wait().unwrap().is_none(), "the victim lives");
    assert_eq!(shard.sidecar.status().unwrap()["pid"].as_i64(), Some(real));
    victim.kill().unwrap();
    victim.wait().unwrap();
}
