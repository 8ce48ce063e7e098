//! A process with one thread that is at work and stands still from the first observation on: the
//! beginning for tests of thresholds and excuses.

use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use super::{Scene, THREADS, policy, rule, thread};
use crate::observation::{TaskState, ThreadObservation, WaitChannel};

/// Time between two observations.
pub const LOOK: Duration = Duration::from_millis(10);
/// The threshold of the thread's rule.
pub const STALL_AFTER: Duration = Duration::from_secs(5);
/// The warning before it.
pub const WARN_AFTER: Duration = Duration::from_secs(2);
/// The time for an exit.
pub const EXIT_WITHIN: Duration = Duration::from_secs(30);
/// The time that a stop excuses.
pub const STOPPED_AT_MOST: Duration = Duration::from_secs(60);
/// The grace of a start.
pub const GRACE: Duration = Duration::from_secs(30);

/// A thread asleep on a lock, at work on 7, with this deadline for it; zero means none.
pub fn begin(deadline_ns: u64) -> Scene {
    let mut policy = policy(vec![rule(THREADS, STALL_AFTER, WARN_AFTER)]);
    (policy.exit_within, policy.stopped_at_most) = (EXIT_WITHIN, STOPPED_AT_MOST);
    policy.startup_grace = GRACE;
    let working =
        ThreadObservation { activity: 1, work_key: 7, attempt: 1, deadline_ns, ..thread(0, "exec-s0") };
    let mut scene = Scene::empty(policy, LOOK);
    scene.now.suspended_ns = 77;
    scene.now.process = Some(super::process(super::identity(1)));
    scene.now.threads = Vec::from([working]);
    scene.look();
    scene.shows(TaskState::Sleeping, Some(WaitChannel::Futex), 0);
    scene
}
