//! Rows 13, 18, 20 and 51: what happens around the shard, by real means. A stop that is never
//! undone, a supervisor that does not restart, a process that outlives SIGKILL, a segment that is
//! removed or overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::api;
use shard_tests::cgroup::Cgroup;
use shard_tests::clock::monotonic_ns;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::figures::FaultTimes;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::Stage;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{prometheus, skip, wait};

fn steps(incident: &Value) -> Vec<&str> {
    incident["timeline"].as_array().unwrap().iter().filter_map(|entry| entry["step"].as_str()).collect()
}

#[track_caller]
fn signal(pid: i32, signal: Signal) {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, signal).unwrap();
}

/// The sum of a metric over its series.
fn metric(sidecar: &Sidecar, name: &str) -> Option<f64> {
    let page = api::get(sidecar.http, "/metrics")?.body;
    let values =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    Some(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

#[test]
fn row_12_a_kill_for_want_of_memory_is_told_as_one() {
    let test = "row_12_a_kill_for_want_of_memory_is_told_as_one";
    let memory = match Cgroup::make("memory") {
        Ok(memory) => memory,
        Err(why) => return skip::note(test, &why),
    };
    memory.set("memory.limit_in_bytes", "256M");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", memory.folder().display());
    let stage = Stage::start_inside(&["sh", "-c", &enter], &Settings::default());
    let open = std::path::PathBuf::from(format!("/proc/{}/fd", stage.watchdog()));
    wait::until("the sidecar to know the cgroup of its target", || {
        let links =
            std::fs::read_dir(&open).ok()?.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.into_iter().find(|link| link == &memory.folder().join("memory.oom_control"))
    });
    stage.order_unanswered("eat 1024");
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "process_gone", "{incident:#}");
    let end = incident["timeline"].as_array().unwrap().iter().find(|entry| entry["step"] == "exit_status");
    let end = end.unwrap_or_else(|| panic!("{incident:#}"))["detail"].as_str().unwrap();
    assert!(end.contains("its cgroup counts 1 kill by the kernel's OOM killer"), "{end}");
}

#[test]
fn row_13_a_stop_beyond_its_cap_is_killed_and_nothing_stale_is_accepted() {
    let settings = Settings {
        append: "[judge.excuse]\nstopped = { at_most = \"2s\", then = \"kill\" }\n".to_owned(),
        ..Settings::default()
    };
    let mut cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let pid = cluster.shards[0].sidecar.pid();
    let stopped = monotonic_ns();
    signal(pid, Signal::STOP);
    let excused = cluster.shards[0].sidecar.wait_for("excused");
    assert_eq!(excused["pid"], pid);
    let times = FaultTimes::record(13, &cluster, 0, stopped);
    let incident = cluster.shards[0].sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stopped", "{incident:#}");
    assert!(times.verdict_ms >= 2_000.0, "not before its cap: {times:?}");
    // Verified blocks in order, retried ones too, from the process that came after.
    cluster.assert_common_rule(&[0]);
}

#[test]
fn row_18_a_supervisor_that_does_not_restart_is_told_and_answered_by_no_kill() {
    let settings = Settings { append: "[restart]\nwithin = \"2s\"\n".to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let shard = &cluster.shards[0];
    let pid = shard.sidecar.pid();
    // The supervisor hangs, so it neither reaps nor restarts.
    shard.supervisor.signal(Signal::STOP);
    signal(pid, Signal::KILL);
    shard.sidecar.wait_for("restarting");
    let dead = shard.sidecar.wait_for("dead");
    assert!(dead["reason"].as_str().is_some_and(|why| why.contains("restart")), "{dead:#}");
    wait::holds_for(Duration::from_secs(2), "dead, and nothing else is tried", || {
        shard.sidecar.status().is_none_or(|status| status["verdict"] == "dead")
    });
    assert_eq!(metric(&shard.sidecar, "shard_watchdog_kills_total"), Some(0.0));
    // The other shard does all of the work meanwhile.
    cluster.verified_after(monotonic_ns());
    shard.supervisor.signal(Signal::CONT);
    let incident = shard.sidecar.incident("recovered");
    let steps = steps(&incident);
    assert!(!steps.contains(&"signal") && steps.contains(&"restart_overdue"), "{incident:#}");
    shard.sidecar.wait_for("healthy");
}

#[test]
fn row_20_a_process_that_outlives_sigkill_is_told_and_not_killed_again_and_again() {
    let test = "row_20_a_process_that_outlives_sigkill_is_told_and_not_killed_again_and_again";
    let freezer = match Cgroup::make("freezer") {
        Ok(freezer) => freezer,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            return skip::note(test, &why);
        }
    };
    let settings = Settings { judge: "exit_within = \"2s\"".to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    // It has declared its end, and hangs in its exit; then the freezer takes it. SIGKILL waits for
    // the thaw.
    cluster.inject(0, &["arm exit-hang"]);
    freezer.take(pid);
    freezer.set("freezer.state", "FROZEN");
    let incident = wait::until("the incident to say that it is not dead", || {
        let incidents = sidecar.incidents();
        incidents.into_iter().find(|incident| steps(incident).contains(&"not_dead"))
    });
    assert_eq!(incident["reason"], "exit_hung", "{incident:#}");
    wait::holds_for(Duration::from_secs(3), "dying, and the same process", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "dying" && status["pid"] == pid)
    });
    assert_eq!(metric(sidecar, "shard_watchdog_kills_total"), Some(1.0));
    freezer.set("freezer.state", "THAWED");
    let incident = sidecar.incident("recovered");
    let signals = steps(&incident).into_iter().filter(|step| *step == "signal").count();
    assert_eq!(signals, 1, "{incident:#}");
    assert_eq!(metric(sidecar, "shard_watchdog_kills_left"), Some(2.0));
}

#[test]
fn row_51_a_segment_that_is_taken_away_or_replaced_by_garbage_is_no_reason_to_kill() {
    let cluster = Cluster::start(&Plan::default());
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    let unharmed = |what: &str| {
        wait::holds_for(Duration::from_secs(3), what, || {
            sidecar.status().is_none_or(|status| {
                let verdict = status["verdict"].as_str().unwrap_or_default();
                status["pid"] == pid && !["condemned", "dying", "dead"].contains(&verdict)
            })
        });
        assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    };
    std::fs::remove_file(&sidecar.heartbeat).unwrap();
    unharmed("nobody is killed for a segment that is gone");
    let garbage = sidecar.heartbeat.with_extension("garbage");
    std::fs::write(&garbage, (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    std::fs::rename(&garbage, &sidecar.heartbeat).unwrap();
    unharmed("nobody is killed for a segment that is garbage");
    // The process is watched throughout, through the file that it maps; and the next one brings its
    // own.
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let incident = sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    sidecar.wait_for("healthy");
}

#[test]
fn a_restart_takes_no_longer_for_the_other_processes_of_the_machine() {
    let test = "a_restart_takes_no_longer_for_the_other_processes_of_the_machine";
    let strace = Path::new("/usr/bin/strace");
    if !strace.is_file() {
        prometheus::skip(test, "strace is not installed (apt-get install strace)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["supervise", "--", "sleep", "1000"]);
    let supervisor = Process::start("supervise", command);
    let mut command = Command::new(strace);
    // Traces its main thread only, and which files that opens.
    command.args(["-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(&calls);
    command.args(["-p", &supervisor.pid().to_string()]);
    let tracer = Process::start("strace", command);
    wait::until("the tracer on it", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", supervisor.pid())).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    for life in 1..=3 {
        let started = |lines: Vec<String>| {
            let mut started = lines.into_iter().filter(|line| line.contains(" started"));
            started.nth(life - 1)
        };
        let line = wait::until("a start", || started(supervisor.lines()));
        let number = line.split("CMD pid ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        signal(number.parse().unwrap(), Signal::KILL);
    }
    let ended = || supervisor.lines().iter().filter(|line| line.contains(" ended (SIGKILL)")).count() == 3;
    wait::until("the last end", || ended().then_some(()));
    drop((tracer, supervisor));
    let calls = std::fs::read_to_string(&calls).unwrap();
    assert!(calls.contains("/children"), "it asks for its own children:\n{calls}");
    assert!(!calls.contains("/stat\""), "and looks at nobody else:\n{calls}");
}
