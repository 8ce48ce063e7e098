//! Faults that hold a thread or a process: it is killed, or excused by name and healthy afterwards.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use shard_tests::fault_kit::{self, Fault};
use shard_tests::puppet::{Stage, THREAD};
use shard_tests::sidecar::Settings;
use shard_tests::wait;

use super::{
    excused_as, kill, loses_its_thread, made, pause, state, stays_excused_as, unharmed, version_1,
    was_excused_as,
};

#[test]
fn kill_thread_loses_one_thread_and_the_sidecar_condemns_kills_and_sees_it_recover() {
    let test = "kill_thread_loses_one_thread_and_the_sidecar_condemns_kills_and_sees_it_recover";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    loses_its_thread(&stage.sidecar);
    // Also the first thread of a process, which leaves a zombie beside threads that live.
    let pid = stage.sidecar.pid().to_string();
    let command = fault_kit::command("kill-thread", &["--pid", &pid, "--thread", &pid]);
    assert_eq!(fault_kit::run("kill-thread", command).code, Some(0));
    wait::until("the second incident", || {
        stage.sidecar.told_incidents().into_iter().find(|one| one["reason"] == "leader_gone")
    });
}

#[test]
fn freeze_thread_holds_one_thread_is_excused_as_traced_and_let_go_when_the_script_is_killed() {
    let test = "freeze_thread_holds_one_thread_is_excused_as_traced_and_let_go_when_the_script_is_killed";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let status = stage.sidecar.status().unwrap();
    let tid = status["threads"][0]["tid"].as_i64().and_then(|tid| i32::try_from(tid).ok()).unwrap();
    let pid = stage.sidecar.pid();
    let fault =
        Fault::begin("freeze-thread", &["--pid", &pid.to_string(), "--thread", THREAD, "--for", "5m"]);
    stays_excused_as(&stage.sidecar, "traced");
    assert_eq!(
        (state(pid, tid), state(pid, pid).filter(|state| *state != 't')),
        (Some('t'), state(pid, pid))
    );
    fault.process.signal(Signal::KILL);
    unharmed(&stage.sidecar, pid);
    assert_ne!(state(pid, tid), Some('t'));
}

/// The whole life of a fault, shown with the simplest one.
#[test]
fn stop_process_is_excused_and_undone_by_time_by_sigterm_and_whoever_of_the_two_is_killed() {
    let test = "stop_process_is_excused_and_undone_by_time_by_sigterm_and_whoever_of_the_two_is_killed";
    if !fault_kit::has(test, &[]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let target = ["--pid", &pid.to_string(), "--for"];
    let arguments = |time: &'static str| [target[0], target[1], target[2], time];
    let runs_again = || {
        wait::until("the target to go on", || state(pid, pid).filter(|state| *state != 'T'));
    };

    let fault = Fault::begin("stop-process", &arguments("5m"));
    stays_excused_as(&stage.sidecar, "stopped");
    let second = fault_kit::refused("throttle", &["--pid", &pid.to_string()]);
    assert!(second.contains(&format!("stop-process (pid {}) is at work", fault.process.pid())), "{second}");
    fault.undo();
    runs_again();
    unharmed(&stage.sidecar, pid);

    let mut fault = Fault::begin("stop-process", &arguments("200ms"));
    assert_eq!(fault.process.wait("its time to be up").code(), Some(0));
    runs_again();

    let fault = Fault::begin("stop-process", &arguments("5m"));
    fault.process.signal(Signal::KILL);
    runs_again();

    let mut fault = Fault::begin("stop-process", &arguments("5m"));
    kill(fault.guard());
    assert_eq!(fault.process.wait("the script to undo").code(), Some(0));
    runs_again();

    // Both at once: nothing is left to undo the fault until the next run on this target.
    let fault = Fault::begin("stop-process", &arguments("5m"));
    let guard = fault.guard();
    pause(fault.process.pid());
    kill(guard);
    fault.process.signal(Signal::KILL);
    drop(fault);
    assert_eq!(state(pid, pid), Some('T'));
    let mut fault = Fault::begin("stop-process", &arguments("200ms"));
    fault.process.wait("its time to be up");
    let lines = fault.process.lines();
    assert!(lines[0].contains("what it left is undone"), "{lines:?}");
    runs_again();
    unharmed(&stage.sidecar, pid);
}

#[test]
fn starve_is_excused_as_starved_and_its_priority_is_given_back() {
    let test = "starve_is_excused_as_starved_and_its_priority_is_given_back";
    if !fault_kit::has(test, &[("chrt", "util-linux"), ("taskset", "util-linux")]) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let fault = Fault::begin("starve", &["--pid", &pid.to_string(), "--for", "5m"]);
    // A step of 50 ms of CPU, which takes half a minute that way.
    stage.order_unanswered("wait calls");
    was_excused_as(&stage.sidecar, "starved");
    fault.undo();
    let policies = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats
            .filter_map(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(38)?.parse().ok())
            .collect::<Vec<i32>>()
    };
    assert!(policies().iter().all(|policy| *policy == 0), "{:?}", policies());
    unharmed(&stage.sidecar, pid);
}

#[test]
fn throttle_is_excused_and_its_cgroup_is_gone_afterwards() {
    let test = "throttle_is_excused_and_its_cgroup_is_gone_afterwards";
    if !version_1(test, "cpu") {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    let fault = Fault::begin("throttle", &["--pid", &pid.to_string(), "--cpu", "1%", "--for", "5m"]);
    assert!(made("cpu", pid).is_dir());
    // The sidecar looks up the cgroup of its target every two seconds, and uses it to distinguish a
    // quota from neighbours.
    stage.order("wait calls");
    was_excused_as(&stage.sidecar, "throttled");
    fault.undo();
    assert!(!made("cpu", pid).exists());
    unharmed(&stage.sidecar, pid);
}

#[test]
fn freeze_cgroup_is_excused_as_frozen_by_either_version_and_thawed() {
    let test = "freeze_cgroup_is_excused_as_frozen_by_either_version_and_thawed";
    if !version_1(test, "freezer") {
        return;
    }
    // Longer than the sidecar takes to notice that its target was moved to another cgroup.
    let stage = Stage::start(&Settings { stall_after: "3s".to_owned(), ..Settings::default() });
    let pid = stage.sidecar.pid();
    for (version, hierarchy) in [("1", "freezer"), ("2", "unified")] {
        let fault =
            Fault::begin("freeze-cgroup", &["--pid", &pid.to_string(), "--version", version, "--for", "5m"]);
        excused_as(&stage.sidecar, &["frozen"]);
        assert!(made(hierarchy, pid).is_dir());
        if version == "1" {
            fault.undo();
        } else {
            // The one that is harder to see, for longer than the threshold.
            wait::holds_for(Duration::from_millis(3_500), "excused, and alive", || {
                stage
                    .sidecar
                    .status()
                    .is_none_or(|status| status["verdict"] == "excused" && status["pid"] == pid)
            });
            fault.process.signal(Signal::KILL);
        }
        unharmed(&stage.sidecar, pid);
        wait::until("its cgroup to be gone", || (!made(hierarchy, pid).exists()).then_some(()));
    }
}
