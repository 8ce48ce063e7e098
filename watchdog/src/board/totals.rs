//! Totals of the target and of the sidecar itself, as of one moment.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::snapshot::TargetIdentity;

/// After three reads that did not come the reader hangs, and what it read is history.
pub const STALE: Duration = Duration::from_secs(15);

/// What was read at one moment.
#[derive(Debug)]
pub struct TargetStats {
    /// When.
    pub at: Monotonic,
    /// Of which target.
    pub identity: Option<TargetIdentity>,
    /// The target as a whole.
    pub process: Option<ProcessTotals>,
    /// Its watched threads.
    pub threads: Vec<ThreadCpu>,
    /// The sidecar itself.
    pub sidecar: Option<ProcessTotals>,
}

/// Totals of one process. What the kernel does not tell is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessTotals {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Mapped memory.
    pub virtual_bytes: u64,
    /// Descriptors held.
    pub open_fds: Option<u64>,
    /// Descriptors allowed.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Start, in seconds since 1970.
    pub start_unix_seconds: u64,
}

/// Time of one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadCpu {
    /// Its registered name.
    pub name: String,
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in the kernel.
    pub system: f64,
    /// Seconds on the run queue, if the kernel counts them.
    pub run_delay: Option<f64>,
}
