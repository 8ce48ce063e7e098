//! Before a condemned process is killed, each of its threads is on record: what it was doing, and
//! what the one at fault waited for. Whatever hangs or is not permitted meanwhile, the kill is not
//! late.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::incident::step_at;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::Stage;
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::skip::note as skipped;
use shard_tests::{api, wait};

/// The file `threads.json` of an incident, once it is there.
#[track_caller]
fn threads(sidecar: &Sidecar, incident: &Value) -> Value {
    let id = incident["id"].as_str().unwrap();
    let path = sidecar.evidence.join("incidents").join(id).join("threads.json");
    wait::until("the threads of the incident", || serde_json::from_slice(&std::fs::read(&path).ok()?).ok())
}

/// The detail of a step of an incident.
#[track_caller]
fn detail<'a>(incident: &'a Value, step: &str) -> &'a str {
    let steps = incident["timeline"].as_array().unwrap();
    let found = steps.iter().find(|entry| entry["step"] == step);
    found.and_then(|entry| entry["detail"].as_str()).unwrap_or_else(|| panic!("no {step}: {incident:#}"))
}

#[test]
fn a_deadlock_shows_who_waits_for_what_before_it_is_killed() {
    let cluster = Cluster::start(&Plan::default());
    cluster.inject(0, &["arm deadlock after 3"]);
    let sidecar = &cluster.shards[0].sidecar;
    let incident = sidecar.incident("recovered");
    assert!(step_at(&incident, "verdict") <= step_at(&incident, "evidence"), "{incident:#}");
    assert!(step_at(&incident, "evidence") <= step_at(&incident, "signal"), "{incident:#}");
    assert!(detail(&incident, "evidence").contains("exec-s0 sleeps in futex"), "{incident:#}");
    let told = threads(sidecar, &incident);
    assert_eq!(told["incident"], incident["id"]);
    let first = &told["threads"][0];
    assert_eq!((&first["watched_as"], &first["state"]), (&"exec-s0".into(), &"sleeping".into()), "{told:#}");
    assert_eq!((&first["tid"], &first["syscall"]["name"]), (&incident["thread"]["tid"], &"futex".into()));
    assert!(first["wchan"].as_str().is_some_and(|wchan| wchan.contains("futex")), "{told:#}");
    let all = told["threads"].as_array().unwrap();
    assert_eq!(told["process"]["threads"].as_u64(), Some(all.len() as u64), "{told:#}");
    assert!(all.iter().all(|one| one["cpu_seconds"].is_f64() && one["voluntary_switches"].is_u64()));
    assert!(told["process"]["memory"]["resident_bytes"].as_u64() > Some(1 << 20), "{told:#}");
    let watched = told["watched"].as_array().unwrap();
    let guilty = watched.iter().find(|one| one["name"] == "exec-s0").expect("its heartbeat");
    assert_eq!(
        (&guilty["work_key"], &guilty["health"]),
        (&incident["thread"]["work_key"], &"stalled".into())
    );
    assert!(!told["channels"].as_array().unwrap().is_empty(), "{told:#}");

    // The same by every way to read it.
    let id = incident["id"].as_str().unwrap();
    let answer = api::get(sidecar.http, &format!("/api/v1/incidents/{id}/threads.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), told);
    let mut show = Command::new(binary("shard-watchdog"));
    show.args(["incidents", "show", id, "--directory"]).arg(&sidecar.evidence);
    let shown = String::from_utf8(show.output().unwrap().stdout).unwrap();
    let (_, after) = shown.split_once("threads before the first signal").expect("a table of threads");
    assert!(after.contains("exec-s0 sleeps in futex") && after.contains("SWITCHES"), "{shown}");
    let out = tempfile::tempdir().unwrap();
    let mut export = Command::new(binary("shard-watchdog"));
    export.args(["incidents", "export", id, "--directory"]).arg(&sidecar.evidence);
    assert!(export.arg("--out").arg(out.path()).status().unwrap().success());
    let tar = out.path().join(format!("{id}.tar"));
    let listed = Command::new("tar").arg("-tf").arg(tar).output().unwrap().stdout;
    assert!(String::from_utf8(listed).unwrap().contains("threads.json"));
}

#[test]
fn a_livelock_shows_a_thread_that_runs() {
    let stage = Stage::start(&Settings::default());
    stage.order("wait spin");
    let incident = stage.sidecar.incident("recovered");
    let told = threads(&stage.sidecar, &incident);
    let first = &told["threads"][0];
    assert_eq!((&first["watched_as"], &first["state"]), (&"exec-s0".into(), &"running".into()), "{told:#}");
    assert!(first["cpu_seconds"].as_f64() > Some(0.5), "it has burnt its threshold: {told:#}");
    assert!(detail(&incident, "evidence").ends_with("exec-s0 runs"), "{incident:#}");
}

#[test]
fn a_lost_thread_is_not_among_those_that_are_left() {
    let stage = Stage::start(&Settings::default());
    stage.order_unanswered("lose");
    let incident = stage.sidecar.incident("recovered");
    assert_eq!(incident["reason"], "thread_gone", "{incident:#}");
    assert!(step_at(&incident, "evidence") <= step_at(&incident, "signal"), "{incident:#}");
    let told = threads(&stage.sidecar, &incident);
    let all = told["threads"].as_array().unwrap();
    assert!(!all.is_empty() && all.iter().all(|one| one["tid"] != incident["thread"]["tid"]), "{told:#}");
}

#[test]
fn evidence_is_gathered_where_nothing_is_killed_and_not_where_it_is_unwanted() {
    let observe = Settings { mode: "observe".to_owned(), ..Settings::default() };
    let stage = Stage::start(&observe);
    stage.order("hang");
    let incident = stage.sidecar.incident_with("evidence");
    assert!(step_at(&incident, "withheld").is_some() && step_at(&incident, "signal").is_none());
    assert_eq!(threads(&stage.sidecar, &incident)["threads"][0]["watched_as"], "exec-s0");

    let none = Settings { evidence: "time_limit = \"0s\"".to_owned(), ..Settings::default() };
    let stage = Stage::start(&none);
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    let steps = ["evidence", "no_evidence"].map(|step| step_at(&incident, step));
    assert_eq!(steps, [None, None], "{incident:#}");
}

/// The thread that gathers evidence hangs, in the first file that it opens.
#[test]
fn a_kill_does_not_wait_for_evidence_that_hangs() {
    let test = "a_kill_does_not_wait_for_evidence_that_hangs";
    let strace = Path::new("/usr/bin/strace");
    if !strace.is_file() {
        return skipped(test, "strace is not installed (apt-get install strace)");
    }
    // A near miss would take that thread first, which the second incident stands for.
    let evidence = "near_misses_per_day = 0".to_owned();
    let stage = Stage::start(&Settings { evidence, ..Settings::default() });
    let gatherer = thread_named(stage.watchdog(), "evidence");
    let mut command = Command::new(strace);
    // Ten minutes: beyond what any of this may take.
    command.args([
        "-q",
        "-o",
        "/dev/null",
        "-e",
        "trace=openat",
        "-e",
        "inject=openat:delay_enter=600000000",
    ]);
    command.args(["-p", &gatherer.to_string()]);
    let tracer = Process::start("strace", command);
    wait::until("the tracer on that thread", || {
        let status = std::fs::read_to_string(format!("/proc/{gatherer}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("TracerPid:\t")).filter(|tracer| *tracer != "0")?;
        Some(())
    });
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    assert!(detail(&incident, "no_evidence").contains("not complete within 250 ms"), "{incident:#}");
    assert!(step_at(&incident, "no_evidence") <= step_at(&incident, "signal"), "{incident:#}");
    // The next one finds that thread still at work, and is not held up at all.
    stage.sidecar.wait_for("healthy");
    stage.order("hang");
    let second = wait::until("a second incident that has recovered", || {
        let all = stage.sidecar.incidents();
        all.into_iter().filter(|incident| incident["status"] == "recovered").nth(1)
    });
    assert!(detail(&second, "no_evidence").contains("still being read"), "{second:#}");
    drop(tracer);
}

#[test]
fn what_may_not_be_read_is_named_with_what_to_grant() {
    let test = "what_may_not_be_read_is_named_with_what_to_grant";
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "it takes root to give up a capability");
    }
    let evidence = "minidump = true".to_owned();
    let stage = Stage::start_without_trace(&Settings { evidence, ..Settings::default() });
    let lacks = |status: &Value| status["evidence_lacks"].to_string();
    assert_eq!(lacks(&stage.sidecar.wait_for("healthy")), "[]");
    stage.order("hide");
    stage.order("hang");
    let incident = stage.sidecar.incident_with("signal");
    let told = threads(&stage.sidecar, &incident);
    let missing = told["missing"].to_string();
    assert!(missing.contains("syscall: not permitted") && missing.contains("CAP_SYS_PTRACE"), "{told:#}");
    let first = &told["threads"][0];
    assert_eq!((&first["watched_as"], &first["state"]), (&"exec-s0".into(), &"sleeping".into()), "{told:#}");
    assert!(detail(&incident, "no_dump").contains("dumpable"), "{incident:#}");
}

#[test]
fn a_dump_is_taken_before_the_kill_and_shows_on_which_line_the_thread_stood() {
    // The process stands still for milliseconds; the limit is for a busy machine.
    let evidence = "minidump = true\ntime_limit = \"10s\"".to_owned();
    let stage = Stage::start(&Settings { evidence, ..Settings::default() });
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    let at = |step: &str| step_at(&incident, step);
    assert!(at("evidence") <= at("dump") && at("dump") <= at("signal"), "{incident:#}");
    assert!(at("dump").is_some(), "{incident:#}");
    assert!(detail(&incident, "dump").contains("stood still for"), "{incident:#}");
    let id = incident["id"].as_str().unwrap();
    let dump = stage.sidecar.evidence.join("incidents").join(id).join("process.dmp");
    wait::until("the dump of the incident", || dump.is_file().then_some(()));
    let mut symbolize = Command::new(binary("shard-watchdog"));
    symbolize.args(["incidents", "symbolize", id, "--directory"]).arg(&stage.sidecar.evidence);
    let output = symbolize.output().unwrap();
    let stacks = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let exec = stacks.find("exec-s0").unwrap_or_else(|| panic!("no exec-s0 in {stacks} {said}"));
    let place = stacks.find("puppet::waits").unwrap_or_else(|| panic!("no function of its own: {stacks}"));
    assert!(exec < place && stacks.contains("waits.rs"), "{stacks}");
    follows_by_itself(&stage.sidecar, &stacks);
    // The next incarnation is dumped too, by the same helper or another one.
    stage.sidecar.wait_for("healthy");
    stage.order("wait spin");
    let second = wait::until("a second incident that has recovered", || {
        let all = stage.sidecar.incidents();
        all.into_iter().filter(|incident| incident["status"] == "recovered").nth(1)
    });
    assert!(step_at(&second, "dump").is_some(), "{second:#}");
}

/// The stacks are there without anybody's doing, and not before the signal.
#[track_caller]
fn follows_by_itself(sidecar: &Sidecar, symbolized: &str) {
    let incident = sidecar.incident_with("stacks");
    assert!(step_at(&incident, "signal") <= step_at(&incident, "stacks"), "{incident:#}");
    assert!(detail(&incident, "stacks").contains("puppet::waits"), "{incident:#}");
    let own = incident["own_frames"][0].as_str().unwrap_or_default();
    assert!(own.contains("puppet::waits"), "{incident:#}");
    let id = incident["id"].as_str().unwrap();
    let answer = api::get(sidecar.http, &format!("/api/v1/incidents/{id}/stacks.txt")).unwrap();
    assert_eq!(answer.body, symbolized);
    let listed = api::json(sidecar.http, "/api/v1/incidents").unwrap();
    let fingerprint = listed["incidents"][0]["fingerprint"].as_str().unwrap();
    assert!(fingerprint.starts_with("stalled/") && fingerprint.contains(own), "{fingerprint}");
    for source in ["--url", "--directory"] {
        let mut show = Command::new(binary("shard-watchdog"));
        show.args(["incidents", "show", id, source]);
        match source {
            "--url" => show.arg(format!("http://{}", sidecar.http)),
            _ => show.arg(&sidecar.evidence),
        };
        let shown = String::from_utf8(show.output().unwrap().stdout).unwrap();
        let (_, stack) = shown.split_once("\n  stack   ").unwrap_or_else(|| panic!("no stack: {shown}"));
        let (stack, _) = stack.split_once("\n  opened ").expect("the next row");
        assert!(stack.contains("puppet::waits") && stack.contains("waits.rs:"), "{shown}");
    }
}

/// What is left out of the name of a closure's frame, which stands inside the function.
fn is_in(frame: &str, function: &str) -> bool {
    frame.strip_prefix(function).is_some_and(|rest| rest.is_empty() || rest.starts_with(['<', ':']))
}

/// The executor's own faults: the program's own function in which the thread at fault stands is the
/// one that does the harm.
#[test]
fn the_stacks_of_a_fault_lead_to_the_function_that_has_it() {
    let evidence = "minidump = true\ntime_limit = \"10s\"".to_owned();
    let settings = Settings { evidence, ..Settings::default() };
    let cluster = Cluster::start(&Plan { settings, ..Plan::default() });
    let faults = [
        ("arm spin after 3", "livelock", "shard_executor::faults::strike::spin"),
        ("arm deadlock after 3", "deadlock", "shard_executor::faults::strike::deadlock"),
    ];
    for (shard, (order, kind, function)) in faults.into_iter().enumerate() {
        let sidecar = &cluster.shards[shard].sidecar;
        cluster.inject(shard, &[order]);
        let incident = sidecar.incident_with("stacks");
        assert_eq!(incident["thread"]["kind"], kind, "{incident:#}");
        let own: Vec<_> = incident["own_frames"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        // A loop asks, in a closure, whether it is to end.
        let top = own.iter().find(|frame| !frame.contains("{closure")).copied().unwrap_or_default();
        assert!(is_in(top, function), "{order}: {own:#?}");
        let id = incident["id"].as_str().unwrap();
        let path = sidecar.evidence.join("incidents").join(id).join("stacks.txt");
        let stacks = std::fs::read_to_string(path).unwrap();
        let guilty = stacks.split("\n\n").nth(1).unwrap();
        assert!(guilty.contains("the one in question") && guilty.contains(function), "{stacks}");
    }
}

/// Waits for the first near miss that is recorded.
#[track_caller]
fn near_miss(sidecar: &Sidecar) -> Value {
    wait::until("a near miss", || {
        let found = api::json(sidecar.http, "/api/v1/near-misses")?;
        found["near_misses"].get(0).cloned()
    })
}

#[test]
fn a_thread_that_was_late_and_went_on_is_a_near_miss_with_evidence() {
    let rule = "warn_after = \"200ms\"".to_owned();
    let stage = Stage::start(&Settings { stall_after: "10m".to_owned(), rule, ..Settings::default() });
    let pid = stage.sidecar.pid();
    stage.order("wait gate");
    stage.sidecar.wait_for("degraded");
    // It stands still until it was read, which takes a millisecond.
    wait::holds_for(Duration::from_secs(1), "it is late", || stage.sidecar.verdict() == "degraded");
    stage.order("go");
    let near = near_miss(&stage.sidecar);
    assert_eq!((&near["outcome"], &near["thread"]["name"]), (&"recovered".into(), &"exec-s0".into()));
    assert!(near["lasted_seconds"].as_f64() >= Some(0.2), "{near:#}");
    assert_eq!(near["stall_after_seconds"], 600.0, "{near:#}");
    assert_eq!(near["evidence"]["watched_as"], "exec-s0", "{near:#}");
    let guess = near["guess"].as_str().unwrap();
    assert!(guess.starts_with("exec-s0 "), "{near:#}");
    assert!(near["incident"].is_null() && stage.sidecar.incidents().is_empty(), "{near:#}");
    assert_eq!(stage.sidecar.pid(), pid);
    let status = stage.sidecar.wait_for("healthy");
    assert_eq!(status["last_near_miss"]["outcome"], "recovered", "{status:#}");
    let page = api::get(stage.sidecar.http, "/metrics").unwrap().body;
    let counted = |line: &&str| {
        line.starts_with("shard_watchdog_near_misses_total{") && line.contains("outcome=\"recovered\"")
    };
    let line = page.lines().find(counted).unwrap_or_else(|| panic!("no such metric: {page}"));
    assert!(line.contains("thread=\"exec-s0\"") && line.ends_with(" 1"), "{line}");
    for source in ["--url", "--directory"] {
        let mut list = Command::new(binary("shard-watchdog"));
        list.args(["incidents", "list", source]);
        match source {
            "--url" => list.arg(format!("http://{}", stage.sidecar.http)),
            _ => list.arg(&stage.sidecar.evidence),
        };
        let told = String::from_utf8(list.output().unwrap().stdout).unwrap();
        assert!(told.contains("near misses") && told.contains(guess), "{source}: {told}");
    }
}

#[test]
fn a_near_miss_that_becomes_an_incident_names_it_and_none_are_recorded_where_unwanted() {
    let stage = Stage::start(&Settings::default());
    stage.order("hang");
    let incident = stage.sidecar.incident("recovered");
    let near = near_miss(&stage.sidecar);
    assert_eq!((&near["outcome"], &near["incident"]), (&"condemned".into(), &incident["id"]), "{near:#}");
    assert!(near["lasted_seconds"].as_f64() >= Some(1.0), "{near:#}");

    let evidence = "near_misses_per_day = 0".to_owned();
    let stage = Stage::start(&Settings { evidence, ..Settings::default() });
    stage.order("hang");
    stage.sidecar.incident("recovered");
    let none = api::json(stage.sidecar.http, "/api/v1/near-misses").unwrap();
    assert_eq!(none["near_misses"], Value::Array(Vec::new()));
}

/// The thread of a process whose name is this.
#[track_caller]
fn thread_named(pid: i32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let is = |tid: &i32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    let mut tids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    tids.find(is).unwrap_or_else(|| panic!("process {pid} has no thread {name}"))
}
