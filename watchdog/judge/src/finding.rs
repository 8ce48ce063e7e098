//! What a look comes to, and the sentence that says why.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use crate::verdict::Verdict;

/// The sentence behind a verdict, written only when it is needed: most looks change nothing.
pub enum Why<'a> {
    /// Always the same.
    Fixed(&'static str),
    /// Made when the verdict changes.
    Told(&'a dyn Fn() -> String),
    /// Made now, because it says something new about the same verdict.
    Changed(String),
}

impl Why<'_> {
    /// The sentence.
    pub fn tell(self) -> String {
        match self {
            Self::Fixed(text) => text.to_owned(),
            Self::Told(make) => make(),
            Self::Changed(text) => text,
        }
    }

    /// Whether it may say something new about the verdict that stands.
    pub const fn may_change(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

/// What one incarnation's observation came to.
pub struct Finding {
    /// The verdict on it.
    pub verdict: Verdict,
    /// Why.
    pub why: Why<'static>,
}
