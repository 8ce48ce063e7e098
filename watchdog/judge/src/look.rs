//! The circumstances of one look.

use core::time::Duration;

use crate::clock::Monotonic;
use crate::excuse::Kept;

/// A look that comes this much later than asked for is void: the watchdog cannot say what happened
/// meanwhile. Ten times the scheduling latency of a healthy, busy machine.
pub const OBSERVER_LATE: Duration = Duration::from_millis(100);

/// The time of one look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When.
    pub at: Monotonic,
    /// Since the last one.
    pub elapsed: Duration,
    /// Whether it is void: it came too late, or the machine was suspended since the last one.
    pub late: bool,
    /// For how long the machine was suspended since the last one, in time that the clock of the
    /// looks does not count.
    pub suspended: Duration,
    /// How many threads of the process were kept from running, as of the last look.
    pub kept: Kept,
    /// Whether the cgroups of the process say that they hold it back now, or did a moment ago.
    pub throttled: bool,
    /// Whether the kernel writes the core of the process.
    pub core_dumping: bool,
    /// Whether nobody asks the kernel about threads, or its answers mean nothing: the segment
    /// cannot be read, or the process is ending.
    pub untold: bool,
}
