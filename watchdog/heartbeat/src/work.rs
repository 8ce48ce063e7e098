//! What a thread publishes about the work it has begun.

use std::time::Duration;

/// A W3C trace context: which span the work belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Trace id; all zeroes = none.
    pub trace_id: [u8; 16],
    /// Span id; all zeroes = none.
    pub span_id: [u8; 8],
    /// Trace flags.
    pub flags: u8,
}

impl TraceContext {
    /// Whether it names no span.
    pub fn is_none(&self) -> bool {
        self.trace_id == [0; 16] || self.span_id == [0; 8]
    }
}

/// One piece of work, as the watchdog will report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// A key that stays the same when this work is tried again, such as a block's number: it
    /// identifies work that kills every attempt.
    pub key: u64,
    /// Which attempt this is.
    pub attempt: u64,
    /// How long the work may go without progress, counting only time in which it could have made
    /// some; `None`: as long as the config allows. It cannot extend that; less than 150 ms counts
    /// as 150 ms.
    pub deadline: Option<Duration>,
    /// The span to which it belongs.
    pub trace: TraceContext,
}

impl Work {
    /// First attempt (0), no deadline, no trace.
    pub fn new(key: u64) -> Work {
        Work { key, ..Work::default() }
    }

    /// The same work with this attempt number.
    #[must_use]
    pub fn attempt(self, attempt: u64) -> Work {
        Work { attempt, ..self }
    }

    /// The same work with a deadline, counted from its last progress.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Work {
        Work { deadline: Some(deadline), ..self }
    }

    /// The same work with a trace context.
    #[must_use]
    pub fn trace(self, trace: TraceContext) -> Work {
        Work { trace, ..self }
    }

    /// The deadline as it is published: nanoseconds, zero = none. A deadline of zero becomes one
    /// nanosecond; one beyond 584 years is capped.
    pub(crate) fn deadline_ns(&self) -> u64 {
        match self.deadline {
            None => 0,
            Some(deadline) => u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX).max(1),
        }
    }
}

/// Two words that hold a name: one byte of length, then up to 15 bytes.
pub(crate) fn pack_name(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    let used = name.len().min(bytes.len() - 1);
    bytes[0] = used as u8;
    bytes[1..=used].copy_from_slice(&name.as_bytes()[..used]);
    split(bytes)
}

/// Decodes a name from two words that anybody may have written: cut to fit, invalid UTF-8 replaced,
/// control characters escaped.
pub(crate) fn unpack_name(words: [u64; 2]) -> String {
    let bytes = join(words);
    printable(&bytes[1..=usize::from(bytes[0]).min(bytes.len() - 1)])
}

/// Bytes as text that cannot break a log line or a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// The same for text of several lines; line ends are preserved.
pub(crate) fn printable_lines(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes.split(|byte| *byte == b'\n').map(printable).collect();
    lines.join("\n")
}

/// 16 bytes as two little-endian words.
pub(crate) fn split(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(bytes);
    [whole as u64, (whole >> 64) as u64]
}

/// Two little-endian words as 16 bytes.
pub(crate) fn join(words: [u64; 2]) -> [u8; 16] {
    (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        for name in ["a", "exec-s3", "fifteen-bytes-x"] {
            assert_eq!(unpack_name(pack_name(name)), name);
        }
    }

    #[test]
    fn a_hostile_name_cannot_break_a_line() {
        let mut bytes = [b'\n'; 16];
        bytes[0] = 255;
        assert_eq!(unpack_name(split(bytes)), "\\n".repeat(15));
        assert_eq!(printable(b"a\x1b[2J\xff"), "a\\u{1b}[2J\u{fffd}");
    }

    #[test]
    fn a_deadline_of_zero_is_not_no_deadline() {
        assert_eq!(Work::new(1).deadline_ns(), 0);
        assert_eq!(Work::new(1).deadline(Duration::ZERO).deadline_ns(), 1);
        assert_eq!(Work::new(1).deadline(Duration::MAX).deadline_ns(), u64::MAX);
    }
}
