//! One fault: drawn, caused, and undone where it does not end by itself.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::random::Random;
use crate::cluster::{Cluster, Shard};
use crate::faults;
use crate::proxy::{Mode, Towards};

/// The fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// An order to the fault port of a shard.
    Shard(usize, String),
    /// An order to the fault port of the coordinator.
    Coordinator(String),
    /// SIGKILL to a shard.
    Kill(usize),
    /// SIGKILL to a shard's sidecar.
    KillSidecar(usize),
    /// SIGSTOP to a shard, and SIGCONT after that time.
    Stop(usize, Duration),
    /// A network disturbance of a shard's connection for that time.
    Network(usize, Mode, Duration),
    /// SIGKILL to the coordinator; another takes its place.
    KillCoordinator,
}

/// Orders to a shard that end by themselves, or by the end of the shard. A shard that becomes
/// useless without ending is ended by its watchdog, or at last by the harness.
const SHARD: [&str; 21] = [
    "panic",
    "exit",
    "spin",
    "deadlock",
    "deaf",
    "send-panic",
    "send-exit",
    "drop-result",
    "drop-result",
    "part-error",
    "part-error",
    "ghost",
    "ghost",
    "ghost",
    "net-block",
    "leader-exit",
    "helper-panic",
    "helper-spin",
    "slow 2ms",
    "slow 10ms",
    "part-error",
];

const COORDINATOR: [&str; 4] = ["drop-part", "mute-state 1", "mute-state 3", "flood 20"];

impl Fault {
    /// Draws a fault. Shard 0 is never ended on purpose, so that one shard can always work, and one
    /// has memory that can be sampled for long.
    pub fn draw(random: &mut Random, shards: usize) -> Self {
        let any = random.within(0..shards as u64) as usize;
        let other = random.within(1..shards as u64) as usize;
        let moment = Duration::from_millis(random.within(100..3_000));
        match random.within(0..100) {
            0..40 => {
                let order = *random.one(&SHARD);
                let shard = if spares(order) { any } else { other };
                let after = random.within(0..8);
                let order = if takes_after(order) {
                    format!("arm {order} after {after}")
                } else {
                    format!("arm {order}")
                };
                Self::Shard(shard, order)
            }
            40..52 => Self::Coordinator(format!("arm {}", random.one(&COORDINATOR))),
            52..64 => Self::Kill(other),
            64..70 => Self::KillSidecar(any),
            70..80 => Self::Stop(any, moment),
            80..98 => {
                let modes = [
                    Mode::Cut,
                    Mode::Swallow,
                    Mode::Delay { to_shard: moment / 8, to_coordinator: moment / 4 },
                    Mode::Corrupt(Towards::Shard),
                    Mode::Corrupt(Towards::Coordinator),
                ];
                Self::Network(any, *random.one(&modes), moment)
            }
            _ => Self::KillCoordinator,
        }
    }

    /// The kind in one word, for counting.
    pub fn kind(&self) -> String {
        match self {
            Self::Shard(_, order) | Self::Coordinator(order) => {
                order.split(' ').nth(1).unwrap_or_default().replace('-', "_")
            }
            Self::Kill(_) => "kill".to_owned(),
            Self::KillSidecar(_) => "kill_sidecar".to_owned(),
            Self::Stop(..) => "stop".to_owned(),
            Self::Network(_, mode, _) => match mode {
                Mode::Forward => "network_well",
                Mode::Swallow => "network_half_open",
                Mode::Delay { .. } => "network_late",
                Mode::Corrupt(_) => "network_corrupt",
                Mode::Cut => "network_cut",
            }
            .to_owned(),
            Self::KillCoordinator => "kill_coordinator".to_owned(),
        }
    }

    /// Causes the fault. Returns false if the target is dead already or does not listen. Killing
    /// the coordinator is left to the caller, who must know of it.
    pub fn strike(&self, cluster: &Cluster) -> bool {
        match self {
            Self::Shard(number, order) => ordered(&cluster.shards[*number].faults, order),
            Self::Coordinator(order) => ordered(&cluster.coordinator().faults, order),
            Self::Kill(number) => signal(&cluster.shards[*number], "CMD", Signal::KILL),
            Self::KillSidecar(number) => signal(&cluster.shards[*number], "sidecar", Signal::KILL),
            Self::Stop(number, _) => signal(&cluster.shards[*number], "CMD", Signal::STOP),
            Self::Network(number, mode, _) => {
                cluster.proxy(*number).set(*mode);
                true
            }
            Self::KillCoordinator => {
                cluster.coordinator().process.signal(Signal::KILL);
                true
            }
        }
    }

    /// How long the fault lasts, if it must be undone.
    pub const fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Stop(_, time) | Self::Network(_, _, time) => Some(*time),
            // Until it is disarmed.
            Self::Shard(..) => Some(Duration::from_secs(2)),
            _ => None,
        }
    }

    /// Whether undoing one would undo the other.
    pub fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shard(a, _) | Self::Stop(a, _), Self::Shard(b, _) | Self::Stop(b, _))
            | (Self::Network(a, ..), Self::Network(b, ..)) => a == b,
            _ => false,
        }
    }

    /// Undoes the fault.
    pub fn end(&self, cluster: &Cluster) {
        match self {
            Self::Shard(number, order) if order.contains("slow") => {
                ordered(&cluster.shards[*number].faults, "disarm");
            }
            Self::Stop(number, _) => {
                signal(&cluster.shards[*number], "CMD", Signal::CONT);
            }
            Self::Network(number, ..) => cluster.proxy(*number).set(Mode::Forward),
            _ => {}
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(number, order) => write!(f, "shard {number}: {order}"),
            Self::Coordinator(order) => write!(f, "coordinator: {order}"),
            Self::Kill(number) => write!(f, "shard {number}: SIGKILL"),
            Self::KillSidecar(number) => write!(f, "sidecar of shard {number}: SIGKILL"),
            Self::Stop(number, time) => write!(f, "shard {number}: SIGSTOP for {time:?}"),
            Self::Network(number, mode, time) => {
                write!(f, "network of shard {number}: {mode:?} for {time:?}")
            }
            Self::KillCoordinator => write!(f, "coordinator: SIGKILL"),
        }
    }
}

/// Whether the shard survives this order.
fn spares(order: &str) -> bool {
    ["drop-result", "part-error", "ghost", "slow"].iter().any(|spares| order.starts_with(spares))
}

/// Whether the fault port accepts a count with this order, to wait for.
fn takes_after(order: &str) -> bool {
    ["panic", "exit", "spin", "deadlock", "drop-result", "part-error", "ghost"].contains(&order)
}

/// Sends an order. Returns false if it was not accepted: a process that is about to end, or
/// blocked, accepts none.
fn ordered(port: &Path, order: &str) -> bool {
    let Ok(answer) = answer(port, order) else { return false };
    assert!(answer.is_empty() || answer.starts_with("ok"), "'{order}' is no order: {answer}");
    !answer.is_empty()
}

/// Sends a line and reads one, with a short timeout.
fn answer(port: &Path, order: &str) -> std::io::Result<String> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut stream = faults::connect(port)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{order}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

/// The counter of this name in the process behind the port; `None` if it does not answer.
pub fn counted(port: &Path, name: &str) -> Option<u64> {
    let line = answer(port, "counters").ok()?;
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(of, _)| *of == name)?
        .1
        .parse()
        .ok()
}

/// Pid of the last process that the supervisor of `shard` started as `what`: `CMD` or `sidecar`.
pub fn pid_of(shard: &Shard, what: &str) -> Option<i32> {
    let begins = format!("supervise: {what} pid ");
    shard.supervisor.lines().iter().rev().find_map(|line| {
        let rest = line.strip_prefix(&begins)?;
        rest.contains(" started ").then(|| rest.split(' ').next()?.parse().ok())?
    })
}

/// Signals it, if it is still the child of its supervisor, a child of ours. Returns whether it did.
pub fn signal(shard: &Shard, what: &str, signal: Signal) -> bool {
    let Some(number) = pid_of(shard, what) else { return false };
    let Some(pid) = Pid::from_raw(number) else { return false };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let parent = std::fs::read(format!("/proc/{number}/status")).ok().and_then(|status| {
        // A process name may be any bytes.
        let status = String::from_utf8_lossy(&status);
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok())
    });
    // Read after the pidfd was opened, so it belongs to the pidfd's process, or to none.
    parent == Some(shard.supervisor.pid()) && pidfd_send_signal(&pidfd, signal).is_ok()
}
