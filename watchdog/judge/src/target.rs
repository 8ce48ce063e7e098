//! Identifies the target: one process, and one thread of it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::verdict::StallKind;

/// Identifies one process for good: a pid alone may belong to another process later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetIdentity {
    /// Its pid as this sidecar sees it.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// The incarnation stated in its segment; zero for a target without one.
    pub incarnation: u64,
}

/// The thread at fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FaultyThread {
    /// Registered name.
    pub name: String,
    /// Thread id as this sidecar sees it.
    pub tid: i32,
    /// How it stands still, for a stall.
    pub kind: Option<StallKind>,
    /// Key of its work, if it was at work.
    pub work_key: Option<u64>,
    /// Attempt number of that work.
    pub attempt: Option<u64>,
    /// The section of that work that it is in, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Trace id of that work, if published, as 32 hex digits.
    pub trace_id: Option<String>,
    /// Span id of that work, as 16 hex digits.
    pub span_id: Option<String>,
}

// Only a place for it: the description of the API takes what stands there from the schema of an
// incident. utoipa's derive needs the standard library.
#[cfg(feature = "schema")]
impl utoipa::PartialSchema for FaultyThread {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new().into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for FaultyThread {}
