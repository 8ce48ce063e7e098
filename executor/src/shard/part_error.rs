//! Why a part has no result.

use super::remote::AskError;
use crate::net::wire;
use crate::vm::{self, ViewError, VmError};

/// Why a part has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the part was not done within its deadline")]
    Late,
    #[error(
        "block {0} was in flight at more than one death of this shard, and its watchdog forbids executing it"
    )]
    Quarantined(u64),
    #[error("the part is no longer wanted")]
    Unwanted,
    #[error("the shard is stopping")]
    Stopping,
    #[error("{0}")]
    Vm(VmError),
    #[error("the outcomes cannot be sent: {0}")]
    Codec(#[from] vm::CodecError),
    #[error("a test ordered this error")]
    Ordered,
    #[error("the thread ends")]
    ThreadMustEnd,
}

impl PartError {
    /// The reason to send; `None`: there is nobody to notify.
    pub(super) fn reason(&self) -> Option<wire::part_error::Reason> {
        use wire::part_error::Reason;
        match self {
            Self::Ask(AskError::Late { .. }) => Some(Reason::StateLate),
            Self::Ask(AskError::Wire(_)) => Some(Reason::Malformed),
            Self::Ask(AskError::Queue(_)) => Some(Reason::Busy),
            Self::Late | Self::Ask(AskError::PartLate) => Some(Reason::PartLate),
            Self::Quarantined(_) => Some(Reason::Quarantined),
            Self::Stopping | Self::Ask(AskError::Stopping) => Some(Reason::Stopping),
            Self::Vm(_) | Self::Codec(_) | Self::Ordered => Some(Reason::Execution),
            Self::Unwanted | Self::Ask(AskError::Unwanted) | Self::ThreadMustEnd => None,
        }
    }
}

impl From<VmError> for PartError {
    fn from(error: VmError) -> Self {
        match error {
            VmError::View(ViewError::Unavailable(source)) => match source.downcast::<AskError>() {
                Ok(ask) => Self::Ask(*ask),
                Err(source) => Self::Vm(VmError::View(ViewError::Unavailable(source))),
            },
            other => Self::Vm(other),
        }
    }
}
