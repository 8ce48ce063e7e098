//! The result of an observation, and the sentence that gives the reason.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use crate::verdict::Verdict;

/// The reason for a verdict, formatted only when needed: most observations change nothing.
pub enum Why<'a> {
    /// A fixed sentence.
    Fixed(&'static str),
    /// Formatted when the verdict changes.
    Told(&'a dyn Fn() -> String),
    /// Already formatted, because it may say something new about an unchanged verdict.
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

    /// Whether it may say something new about an unchanged verdict, whose reason was `before`.
    pub fn differs_from(&self, before: &str) -> bool {
        match self {
            Self::Fixed(text) => *text != before,
            Self::Told(_) => false,
            Self::Changed(_) => true,
        }
    }
}

/// The result of one observation of an incarnation.
pub struct Finding {
    /// The verdict on the incarnation.
    pub verdict: Verdict,
    /// The reason for the verdict.
    pub why: Why<'static>,
}
