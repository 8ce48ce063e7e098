//! The steps of a part between a coordinator and a shard: an error says at which of them it
//! happened.

use std::fmt;

use crate::net::wire::part_error::Reason;

/// A step on a part's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reaching a shard.
    Connect,
    /// Handing it the part.
    Dispatch,
    /// Asking for the state that the part reads, and answering.
    State,
    /// Executing the part.
    Execute,
    /// Getting its result.
    Result,
}

impl Step {
    /// The step at which a shard says that it failed.
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
    /// Where: how messages call the shard.
    pub(super) shard: String,
    pub(super) step: Step,
    pub(super) reason: String,
}
