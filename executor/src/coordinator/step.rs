//! The steps of a part between a coordinator and a shard: an error names the step at which it
//! happened.

use std::fmt;

use crate::net::wire::part_error::Reason;

/// One step of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Connecting to a shard.
    Connect,
    /// Sending it the part.
    Dispatch,
    /// Requesting the state that the part reads, and answering.
    State,
    /// Executing the part.
    Execute,
    /// Receiving its result.
    Result,
}

impl Step {
    /// The step at which a shard reports that it failed.
    pub(super) const fn of(reason: Reason) -> Self {
        match reason {
            Reason::StateLate => Self::State,
            Reason::Busy | Reason::Stopping | Reason::Malformed | Reason::Quarantined => Self::Dispatch,
            Reason::PartLate | Reason::Execution => Self::Execute,
            Reason::Unspecified => Self::Result,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Dispatch => "dispatch",
            Self::State => "state",
            Self::Execute => "execute",
            Self::Result => "result",
        })
    }
}

/// How an attempt at a part failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The shard, by its name in messages.
    pub(super) shard: String,
    pub(super) step: Step,
    pub(super) reason: String,
}
