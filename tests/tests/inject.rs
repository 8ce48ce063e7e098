//! `shard-watchdog inject`: a fault in a real process, from inside and from outside, the timeline
//! to its recovery, and nothing left of it however it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::fault_kit::{self, Ended};
use shard_tests::process::{Process, binary};
use shard_tests::puppet::{Stage, THREAD};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{faults, wait};

/// The end of every line of the puppet's `list` of points while nothing is wrong.
const IDLE: &str = "ok: held: 0; armed: none";

/// `inject` beside this sidecar, with this repository's kit.
fn command(sidecar: &Sidecar, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("inject").args(arguments);
    command.env("SHARD_WATCHDOG_URL", format!("http://{}", sidecar.http));
    command.env("SHARD_WATCHDOG_KIT", fault_kit::folder());
    command
}

fn inject(sidecar: &Sidecar, arguments: &[&str]) -> Ended {
    fault_kit::run("inject", command(sidecar, arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the test's own")
}

/// Asserts that it recovered, with these steps in its timeline, in this order.
#[track_caller]
fn recovered_by(ended: &Ended, steps: &[&str]) {
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let mut lines = ended.said.lines();
    for step in steps {
        assert!(
            lines.any(|line| line.split_whitespace().nth(1) == Some(step)),
            "no {step} in {}",
            ended.said
        );
    }
    assert!(ended.said.contains("\nrecovered: "), "{}", ended.said);
}

fn listed(stage: &Stage) -> String {
    faults::order(&stage.faults(), &["list"]).remove(0)
}

fn patient() -> Settings {
    Settings { stall_after: "60s".to_owned(), ..Settings::default() }
}

/// The letter by which the kernel shows the state of a process.
fn state(pid: i32) -> Option<char> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn an_executor_that_hangs_is_killed_and_restarted() {
    let mut cluster = Cluster::start(&Plan::default());
    let (socket, sidecar) = (cluster.shards[0].faults.clone(), cluster.shards[0].sidecar.clone());
    let ended = inject(&sidecar, &["--socket", text(&socket), "hang", "after", "3", "--yes-break-it"]);
    recovered_by(&ended, &["fault", "condemned", "signalled", "dead", "restarted", "ready"]);
    assert_eq!(sidecar.incident("recovered")["thread"]["kind"], "deadlock");
    cluster.assert_common_rule(&[0]);
}

#[test]
fn a_panic_that_ends_its_process_is_followed_too() {
    let cluster = Cluster::start(&Plan::default());
    let shard = &cluster.shards[0];
    let ended = inject(&shard.sidecar, &["--socket", text(&shard.faults), "panic", "--yes-break-it"]);
    recovered_by(&ended, &["fault", "dead", "restarted", "ready"]);
    assert!(!ended.said.contains("signalled"), "{}", ended.said);
}

#[test]
fn an_executor_goes_on_once_it_is_disarmed() {
    let plan = Plan { settings: patient(), block_deadline: "60s".to_owned(), ..Plan::default() };
    let cluster = Cluster::start(&plan);
    let shard = &cluster.shards[0];
    let before = cluster.verified();
    let arguments = ["--socket", text(&shard.faults), "spin", "--for", "500ms", "--yes-break-it"];
    let ended = inject(&shard.sidecar, &arguments);
    recovered_by(&ended, &["fault", "undone"]);
    assert!(ended.said.contains("nobody was killed"), "{}", ended.said);
    assert_eq!(shard.sidecar.pid(), shard.first_pid);
    wait::until("blocks go on", || (cluster.verified() > before).then_some(()));
}

#[test]
fn a_thread_of_a_process_that_embeds_the_heartbeat_hangs_at_a_named_place() {
    let stage = Stage::start_with_faults(&Settings::default());
    let socket = stage.faults();
    let at =
        ["--socket", text(&socket), "hang", "at", "block", "--thread", THREAD, "--yes-break-it", "--json"];
    let ended = inject(&stage.sidecar, &at);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let told: Value = ended.said.lines().find_map(|line| serde_json::from_str(line).ok()).expect("JSON");
    assert_eq!(
        (&told["recovered"], &told["killed"], &told["undone"]),
        (&true.into(), &true.into(), &true.into())
    );
    let steps: Vec<_> = told["timeline"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    for step in ["fault", "condemned", "signalled", "dead", "restarted", "ready"] {
        assert!(steps.contains(&&Value::from(step)), "no {step}: {told:#}");
    }
    let condemned =
        told["timeline"].as_array().unwrap().iter().find(|step| step["step"] == "condemned").unwrap();
    assert!(condemned["since_fault_ms"].as_f64().unwrap() > 900.0, "not before its threshold: {told:#}");
}

#[test]
fn every_kind_that_loses_a_thread_is_seen_and_recovered_from() {
    for (kind, reason) in [("end", "thread_gone"), ("panic", "thread_gone"), ("spin", "stalled")] {
        // A separate stage for each: after a restart the target counts its work from one again, and
        // the same number at two deaths would be a crash loop.
        let stage = Stage::start_with_faults(&Settings::default());
        let socket = stage.faults();
        let ended = inject(&stage.sidecar, &["--socket", text(&socket), kind, "--yes-break-it"]);
        recovered_by(&ended, &["fault", "condemned", "signalled", "dead", "restarted", "ready"]);
        assert_eq!(stage.sidecar.told_incidents()[0]["reason"], reason, "{kind}");
    }
}

#[test]
fn in_observe_mode_it_recovers_by_itself_or_not_at_all() {
    let stage = Stage::start_with_faults(&Settings { mode: "observe".to_owned(), ..Settings::default() });
    let socket = stage.faults();
    let pid = stage.sidecar.pid();
    let hang = ["--socket", text(&socket), "hang", "--for", "4s", "--yes-break-it"];
    let ended = inject(&stage.sidecar, &hang);
    recovered_by(&ended, &["fault", "condemned", "withheld", "undone"]);
    assert!(ended.said.contains("condemned, and not killed (observe)"), "{}", ended.said);
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    let end = ["--socket", text(&socket), "end", "--for", "1s", "--within", "8s", "--yes-break-it"];
    let ended = inject(&stage.sidecar, &end);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("not recovered: ") && ended.said.contains("not killed: "), "{}", ended.said);
    assert_eq!(listed(&stage), IDLE);
}

#[test]
fn what_is_slow_is_left_alone_and_a_point_that_nobody_passes_is_told() {
    let stage = Stage::start_with_faults(&Settings::default());
    let socket = stage.faults();
    let slow = ["--socket", text(&socket), "slow", "20ms", "--for", "1s", "--yes-break-it"];
    recovered_by(&inject(&stage.sidecar, &slow), &["fault", "undone"]);
    let nobody = [
        "--socket",
        text(&socket),
        "hang",
        "at",
        "nowhere",
        "--for",
        "1s",
        "--within",
        "2s",
        "--yes-break-it",
    ];
    let ended = inject(&stage.sidecar, &nobody);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("the fault never struck"), "{}", ended.said);
    assert_eq!(listed(&stage), IDLE);
    assert!(stage.sidecar.told_incidents().is_empty());
}

#[test]
fn a_process_that_is_stopped_from_outside_is_excused_and_goes_on() {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let number = pid.to_string();
    let ended = inject(&stage.sidecar, &["--pid", &number, "stop-process", "--for", "2s", "--yes-break-it"]);
    // An observation may find it healthy before its script reports that it has undone.
    recovered_by(&ended, &["fault", "excused", "undone"]);
    recovered_by(&ended, &["excused", "healthy"]);
    assert!(ended.said.contains("excused: stopped "), "{}", ended.said);
    assert!(ended.said.contains("nobody was killed"), "{}", ended.said);
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    assert!(stage.sidecar.told_incidents().is_empty());
}

#[test]
fn a_thread_that_is_lost_from_outside_is_a_restart() {
    let test = "a_thread_that_is_lost_from_outside_is_a_restart";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid().to_string();
    let arguments = ["--pid", &pid, "--yes-break-it", "kill-thread", "--", "--thread", THREAD];
    let ended = inject(&stage.sidecar, &arguments);
    recovered_by(&ended, &["condemned", "signalled", "dead", "restarted", "ready"]);
}

#[test]
fn without_the_flag_it_says_what_it_would_do_and_does_nothing() {
    let stage = Stage::start_with_faults(&Settings::default());
    let (socket, pid) = (stage.faults(), stage.sidecar.pid());
    let number = pid.to_string();
    for (arguments, would) in [
        (&["--socket", text(&socket), "hang", "at", "block"][..], "arm hang at block"),
        (&["--pid", &number, "stop-process"], "would stop process"),
    ] {
        let ended = inject(&stage.sidecar, arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.said);
        assert!(ended.said.contains("refused without --yes-break-it"), "{}", ended.said);
        assert!(ended.said.contains(would) && ended.said.contains(&number), "{}", ended.said);
    }
    assert_eq!(listed(&stage), IDLE);
    assert_ne!(state(pid), Some('T'));
    assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
}

#[test]
fn what_cannot_be_followed_or_is_no_fault_is_refused_before_anything_is_broken() {
    let stage = Stage::start_with_faults(&Settings::default());
    let (socket, pid) = (stage.faults(), stage.sidecar.pid().to_string());
    let (socket, own) = (text(&socket), std::process::id().to_string());
    let nobody = "http://127.0.0.1:1";
    for (arguments, why) in [
        (&["--socket", socket, "everything"][..], "is not an order"),
        (&["--socket", socket, "hang", "somewhere"], "is not a condition"),
        (&["--socket", socket, "hang", "--url", nobody], "cannot be reached"),
        (&["--socket", "/nowhere.faults", "hang"], "no process takes orders at /nowhere.faults"),
        (&["--socket", socket, "hang", "--for", "20m"], "no fault lasts longer than 10m"),
        (&["--socket", socket, "hang", "--within", "5s"], "must be longer than the fault"),
        (&["--pid", &pid, "explode"], "there is no such fault in the kit"),
        (&["--pid", &pid, "plan"], "is no fault of the kit"),
        (&["--pid", &pid, "stop-process", "--kit", "/nowhere"], "is not the fault kit"),
        (&["--pid", &pid, "stop-process", "--", "--gently"], "there is no option --gently"),
        (&["--pid", &own, "stop-process"], "watches process"),
        (&["hang"], "--pid"),
        (&["--pid", &pid, "--socket", socket, "hang"], "cannot be used with"),
    ] {
        let ended = inject(&stage.sidecar, &[arguments, &["--yes-break-it"]].concat());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.said);
        assert!(ended.said.contains(why), "{why:?} is not in: {}", ended.said);
    }
    faults::order(&stage.faults(), &["arm hang at elsewhere"]);
    let ended = inject(&stage.sidecar, &["--socket", socket, "hang", "--yes-break-it"]);
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("a fault is already armed"), "{}", ended.said);
    assert!(
        listed(&stage).ends_with("armed: hang at elsewhere once for 10m"),
        "another's fault is left alone"
    );
    assert!(stage.sidecar.told_incidents().is_empty());
}

#[test]
fn the_socket_of_another_user_is_refused() {
    let test = "the_socket_of_another_user_is_refused";
    if !fault_kit::has(test, &[]) {
        return;
    }
    let stage = Stage::start_with_faults(&patient());
    let socket = stage.faults();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    open(socket.parent().unwrap(), 0o755);
    // Refused by the file's mode, and where the mode lets them in, by the process itself.
    for (mode, why) in
        [(0o600, "Only the user of the process and root may use it"), (0o666, "does not answer")]
    {
        open(&socket, mode);
        let mut command = command(&stage.sidecar, &["--socket", text(&socket), "end", "--yes-break-it"]);
        command.uid(65_534).gid(65_534);
        let ended = fault_kit::run("inject of another user", command);
        assert_eq!(ended.code, Some(2), "{}", ended.said);
        assert!(ended.said.contains(why), "{}", ended.said);
    }
    assert_eq!(listed(&stage), IDLE);
    assert_eq!(stage.sidecar.verdict(), "healthy");
}

#[test]
fn a_signal_in_the_middle_undoes_what_was_ordered() {
    let stage = Stage::start_with_faults(&patient());
    let socket = stage.faults();
    let arguments = ["--socket", text(&socket), "hang", "--for", "90s", "--within", "100s", "--yes-break-it"];
    // The last signal cannot be caught: what is armed ends with the connection.
    for (signal, code) in [(Signal::INT, Some(1)), (Signal::TERM, Some(1)), (Signal::KILL, None)] {
        let mut running = Process::start("inject", command(&stage.sidecar, &arguments));
        wait::until("a thread that hangs", || (listed(&stage) == "ok: held: 1; armed: none").then_some(()));
        running.signal(signal);
        assert_eq!(running.wait("its end").code(), code);
        wait::until("the thread goes on", || (listed(&stage) == IDLE).then_some(()));
        let said = wait::until("its last line", || running.all_lines()).join("\n");
        assert!(code.is_none() || said.contains("not recovered: stopped by a signal"), "{said}");
        stage.sidecar.wait_for("healthy");
    }
    assert!(stage.sidecar.told_incidents().is_empty());
}

#[test]
fn a_signal_in_the_middle_undoes_what_a_script_did() {
    let stage = Stage::start(&patient());
    let pid = stage.sidecar.pid();
    let number = pid.to_string();
    let arguments = ["--pid", &number, "stop-process", "--for", "90s", "--within", "100s", "--yes-break-it"];
    for (signal, code) in [(Signal::INT, Some(1)), (Signal::TERM, Some(1)), (Signal::KILL, None)] {
        let mut running = Process::start("inject", command(&stage.sidecar, &arguments));
        wait::until("its stop", || (state(pid) == Some('T')).then_some(()));
        running.signal(signal);
        assert_eq!(running.wait("its end").code(), code);
        wait::until("it goes on", || (state(pid) != Some('T')).then_some(()));
        assert_eq!(stage.sidecar.wait_for("healthy")["pid"], pid);
    }
}
