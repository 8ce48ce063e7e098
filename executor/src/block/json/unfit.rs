//! Why a file that can be read is refused.

/// What is wrong with a file, and what to do about it.
pub(super) struct Unfit {
    pub(super) reason: String,
    pub(super) hint: String,
}

pub(super) fn unfit(reason: String, hint: &str) -> Unfit {
    Unfit { reason, hint: hint.into() }
}
