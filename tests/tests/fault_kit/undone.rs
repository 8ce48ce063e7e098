//! Every fault, ended in every way: afterwards the target is what it was before.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use shard_tests::fault_kit::{self, Fault};
use shard_tests::process::Process;
use shard_tests::{api, wait};

use super::{kill, version_1};

/// Where the target sees a disk of its own.
const DISK: &str = "/mnt";

/// A process with a network and a small disk of its own, a segment-like file on that, and nothing
/// to do.
fn target() -> Process {
    let script = "mount --make-rprivate / && mount -t tmpfs -o size=1m tmpfs /mnt && \
                  echo SHRDBEAT >/mnt/0.heartbeat && ip link set lo up && exec sleep 300";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", script]);
    let target = Process::start("target", command);
    let comm = format!("/proc/{}/comm", target.pid());
    wait::until("the target", || fs::read_to_string(&comm).ok().filter(|comm| comm.trim() == "sleep"));
    target
}

/// Everything about the target that the fault `name` may change.
fn all_of(pid: i32, name: &str) -> String {
    let mut all = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok) {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let held = ["T", "t"].contains(&fields[0]);
        writeln!(all, "held {held}, policy {}", fields[38]).unwrap();
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    all.extend(limits.lines().filter(|line| line.starts_with("Max open files")));
    let disk = fs::read_dir(format!("/proc/{pid}/root{DISK}")).unwrap().filter_map(Result::ok);
    let mut files: Vec<_> =
        disk.map(|file| format!("{:?} {}", file.file_name(), file.metadata().unwrap().ino())).collect();
    files.sort();
    write!(all, "\n{}\n", files.join("\n")).unwrap();
    let network: &[&str] = match name {
        "drop-packets" => &["nft list ruleset"],
        "delay-packets" => &["tc qdisc show dev lo"],
        // It takes a process to ask.
        _ => &[],
    };
    for words in network {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net", "--"]).args(words.split(' '));
        all += &fault_kit::run("nsenter", command).said;
    }
    all
}

#[test]
fn every_fault_is_undone_by_sigterm_and_whoever_of_the_two_is_killed() {
    let test = "every_fault_is_undone_by_sigterm_and_whoever_of_the_two_is_killed";
    let programs = [("nft", "nftables"), ("tc", "iproute2"), ("perl", "perl-base"), ("chrt", "util-linux")];
    if !version_1(test, "cpu") || !fault_kit::has(test, &programs) {
        return;
    }
    let target = target();
    let (pid, number) = (target.pid(), target.pid().to_string());
    let segment = format!("{DISK}/0.heartbeat");
    let faults: [(&str, &[&str]); 12] = [
        ("stop-process", &[]),
        ("freeze-thread", &["--thread", &number]),
        ("starve", &["--hogs", "1"]),
        ("throttle", &[]),
        ("freeze-cgroup", &["--version", "1"]),
        ("freeze-cgroup", &["--version", "2"]),
        ("slow-disk", &["--folder", "/var/tmp"]),
        ("fill-disk", &["--folder", DISK]),
        ("tear-segment", &["--segment", &segment]),
        ("exhaust-descriptors", &[]),
        ("drop-packets", &[]),
        ("delay-packets", &["--rate", "1Mbit"]),
    ];
    for (name, more) in faults {
        let before = all_of(pid, name);
        for end in ["SIGTERM", "the script killed", "the guard killed"] {
            let fault = Fault::begin(name, &[&["--pid", number.as_str(), "--for", "5m"], more].concat());
            assert_ne!(all_of(pid, name), before, "{name} {more:?} changes nothing");
            match end {
                "SIGTERM" => fault.undo(),
                "the script killed" => fault.process.signal(Signal::KILL),
                _ => {
                    let mut fault = fault;
                    kill(fault.guard());
                    assert_eq!(fault.process.wait("the script to undo").code(), Some(0), "{name}");
                }
            }
            wait::until(&format!("{name} to be undone: {end}"), || {
                (all_of(pid, name) == before).then_some(())
            });
            let state = Path::new("/run/shard-faults");
            wait::until("nothing to be written down any more", || {
                let mut left = fs::read_dir(state).ok()?.filter_map(Result::ok).map(|one| one.file_name());
                (!left.any(|name| name.to_string_lossy().starts_with(&format!("{number}-")))).then_some(())
            });
        }
    }
}

/// What a fault has running ends with it, whichever of the two is killed.
#[test]
fn what_a_fault_has_running_ends_with_it() {
    let test = "what_a_fault_has_running_ends_with_it";
    if !fault_kit::has(test, &[("perl", "perl-base")]) {
        return;
    }
    for end in ["the script killed", "the guard killed"] {
        let address = api::free_address();
        let is_free = || TcpListener::bind(address).is_ok();
        let fault = Fault::begin("hang-collector", &["--listen", &address.to_string(), "--for", "5m"]);
        assert!(!is_free());
        if end == "the guard killed" {
            kill(fault.guard());
        } else {
            fault.process.signal(Signal::KILL);
        }
        wait::until(&format!("its listener to be gone: {end}"), || is_free().then_some(()));
    }
}
