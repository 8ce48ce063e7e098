//! What must not be killed, each produced by its real mechanism: rows 40 to 49 and 52.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::cgroup::Cgroup;
use crate::cluster::{Cluster, Shard};
use crate::hogs::Hogs;
use crate::process::Process;
use crate::soak::fault::{pid_of, signal};
use crate::{faults, wait};

/// A harmless event that lasts some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Healthy {
    /// Row 40: nothing to do, for many times the threshold.
    Idle,
    /// Row 41: each transaction takes a third of the threshold.
    Slow,
    /// Row 42: 64 CPU hogs.
    Starved,
    /// Row 42: a CPU quota of five percent. Needs root.
    Throttled,
    /// Row 43: a stop within its excuse.
    Stopped,
    /// Row 44: traced by a debugger for longer than the cap. Needs gdb.
    Traced,
    /// Row 46: frozen, then thawed. Needs root.
    Frozen,
    /// Row 47: the watchdog itself is stopped.
    WatchdogStopped,
    /// The watchdog is killed, and its successor adopts the running shard.
    SidecarKilled,
    /// Row 49: a rolling restart.
    Restart,
    /// Row 49: the config is reloaded.
    Reload,
    /// Row 52: messages that nobody is waiting for.
    Flood,
    /// Nothing at all, under load.
    Nothing,
}

pub(super) const ALL: [Healthy; 13] = [
    Healthy::Idle,
    Healthy::Slow,
    Healthy::Starved,
    Healthy::Throttled,
    Healthy::Stopped,
    Healthy::Traced,
    Healthy::Frozen,
    Healthy::WatchdogStopped,
    Healthy::SidecarKilled,
    Healthy::Restart,
    Healthy::Reload,
    Healthy::Flood,
    Healthy::Nothing,
];

/// Those whose tools and permissions are available here.
pub(super) fn possible_here() -> Vec<Healthy> {
    let possible = |one: &Healthy| match one {
        Healthy::Throttled => Cgroup::make("cpu").is_ok(),
        Healthy::Frozen => Cgroup::make("freezer").is_ok(),
        Healthy::Traced => Path::new(GDB).is_file(),
        _ => true,
    };
    ALL.into_iter().filter(possible).collect()
}

const GDB: &str = "/usr/bin/gdb";

impl Healthy {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Starved => "starved",
            Self::Throttled => "throttled",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Frozen => "frozen",
            Self::WatchdogStopped => "watchdog_stopped",
            Self::SidecarKilled => "sidecar_killed",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Flood => "flood",
            Self::Nothing => "nothing",
        }
    }

    /// Exposes shard number `at` to it for about `time`, and undoes it.
    pub(super) fn meet(self, cluster: &Cluster, at: usize, time: Duration) {
        let shard = &cluster.shards[at];
        let for_a_while = || std::thread::sleep(time);
        let between = |what, first, last| {
            if signal(shard, what, first) {
                for_a_while();
                signal(shard, what, last);
            }
        };
        match self {
            Self::Idle => {
                let coordinator = &cluster.coordinator().process;
                coordinator.signal(Signal::STOP);
                for_a_while();
                coordinator.signal(Signal::CONT);
            }
            Self::Slow => {
                faults::order(&shard.faults, &["arm slow 300ms"]);
                for_a_while();
                faults::order(&shard.faults, &["disarm"]);
            }
            Self::Starved => {
                let _hogs = Hogs::start(64);
                for_a_while();
            }
            Self::Throttled => within_cgroup(cluster, at, "cpu", |cgroup| {
                cgroup.set("cpu.cfs_period_us", "1000000");
                cgroup.set("cpu.cfs_quota_us", "50000");
                for_a_while();
                cgroup.set("cpu.cfs_quota_us", "-1");
            }),
            Self::Stopped => between("CMD", Signal::STOP, Signal::CONT),
            Self::Frozen => within_cgroup(cluster, at, "freezer", |cgroup| {
                cgroup.set("freezer.state", "FROZEN");
                for_a_while();
                cgroup.set("freezer.state", "THAWED");
            }),
            Self::Traced => trace(shard, time),
            Self::WatchdogStopped => between("sidecar", Signal::STOP, Signal::CONT),
            Self::SidecarKilled => {
                replace(shard, ("sidecar", Signal::KILL), "another sidecar");
                wait_until_well(shard, "the sidecar to have adopted its target");
                for_a_while();
            }
            Self::Restart => {
                replace(shard, ("CMD", Signal::TERM), "the next incarnation");
                wait_until_well(shard, "the next incarnation to be healthy");
            }
            Self::Reload => {
                signal(shard, "sidecar", Signal::HUP);
                for_a_while();
            }
            Self::Flood => {
                faults::order(&cluster.coordinator().faults, &["arm flood 500"]);
                for_a_while();
            }
            Self::Nothing => for_a_while(),
        }
    }
}

/// Holds the shard under a debugger for that time, and waits for the debugger's end.
fn trace(shard: &Shard, time: Duration) {
    let Some(pid) = pid_of(shard, "CMD") else { return };
    let sit = format!("shell sleep {:.3}", time.as_secs_f64());
    let mut command = Command::new(GDB);
    command.args(["--batch", "-nx", "--readnever", "-iex", "set auto-solib-add off"]);
    command.args(["-p", &pid.to_string(), "-ex", &sit]);
    let mut gdb = Process::start("gdb", command);
    wait::within(super::SEEN_WITHIN, "the debugger's end", || gdb.ended());
}

/// Ends one process of the shard by a signal, and waits until its supervisor has started the next,
/// which the message of a failure calls `next`.
fn replace(shard: &Shard, (process, by): (&str, Signal), next: &str) {
    let before = pid_of(shard, process);
    signal(shard, process, by);
    wait::within(super::SEEN_WITHIN, next, || (pid_of(shard, process) != before).then_some(()));
}

/// Waits until the sidecar finds nothing wrong with its shard. An excuse will do: the machine is
/// busy.
fn wait_until_well(shard: &Shard, what: &str) {
    wait::within(super::SEEN_WITHIN, what, || {
        let status = shard.sidecar.status()?;
        ["healthy", "excused"].iter().any(|good| status["verdict"] == *good).then_some(())
    });
}

/// Runs `meet` with the shard in a cgroup of its own, which it leaves afterwards.
fn within_cgroup(cluster: &Cluster, at: usize, controller: &str, meet: impl FnOnce(&Cgroup)) {
    let Some(pid) = pid_of(&cluster.shards[at], "CMD") else { return };
    if let Ok(cgroup) = Cgroup::make(controller) {
        cgroup.take(pid);
        meet(&cgroup);
    }
}
