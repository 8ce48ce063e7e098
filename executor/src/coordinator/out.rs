//! Standard output of the coordinator, which nobody may be reading.
//!
//! The coordinating thread never waits for a reader: a pager that was left open must not stop a
//! chain. Lines wait for the thread `out-coord` in a bounded queue; what finds no room is dropped,
//! counted, and told in its place once somebody reads again. A reader that has gone is an error, as
//! ever.

use std::io;
use std::time::Instant;

use super::report::gap;
use crate::deadline;
use crate::lines::{Descriptor, Lines};
use crate::logs;

/// Lines that wait for the reader. A block of the main chain takes tens of milliseconds and has one
/// line of some 350 bytes, so a reader may look away for ten seconds and more, twice what a block
/// may take, before anything is lost.
const ROOM: usize = 1_024;

pub(super) struct Out {
    lines: Lines,
    /// Whether it was said that lines are dropped.
    told: bool,
}

impl Out {
    /// Starts the thread that writes. `json`: what it says of lines that were dropped is an object,
    /// too.
    pub(super) fn start(json: bool) -> io::Result<Self> {
        let gap = if json { gap::json } else { gap::text };
        let lines = Lines::start("out-coord", ROOM, gap, Descriptor::duplicate(io::stdout())?)?;
        logs::flush_also(&lines);
        Ok(Self { lines, told: false })
    }

    /// Where it goes, for a picture of how far a run has come.
    pub(super) const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Fails if something could not be written, other than for want of a reader's time.
    pub(super) fn check(&self) -> io::Result<()> {
        self.failure()
    }

    /// Says a line without waiting. Fails if an earlier one could not be written, other than for
    /// want of a reader's time.
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

    /// Says the last line, which is made from the number of lines that were dropped, and waits
    /// until all is written, for at most [`deadline::STOP`].
    pub(super) fn end(&mut self, last: impl FnOnce(u64) -> String) -> io::Result<()> {
        let until = Instant::now() + deadline::STOP;
        let left = || until.saturating_duration_since(Instant::now());
        // What is dropped is known only when what waits is written; and the last line needs room.
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
