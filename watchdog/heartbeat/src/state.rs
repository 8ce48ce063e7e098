//! The state of a process as a whole.

use crate::layout::{STATE_BOOT, STATE_FAILED, STATE_RUNNING, STATE_STOPPING};

/// The state that a process declares for itself as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// Starting, not yet able to work. The state of a new segment.
    Boot,
    /// Up and working.
    Running,
    /// An orderly stop is under way.
    Stopping,
    /// It gave up by itself.
    Failed,
}

impl ProcessState {
    /// Its code in a segment.
    pub fn code(self) -> u64 {
        match self {
            ProcessState::Boot => STATE_BOOT,
            ProcessState::Running => STATE_RUNNING,
            ProcessState::Stopping => STATE_STOPPING,
            ProcessState::Failed => STATE_FAILED,
        }
    }

    /// The state with this code; `None` for a code that version 1 does not know.
    pub fn from_code(code: u64) -> Option<ProcessState> {
        [ProcessState::Boot, ProcessState::Running, ProcessState::Stopping, ProcessState::Failed]
            .into_iter()
            .find(|state| state.code() == code)
    }
}
