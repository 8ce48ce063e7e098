//! The circumstances of one observation.

use core::time::Duration;

use crate::clock::Monotonic;
use crate::excuse::Kept;
use crate::steal::Steal;

/// An observation that comes this much later than asked for is void: the watchdog cannot know what
/// happened meanwhile. Ten times the scheduling latency of a healthy, busy machine.
pub const OBSERVER_LATE: Duration = Duration::from_millis(100);

/// When and under what conditions one observation was made.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it was made.
    pub at: Monotonic,
    /// Time since the last one.
    pub elapsed: Duration,
    /// Whether it is void: it came too late, or the machine was suspended since the last one.
    pub late: bool,
    /// How long the machine was suspended since the last one; `elapsed` does not include that time.
    pub suspended: Duration,
    /// How many threads of the process were kept from running at the last observation.
    pub kept: Kept,
    /// Whether the cgroups of the process throttle it now, or did a moment ago.
    pub throttled: bool,
    /// What the hypervisor has taken of the CPUs.
    pub steal: Steal,
    /// Whether the kernel is writing the core of the process.
    pub core_dumping: bool,
    /// Whether the kernel is not asked about threads, or its answers mean nothing: the segment
    /// cannot be read, the core is being written, or the process is ending.
    pub untold: bool,
}
