//! One watched thread and one channel that it should receive from, both well, with the thresholds
//! of a busy shard.

use core::time::Duration;

use alloc::vec;

use super::{Scene, THREADS, channel, limits, policy, rule, thread};
use crate::observation::{TaskObservation, TaskState, ThreadObservation};

/// Time between two observations.
pub const LOOK: Duration = Duration::from_millis(4);
/// The threshold of the thread's rule.
pub const STALL_AFTER: Duration = Duration::from_millis(200);
/// How long a message may wait.
pub const MAX_AGE: Duration = Duration::from_millis(100);

/// The kernel's view of a thread that sleeps.
pub const fn asleep() -> Option<TaskObservation> {
    Some(TaskObservation { state: TaskState::Sleeping, cpu_ns: Some(5), run_delay_ns: Some(5), wait: None })
}

/// The thread is idle, and no message waits.
pub fn begin() -> Scene {
    let mut policy = policy(vec![rule(THREADS, STALL_AFTER, STALL_AFTER / 2)]);
    policy.channels.push(limits("commands", MAX_AGE, Some(100)));
    let idle = ThreadObservation { task: asleep(), ..thread(0, "exec-s0") };
    Scene::begin(policy, LOOK, vec![idle], vec![channel(0, "commands")])
}
