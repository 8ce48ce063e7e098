//! How a fault is caused: orders to the executor's fault port, scripts of the fault kit, signals.

use rustix::process::Signal;

use crate::clock::monotonic_ns;
use crate::cluster::Cluster;
use crate::fault_kit::{self, Fault};
use crate::faults;
use crate::soak::fault::{pid_of, signal};
use crate::wait;

/// The target of a script.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Shard 0.
    Shard,
    /// The thread of this name in shard 0.
    Thread(&'static str),
    /// The first thread of shard 0.
    Leader,
    /// The sidecar of shard 0.
    Sidecar,
}

/// One step on the way to a fault. The last one is the fault.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Orders to the fault port of shard 0, one of which fires.
    Orders(&'static [&'static str]),
    /// Orders to the same port that only set something.
    Set(&'static [&'static str]),
    /// A script whose fault takes effect once and at once.
    Script(&'static str, Who),
    /// A script that holds its fault until the row is over, with its further arguments.
    Held(&'static str, Who, &'static [&'static str]),
    /// SIGKILL to shard 0.
    Kill,
}

/// A fault that was caused.
#[derive(Debug)]
pub struct Struck {
    /// When it fired, `CLOCK_MONOTONIC` nanoseconds. For a script: when it was started.
    pub at: u64,
    /// Faults that last; undone when this is dropped.
    pub held: Vec<Fault>,
}

/// Causes the fault.
#[track_caller]
pub(super) fn strike(steps: &[Step], cluster: &Cluster) -> Struck {
    let mut struck = Struck { at: monotonic_ns(), held: Vec::new() };
    for step in steps {
        struck.at = monotonic_ns();
        match step {
            Step::Orders(orders) => struck.at = cluster.inject(0, orders),
            Step::Set(orders) => drop(faults::order(&cluster.shards[0].faults, orders)),
            Step::Script(script, who) => {
                let arguments = arguments(cluster, *who);
                let words: Vec<_> = arguments.iter().map(String::as_str).collect();
                let ended = fault_kit::run(script, fault_kit::command(script, &words));
                assert_eq!(ended.code, Some(0), "{script}: {}", ended.said);
            }
            Step::Held(script, who, more) => struck.held.push(hold(cluster, script, *who, more)),
            Step::Kill => assert!(signal(&cluster.shards[0], "CMD", Signal::KILL), "it runs"),
        }
    }
    struck
}

/// Begins a fault that holds until it is undone or dropped.
#[track_caller]
pub(super) fn hold(cluster: &Cluster, script: &str, who: Who, more: &[&str]) -> Fault {
    let arguments = arguments(cluster, who);
    let words = arguments.iter().map(String::as_str).chain(more.iter().copied()).chain(HOLD);
    Fault::begin(script, &words.collect::<Vec<_>>())
}

/// Longer than any row; the fault is undone when the row is over.
const HOLD: [&str; 2] = ["--for", "5m"];

#[track_caller]
fn arguments(cluster: &Cluster, who: Who) -> Vec<String> {
    let shard = &cluster.shards[0];
    let pid = match who {
        Who::Sidecar => wait::until("the pid of a sidecar", || pid_of(shard, "sidecar")),
        _ => shard.sidecar.pid(),
    };
    let thread = match who {
        Who::Thread(name) => Some(name.to_owned()),
        Who::Leader => Some(pid.to_string()),
        Who::Shard | Who::Sidecar => None,
    };
    let thread = thread.into_iter().flat_map(|thread| ["--thread".to_owned(), thread]);
    ["--pid".to_owned(), pid.to_string()].into_iter().chain(thread).collect()
}
