//! Faults one after the other: from a list, and at random.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use shard_tests::fault_kit::{self, Ended};
use shard_tests::process::Process;
use shard_tests::puppet::{Stage, THREAD};
use shard_tests::sidecar::Settings;
use shard_tests::wait;

use super::{state, unharmed};

/// Runs a plan of these lines.
#[track_caller]
fn run(folder: &Path, lines: &str, more: &[&str]) -> Ended {
    let file = folder.join("plan.yaml");
    fs::write(&file, lines).unwrap();
    let words = [&["--plan", file.to_str().unwrap()], more].concat();
    fault_kit::run("plan", fault_kit::command("plan", &words))
}

#[test]
fn a_plan_runs_its_faults_in_order_and_undoes_each() {
    let test = "a_plan_runs_its_faults_in_order_and_undoes_each";
    if !fault_kit::has(test, &[("prlimit", "util-linux")]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let lines = format!(
        "# both ways to write it\n- fault: stop-process\n  for: 300ms\n  target: {{pid: {pid}}}\n\n- fault: tear-segment   # and then\n  after: 100ms\n  for: \"200ms\"\n  target:\n    pid: {pid}\n  with: {{how: remove}}\n"
    );
    let ended = run(folder.path(), &lines, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let said: Vec<_> = ended.said.lines().filter(|line| !line.starts_with("plan: ")).collect();
    let expected = [
        "stop-process: broken: for 300ms at most",
        "stop-process: undone",
        "tear-segment: broken: for 200ms at most",
        "tear-segment: undone",
    ];
    assert_eq!(said, expected);
    unharmed(&stage.sidecar, pid);

    // Told to end, it undoes the fault in progress and begins no other.
    let file = folder.path().join("plan.yaml");
    let stop = format!("- fault: stop-process\n  for: 5m\n  target: {{pid: {pid}}}\n");
    fs::write(&file, format!("{stop}{stop}")).unwrap();
    let mut plan = Process::start("plan", fault_kit::command("plan", &["--plan", file.to_str().unwrap()]));
    plan.line("the fault to hold", 0, |line| line.contains("broken").then_some(()));
    plan.signal(Signal::TERM);
    assert_eq!(plan.wait("its end").code(), Some(143));
    assert_ne!(state(pid, pid), Some('T'));
    unharmed(&stage.sidecar, pid);
}

#[test]
fn a_bad_plan_is_told_with_its_line_before_anything_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sleep");
    command.arg("120");
    let target = Process::start("target", command);
    let pid = target.pid();
    let good = format!("- fault: stop-process\n  for: 5m\n  target: {{pid: {pid}}}\n");
    for (bad, line, why) in [
        (
            format!("- fault: stop-the-world\n  target: {{pid: {pid}}}\n"),
            4,
            "there is no fault stop-the-world",
        ),
        ("- fault: plan\n".to_owned(), 4, "plan is no fault"),
        ("- fault: ../faults/undo\n".to_owned(), 4, "is no fault"),
        ("- for: 5s\n".to_owned(), 4, "this one has no fault"),
        (
            format!("- fault: stop-process\n  target: {{pid: {pid}}}\n  for: soon\n"),
            4,
            "--for soon is no duration",
        ),
        (
            format!("- fault: stop-process\n  target: {{pid: {pid}}}\n  after: soon\n"),
            4,
            "after: soon is no duration",
        ),
        (
            format!("- fault: stop-process\n  target: {{pid: {pid}}}\n  until: 5s\n"),
            6,
            "there is no key until",
        ),
        (format!("- fault: stop-process\n  target: {{name: {pid}}}\n"), 5, "target has no name"),
        (format!("- fault: stop-process\n  target: {pid}\n"), 5, "target: is a map"),
        ("- fault: stop-process\n  fault: starve\n".to_owned(), 5, "fault stands there twice"),
        ("- fault: stop-process\n  target: {pid: 1}\n".to_owned(), 4, "process 1 is everybody's"),
        ("- fault: stop-process\n  target: {pid: $(id)}\n".to_owned(), 5, "the value $(id) may hold"),
        ("- fault: stop-process\n   for: 5s\n".to_owned(), 5, "stands 3 blanks in"),
        ("- fault: stop-process\n\tfor: 5s\n".to_owned(), 5, "a tab"),
        ("- stop-process\n".to_owned(), 4, "is no key and value"),
    ] {
        let ended = run(folder.path(), &format!("{good}{bad}"), &[]);
        assert_eq!(ended.code, Some(2), "{bad}{}", ended.said);
        assert!(ended.said.contains(&format!("plan.yaml:{line}: ")), "{bad}{}", ended.said);
        assert!(ended.said.contains(why), "{bad}{}", ended.said);
        assert_ne!(state(pid, pid), Some('T'), "{bad}");
    }
    for (empty, why) in
        [("", "has no fault in it"), ("# none\n", "has no fault in it"), ("fault: x\n", "a plan is a list")]
    {
        let ended = run(folder.path(), empty, &[]);
        assert!(ended.code == Some(2) && ended.said.contains(why), "{ended:?}");
    }
}

#[test]
fn faults_by_lot_are_the_same_for_the_same_seed_and_leave_a_watched_process_healthy() {
    let test = "faults_by_lot_are_the_same_for_the_same_seed_and_leave_a_watched_process_healthy";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let draw = |seed: &str| {
        let words =
            ["--seed", seed, "--pid", &pid.to_string(), "--thread", THREAD, "--for", "1h", "--dry-run"];
        let ended = fault_kit::run("random", fault_kit::command("random", &words));
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        ended.said
    };
    let (first, again, other) = (draw("7"), draw("7"), draw("8"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    for name in ["stop-process", "exhaust-descriptors", "freeze-thread"] {
        assert!(first.contains(&format!("- fault: {name}\n")), "{name}: {first}");
    }
    // Its output is a plan, and the dry run of a plan runs each of its faults dry.
    let folder = tempfile::tempdir().unwrap();
    let few: String = first.lines().take(25).map(|line| format!("{line}\n")).collect();
    let ended = run(folder.path(), &few, &["--dry-run"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    // The shortest possible plan: one fault, of ten seconds at most.
    let words = ["--seed", "9", "--pid", &pid.to_string(), "--for", "12s"];
    let mut random = Process::start("random", fault_kit::command("random", &words));
    random.line("its first fault", 0, |line| line.contains(": broken: ").then_some(()));
    random.signal(Signal::TERM);
    random.wait("its end");
    wait::until("its last line", || random.all_lines());
    unharmed(&stage.sidecar, pid);
}
