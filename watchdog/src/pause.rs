//! A pause of killing, and what a person may give as its reason.

use std::time::Duration;

use crate::clock::Monotonic;

/// A forgotten pause ends within a day.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Most bytes in a reason, which is a sentence.
pub const LONGEST_REASON: usize = 500;

/// A pause of killing that a person requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it began.
    pub since: Monotonic,
    /// When it ends.
    pub until: Monotonic,
    /// Why, in the words of that person.
    pub reason: String,
    /// Who requested it, as far as is known: `uid 1000`.
    pub by: String,
}

/// Whether `reason` may be shown. Like control characters, marks that change the direction of the
/// text after them are not allowed: a log shows the reason next to other text.
pub fn is_reason(reason: &str) -> bool {
    let fits = (1..=LONGEST_REASON).contains(&reason.trim().len());
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    fits && reason.len() <= LONGEST_REASON && !reason.chars().any(harmful)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_no_terminal_or_log_is_led_astray_by() {
        for reason in ["deploy of 1.2", "Wartung am Knoten 7, siehe Ticket 12"] {
            assert!(is_reason(reason), "{reason:?}");
        }
        for reason in ["", "   ", "two\nlines", "\u{1b}[2J", "\u{202e}gpj", "a\u{2028}b", &"x".repeat(501)] {
            assert!(!is_reason(reason), "{reason:?}");
        }
    }
}
