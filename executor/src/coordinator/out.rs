//! Standard output of the coordinator, which may have no active reader.
//!
//! The coordinating thread never waits for the reader: a pager that was left open must not stop a
//! chain. Lines wait for the thread `out-coord` in a bounded queue. Lines that find no room are
//! dropped and counted, and the count is printed in their place once the output is read again. A
//! reader that has gone is an error, as usual.

use std::io;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clock::monotonic_ns;
use crate::deadline;
use crate::lines::{Descriptor, Lines};
use crate::logs;

/// Lines that wait for the reader. A block of the main chain takes tens of milliseconds and has one
/// line of some 350 bytes, so a reader may pause for ten seconds and more, twice what a block may
/// take, before anything is lost.
const ROOM: usize = 1_024;

pub(super) struct Out {
    lines: Lines,
    /// Whether the warning about dropped lines was logged.
    told: bool,
}

impl Out {
    /// Starts the thread that writes. `json`: whether the line that stands for dropped lines is a
    /// JSON object, too.
    pub(super) fn start(json: bool) -> io::Result<Self> {
        let gap = if json { gap_json } else { gap_text };
        let lines = Lines::start("out-coord", ROOM, gap, Descriptor::duplicate(io::stdout())?)?;
        logs::flush_also(&lines);
        Ok(Self { lines, told: false })
    }

    /// The queue to the writer, for the display of a run's progress.
    pub(super) const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Fails if a line could not be written for another reason than a slow reader.
    pub(super) fn check(&self) -> io::Result<()> {
        self.failure()
    }

    /// Queues a line without waiting. Fails if an earlier one could not be written for another
    /// reason than a slow reader.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        let taken = self.lines.say(format!("{line}\n").as_bytes());
        if !taken && !self.told {
            self.told = true;
            tracing::warn!(
                "standard output is not read: lines of the report are dropped until it is; further ones are only counted"
            );
        }
        self.failure()
    }

    /// Writes the last line, which is made from the number of dropped lines, and waits until
    /// everything is written, for at most [`deadline::STOP`].
    pub(super) fn end(&mut self, last: impl FnOnce(u64) -> String) -> io::Result<()> {
        let until = Instant::now() + deadline::STOP;
        let left = || until.saturating_duration_since(Instant::now());
        // The count of dropped lines is final once the queue is written; the last line needs room.
        self.lines.flush(left());
        let last = last(self.lines.dropped());
        self.lines.say_within(format!("{last}\n").as_bytes(), left());
        self.lines.flush(left());
        let lost = self.lines.dropped() + self.lines.waiting();
        self.failure()?;
        if lost > 0 {
            tracing::warn!(
                lines = lost,
                "lines of the report were dropped: standard output was not read in time"
            );
        }
        Ok(())
    }

    fn failure(&self) -> io::Result<()> {
        self.lines.failure().map_or(Ok(()), Err)
    }
}

/// The JSON line of an event.
pub(super) fn stamped(mut event: Value) -> String {
    if let Some(fields) = event.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        fields.insert("at_monotonic_ns".to_owned(), monotonic_ns().into());
    }
    event.to_string()
}

/// The line that takes the place of lines that were not read in time, as JSON.
fn gap_json(lines: u64) -> String {
    stamped(json!({"event": "lines_dropped", "lines": lines}))
}

/// The same line for people.
fn gap_text(lines: u64) -> String {
    format!("({lines} lines were dropped here: standard output was not read in time)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_line_like_the_others() {
        let event: Value = serde_json::from_str(&gap_json(3)).expect("JSON");
        assert_eq!((&event["event"], &event["lines"]), (&"lines_dropped".into(), &3.into()));
        assert!(event["at_monotonic_ns"].is_u64());
        assert!(gap_text(3).contains("3 lines"));
    }
}
