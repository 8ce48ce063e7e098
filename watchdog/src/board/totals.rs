//! Totals of the target and of the sidecar itself at one moment.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::snapshot::TargetIdentity;

/// The age at which totals are stale. After three missed reads the reader must be hanging.
pub const STALE: Duration = Duration::from_secs(15);

/// What was read at one moment.
#[derive(Debug)]
pub struct TargetStats {
    /// When it was read.
    pub at: Monotonic,
    /// The target that it was read of; `None` if there was none.
    pub identity: Option<TargetIdentity>,
    /// The target as a whole.
    pub process: Option<ProcessTotals>,
    /// Its watched threads.
    pub threads: Vec<ThreadCpu>,
    /// Totals of the sidecar itself.
    pub sidecar: Option<ProcessTotals>,
}

/// Totals of one process. Values that the kernel does not report are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessTotals {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Mapped memory.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Limit of open descriptors.
    pub max_fds: Option<u64>,
    /// Number of threads.
    pub threads: Option<u64>,
    /// Start time, in seconds since 1970.
    pub start_unix_seconds: u64,
}

/// CPU time of one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadCpu {
    /// The registered name of the thread.
    pub name: String,
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in the kernel.
    pub system: f64,
    /// Seconds on the run queue, if the kernel counts them.
    pub run_delay: Option<f64>,
}
