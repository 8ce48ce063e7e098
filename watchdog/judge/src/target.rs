//! Who is meant: one process, one thread of it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::verdict::StallKind;

/// Which process is meant, beyond doubt: a pid alone may be somebody else tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetIdentity {
    /// Its pid as this sidecar sees it.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// The incarnation that its segment states; zero for a target without a segment.
    pub incarnation: u64,
}

/// The thread at fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultyThread {
    /// Registered name.
    pub name: String,
    /// Thread id as this sidecar sees it.
    pub tid: i32,
    /// How it stands still, for a stall.
    pub kind: Option<StallKind>,
    /// What it worked on, if it was at work.
    pub work_key: Option<u64>,
    /// Which attempt.
    pub attempt: Option<u64>,
    /// Trace id of that work, if it stated one, as 32 hex digits.
    pub trace_id: Option<String>,
    /// Span id of that work, as 16 hex digits.
    pub span_id: Option<String>,
}
