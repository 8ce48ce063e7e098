//! What a unified hierarchy of cgroups offers, and how a task appears when a cgroup acts on it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::counters::observe;
use super::waits::settled;
use super::{fact, task};
use crate::puppet::Wait;

/// A cgroup of this program's own.
const OWN: &str = "/sys/fs/cgroup/facts";
/// Lifetime of a child that nobody ends.
const LIVES: Duration = Duration::from_secs(120);

/// The endless work of a child.
pub(super) fn be(what: &str) {
    match what {
        "sleep" => std::thread::sleep(LIVES),
        "spin" => Wait::Spin.begin(Path::new("")),
        _ => loop {
            Wait::Memory.begin(Path::new(""));
        },
    }
}

/// A child in the cgroup. It ends when this is dropped.
struct InCgroup(Child);

impl InCgroup {
    fn start(what: &str) -> Self {
        let own = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(own);
        let child = command.args(["child", what]).stdin(Stdio::null()).spawn().expect("a child");
        write("cgroup.procs", &child.id().to_string());
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(0)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: two numbers; the child has not been waited for, so the pid is its own.
        unsafe { libc::kill(self.pid(), signal) };
    }

    fn told(&self, name: &str, wanted: impl Fn(char) -> bool) {
        fact(name, settled(self.pid(), self.pid(), wanted));
    }
}

impl Drop for InCgroup {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(file: &str, value: &str) {
    if let Err(error) = fs::write(Path::new(OWN).join(file), value) {
        fact("problem", format!("{OWN}/{file} = {value}: {error}"));
    }
}

/// How long the quota has held tasks up, in microseconds.
fn throttled() -> u64 {
    let text = fs::read_to_string(Path::new(OWN).join("cpu.stat")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("throttled_usec "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

pub(super) fn tell() {
    if let Err(error) = fs::create_dir_all(OWN) {
        return fact("problem", format!("{OWN}: {error}"));
    }
    files();
    frozen();
    memory();
    quota();
    let _ = fs::remove_dir(OWN);
}

fn files() {
    let names = [
        "cgroup.freeze",
        "cgroup.kill",
        "cgroup.pressure",
        "cpu.max",
        "cpu.max.burst",
        "cpu.pressure",
        "cpu.stat",
        "cpu.stat.local",
        "memory.high",
        "memory.events.local",
        "memory.reclaim",
    ];
    let absent: Vec<_> = names.into_iter().filter(|name| !Path::new(OWN).join(name).exists()).collect();
    fact("cgroup.absent", if absent.is_empty() { "none".to_owned() } else { absent.join(" ") });
    let stat = fs::read_to_string(Path::new(OWN).join("cpu.stat")).unwrap_or_default();
    let keys: Vec<_> = stat.lines().filter_map(|line| line.split(' ').next()).collect();
    fact("cpu.stat", keys.join(" "));
}

fn frozen() {
    let asleep = |state| matches!(state, 'S' | 'D');
    let sleeper = InCgroup::start("sleep");
    sleeper.told("state.asleep", asleep);
    write("cgroup.freeze", "1");
    sleeper.told("state.asleep-then-frozen", asleep);
    write("cgroup.freeze", "0");
    sleeper.signal(libc::SIGSTOP);
    sleeper.told("state.stopped", |state| state == 'T');
    write("cgroup.freeze", "1");
    // The state letter may stay as it is.
    std::thread::sleep(Duration::from_millis(500));
    sleeper.told("state.stopped-then-frozen", |_| true);
    write("cgroup.freeze", "0");
    drop(sleeper);
    let runner = InCgroup::start("spin");
    write("cgroup.freeze", "1");
    runner.told("state.running-then-frozen", asleep);
    write("cgroup.freeze", "0");
}

fn memory() {
    write("memory.high", "8M");
    let taker = InCgroup::start("memory");
    taker.told("state.over-memory-high", |state| state == 'D');
    write("memory.high", "max");
}

fn quota() {
    write("cpu.max", "1000 100000");
    let runner = InCgroup::start("spin");
    let folder = task(runner.pid(), runner.pid());
    // Its quota is spent within the first period.
    std::thread::sleep(Duration::from_millis(500));
    observe("throttled", &folder, Some(("cpu.stat-throttled", &throttled)));
    runner.told("state.throttled", |_| true);
    write("cpu.max", "max 100000");
}
