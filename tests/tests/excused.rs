//! Rows 42, 44, 46, 47 and 61: a real quota, a real debugger, a real freezer, a watchdog that was
//! itself stopped, and a real deadline of the scheduler. A shard that is held from outside is
//! excused; past the cap a person is notified, and nothing is killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, PidfdFlags, Signal};
use shard_tests::cgroup::Cgroup;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::Process;
use shard_tests::puppet::Stage;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, faults, scheduling, skip, wait};

/// Whether gdb is installed; if not, the test is noted as skipped, and in CI it fails.
fn debugger(test: &str) -> bool {
    let there = Path::new("/usr/bin/gdb").is_file();
    if !there {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs gdb: .ci/run installs it");
        skip::note(test, "gdb is not installed (apt-get install gdb)");
    }
    there
}

/// gdb on the process `pid`; it ends with its commands. Symbols are not read: those of a debug
/// build take a minute.
fn attach(pid: i32, commands: &[&str]) -> Process {
    let mut command = Command::new("/usr/bin/gdb");
    command.args(["--batch", "-nx", "--readnever", "-iex", "set auto-solib-add off", "-p", &pid.to_string()]);
    for one in commands {
        command.args(["-ex", one]);
    }
    Process::start("gdb", command)
}

/// Waits for one of these excuses: on a busy machine the sidecar's own lateness may come first.
#[track_caller]
fn excused_as(sidecar: &Sidecar, kinds: &[&str]) {
    wait::until(&format!("one of the excuses {kinds:?}, not {:?}", sidecar.status()), || {
        let status = sidecar.status()?;
        kinds.contains(&status["threads"][0]["kind"].as_str()?).then_some(())
    });
}

/// Shard 0 in the middle of its work, with caps of seconds.
fn at_work() -> Cluster {
    Cluster::at_work(Settings {
        append: "[judge.excuse]\ntraced = \"3s\"\nstarved = \"3s\"\n".to_owned(),
        ..Settings::default()
    })
}

fn over_cap(cluster: &Cluster) -> Option<bool> {
    let page = api::get(cluster.shards[0].sidecar.http, "/metrics")?.body;
    let line = page.lines().find(|line| {
        line.starts_with("shard_watchdog_excuse_over_cap{") && line.contains("kind=\"traced\"")
    })?;
    Some(line.ends_with(" 1"))
}

#[test]
fn row_44_a_debugger_that_holds_the_shard_excuses_it_and_is_told_past_the_cap() {
    if !debugger("row_44_a_debugger_that_holds_the_shard_excuses_it_and_is_told_past_the_cap") {
        return;
    }
    let cluster = at_work();
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    let hold = cluster.folder().join("hold");
    rustix::fs::mknodat(CWD, &hold, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // It sits there until the file is written to, but not for ever.
    let sits = format!("shell timeout 120 cat {} >/dev/null", hold.display());
    let mut gdb = attach(pid, &[&sits]);
    excused_as(sidecar, &["traced"]);
    wait::until("the excuse to be past its cap", || {
        let status = sidecar.status()?;
        (status["threads"][0]["excuse_over_cap"] == true).then_some(())
    });
    wait::until("the gauge that pages", || over_cap(&cluster).filter(|over| *over));
    // By now well past stall_after and the cap, and for as long again.
    wait::holds_for(Duration::from_secs(4), "excused, and alive", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
    OpenOptions::new().write(true).open(&hold).unwrap().write_all(b"go\n").unwrap();
    gdb.wait("the debugger's end");
    wait::until("the shard at work again", || {
        let status = sidecar.status()?;
        (status["verdict"] == "healthy" && status["threads"][0]["excuse_over_cap"] == false).then_some(())
    });
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    assert_eq!(sidecar.pid(), pid);
}

#[test]
fn row_44_a_debugger_that_lets_the_shard_run_excuses_nothing() {
    if !debugger("row_44_a_debugger_that_lets_the_shard_run_excuses_nothing") {
        return;
    }
    let cluster = Cluster::start(&Plan { block_deadline: "60s".to_owned(), ..Plan::default() });
    let sidecar = &cluster.shards[0].sidecar;
    let gdb = attach(sidecar.pid(), &["continue"]);
    wait::until("the debugger on it", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).ok()?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t"))?;
        (tracer != "0").then_some(())
    });
    cluster.inject(0, &["arm spin after 1"]);
    let incident = sidecar.incident("recovered");
    assert_eq!((&incident["reason"], &incident["thread"]["kind"]), (&"stalled".into(), &"livelock".into()));
    drop(gdb);
}

/// A cgroup of that controller; `None`: the test is noted as skipped, and in CI it fails.
fn cgroup(controller: &str, test: &str) -> Option<Cgroup> {
    or_skipped(Cgroup::make(controller), test)
}

fn or_skipped(made: Result<Cgroup, String>, test: &str) -> Option<Cgroup> {
    match made {
        Ok(cgroup) => Some(cgroup),
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            skip::note(test, &why);
            None
        }
    }
}

#[test]
fn row_46_a_frozen_shard_is_excused_and_healthy_once_it_thaws() {
    let Some(freezer) = cgroup("freezer", "row_46_a_frozen_shard_is_excused_and_healthy_once_it_thaws")
    else {
        return;
    };
    let cluster = at_work();
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    freezer.take(pid);
    freezer.set("freezer.state", "FROZEN");
    let excused = sidecar.wait_for("excused");
    assert_eq!(excused["threads"][0]["kind"], "frozen", "{excused:#}");
    wait::holds_for(Duration::from_secs(4), "excused while frozen", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
    freezer.set("freezer.state", "THAWED");
    wait::until("the shard at work again", || {
        sidecar.status().filter(|status| status["threads"][0]["health"] == "working")
    });
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    assert_eq!(sidecar.pid(), pid);
}

/// A thread held by the version 2 freezer shows as asleep, and the name of the place depends on the
/// compiler.
#[test]
fn row_46_a_shard_frozen_by_version_2_is_excused_and_healthy_once_it_thaws() {
    let test = "row_46_a_shard_frozen_by_version_2_is_excused_and_healthy_once_it_thaws";
    let Some(freezer) = or_skipped(Cgroup::unified(), test) else { return };
    let cluster = at_work();
    let sidecar = &cluster.shards[0].sidecar;
    freezer.take(sidecar.pid());
    frozen_for_a_while(&freezer, sidecar);
    wait::until("the shard at work again", || {
        sidecar.status().filter(|status| status["threads"][0]["health"] == "working")
    });
}

/// If a process hides where its threads sleep, only its cgroup shows that it is frozen; everything
/// else looks as if it hung.
#[test]
fn row_46_a_frozen_process_that_hides_where_it_sleeps_is_excused_and_one_that_hangs_is_not() {
    let test = "row_46_a_frozen_process_that_hides_where_it_sleeps_is_excused_and_one_that_hangs_is_not";
    let Some(freezer) = or_skipped(Cgroup::unified(), test) else { return };
    // Longer than the sidecar takes to notice that its target was moved to another cgroup.
    let settings = Settings { stall_after: "5s".to_owned(), ..Settings::default() };
    let stage = Stage::start_without_trace(&settings);
    let pid = stage.sidecar.pid();
    stage.order("hide");
    freezer.take(pid);
    frozen_for_a_while(&freezer, &stage.sidecar);
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
}

/// Freezes the target for longer than its threshold, and thaws it.
#[track_caller]
fn frozen_for_a_while(freezer: &Cgroup, sidecar: &Sidecar) {
    let pid = sidecar.pid();
    freezer.set("cgroup.freeze", "1");
    let excused = sidecar.wait_for("excused");
    assert_eq!(excused["threads"][0]["kind"], "frozen", "{excused:#}");
    wait::holds_for(Duration::from_secs(7), "excused while frozen", || {
        sidecar.status().is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
    });
    freezer.set("cgroup.freeze", "0");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    assert_eq!(sidecar.pid(), pid);
}

#[test]
fn row_42_a_shard_at_a_quota_of_five_percent_is_never_killed() {
    let Some(quota) = cgroup("cpu", "row_42_a_shard_at_a_quota_of_five_percent_is_never_killed") else {
        return;
    };
    // A spinning thread gets its five percent, so it burns CPU without progress: that is a stall
    // and may be condemned. What must not be is a part that progresses, as fast as it can.
    let settings = Settings { stall_after: "500ms".to_owned(), ..Settings::default() };
    let plan = Plan { settings, block_deadline: "300s".to_owned(), ..Plan::default() };
    let cluster = Cluster::start(&plan);
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    quota.set("cpu.cfs_period_us", "1000000");
    quota.set("cpu.cfs_quota_us", "50000");
    quota.take(pid);
    let mut excused = false;
    wait::holds_for(Duration::from_secs(15), "alive, though it hardly runs", || {
        let status = sidecar.status();
        excused |= status.as_ref().is_some_and(|status| status["verdict"] == "excused");
        status.is_none_or(|status| status["verdict"] != "condemned" && status["pid"] == pid)
    });
    // The sidecar looks up the cgroup of its target every two seconds, and uses it to distinguish
    // neighbours from a quota.
    let told = wait::until("the quota to be named", || {
        let told = sidecar.status()?["excused_seconds"]["throttled"].as_f64()?;
        (told > 0.0).then_some(told)
    });
    assert!(told < 60.0, "{told}");
    let throttled = quota.get("cpu.stat");
    assert!(excused, "a thread that waits for its quota is excused: {throttled}");
    assert!(!throttled.contains("nr_throttled 0"), "{throttled}");
    quota.set("cpu.cfs_quota_us", "-1");
    sidecar.wait_for("healthy");
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
}

/// Row 61: what a thread of `SCHED_DEADLINE` may use is used up within the first tenth of each
/// period.
#[test]
fn row_61_a_shard_whose_scheduling_class_gives_it_little_is_excused_and_its_livelock_is_found() {
    let test = "row_61_a_shard_whose_scheduling_class_gives_it_little_is_excused_and_its_livelock_is_found";
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let tid = stage.order("go").number("tid");
    if let Err(why) = scheduling::deadline(tid) {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        skip::note(test, &why);
        return;
    }
    // 0.3 s of CPU time, in three thresholds of a second.
    for _ in 0..3 {
        stage.order("wait busy");
        excused_as(&stage.sidecar, &["throttled"]);
    }
    wait::until("the end of these steps", || {
        stage.sidecar.status().filter(|status| status["verdict"] == "healthy")
    });
    assert!(stage.sidecar.incidents().is_empty(), "{:#?}", stage.sidecar.incidents());
    assert_eq!(stage.sidecar.pid(), pid);
    stage.order("wait spin");
    let incident = stage.sidecar.incident("recovered");
    let told = (&incident["reason"], &incident["thread"]["kind"]);
    assert_eq!(told, (&"stalled".into(), &"livelock".into()), "{incident:#}");
}

/// The thread of `pid` that is called `name`.
#[track_caller]
fn thread_of(pid: i32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut named = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        (comm.trim() == name).then(|| task.file_name()?.to_str()?.parse().ok())?
    });
    named.next().unwrap_or_else(|| panic!("process {pid} has no thread {name}"))
}

/// Row 42 for a helper that is given no CPU: the executor thread sleeps until the helper is done.
#[test]
fn row_42_a_throttled_helper_excuses_the_thread_that_waits_for_it() {
    let Some(quota) = cgroup("cpu", "row_42_a_throttled_helper_excuses_the_thread_that_waits_for_it") else {
        return;
    };
    let settings = Settings { stall_after: "3s".to_owned(), ..Settings::default() };
    let shard_arguments = vec!["--threads".to_owned(), "2".to_owned()];
    let plan = Plan { settings, shard_arguments, block_deadline: "300s".to_owned(), ..Plan::default() };
    let cluster = Cluster::start(&plan);
    let sidecar = &cluster.shards[0].sidecar;
    let pid = sidecar.pid();
    quota.set("cpu.cfs_period_us", "1000000");
    quota.set("cpu.cfs_quota_us", "2000");
    // It never comes back, so the executor thread waits; as long as the helper hardly runs, nobody
    // is at fault.
    cluster.inject(0, &["arm helper-spin"]);
    quota.take_thread(thread_of(pid, "exec-s0-w1"));
    excused_as(sidecar, &["starved", "throttled"]);
    wait::holds_for(Duration::from_secs(6), "alive, twice as long as its threshold", || {
        let status = sidecar.status();
        status.is_none_or(|status| status["verdict"] != "condemned" && status["pid"] == pid)
    });
    assert!(sidecar.incidents().is_empty(), "{:#?}", sidecar.incidents());
    // With a CPU of its own it counts as the stall that it is.
    quota.set("cpu.cfs_quota_us", "-1");
    let incident = sidecar.incident("recovered");
    let told = (&incident["reason"], &incident["thread"]["name"], &incident["thread"]["kind"]);
    assert_eq!(told, (&"stalled".into(), &"exec-s0".into(), &"livelock".into()), "{incident:#}");
}

#[test]
fn row_47_a_watchdog_that_was_stopped_does_not_count_the_time_it_missed() {
    let settings = Settings { stall_after: "10s".to_owned(), ..Settings::default() };
    let plan = Plan { settings, block_deadline: "300s".to_owned(), coordinator: false, ..Plan::default() };
    let mut cluster = Cluster::start(&plan);
    let blocks = shard_tests::blocks::generated(cluster.folder(), 1, 4);
    cluster.shards[0].sidecar.wait_for("healthy");
    faults::order(&cluster.shards[0].faults, &["arm slow 60s"]);
    cluster.run_blocks(&blocks, "300s");
    let shard = &cluster.shards[0];
    let pid = shard.sidecar.pid();
    // At work is not enough: a step that it makes while the sidecar is stopped would be progress.
    wait::until("shard 0 that stands still", || {
        let counted = |status: &serde_json::Value| status["threads"][0]["counted_seconds"].as_f64();
        shard.sidecar.status().filter(|status| counted(status).is_some_and(|counted| counted > 1.0))
    });
    let sidecar = shard.supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse().ok()
    });
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(sidecar).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::STOP).unwrap();
    // Longer than the threshold: by the wall clock it is a stall.
    wait::holds_for(Duration::from_secs(12), "the sidecar is stopped", || true);
    rustix::process::pidfd_send_signal(&pidfd, Signal::CONT).unwrap();
    let late = wait::until("the time that it missed, as it tells it", || {
        shard.sidecar.status()?["excused_seconds"]["observer_late"].as_f64()
    });
    assert!(late > 10.0, "{late}");
    let status = shard.sidecar.status().unwrap();
    assert!(status["threads"][0]["counted_seconds"].as_f64().unwrap() < 10.0, "{status:#}");
    assert_eq!(status["pid"], pid);
    assert!(shard.sidecar.incidents().is_empty(), "{:#?}", shard.sidecar.incidents());
}
