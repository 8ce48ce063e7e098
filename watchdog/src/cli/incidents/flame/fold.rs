//! Stacks of many incidents, folded: each different one as a line with its count.

use std::collections::BTreeMap;

use shard_watchdog::stacks::{Stacks, read};

/// Different stacks that are drawn. Nobody could see more of them, and each takes a kilobyte.
const MOST_STACKS: usize = 50_000;

/// What was folded.
#[derive(Debug, Default)]
pub(super) struct Folded {
    counts: BTreeMap<String, u64>,
    incidents: u64,
    left_out: u64,
}

impl Folded {
    /// Adds an incident by the text of its stacks: the thread at fault, or all threads.
    pub(super) fn add(&mut self, text: &str, all_threads: bool) {
        let threads = read::threads(text);
        let drawn = threads.iter().filter(|thread| all_threads || thread.in_question);
        let mut any = false;
        for thread in drawn.filter(|thread| !thread.frames.is_empty()) {
            any = true;
            let frames = thread.frames.iter().rev().map(|frame| Stacks::in_each_build(&frame.function));
            let names = std::iter::once(thread.name.clone()).chain(frames);
            let stack = names.map(|name| in_line(&name)).collect::<Vec<_>>().join(";");
            if self.counts.len() >= MOST_STACKS && !self.counts.contains_key(&stack) {
                self.left_out += 1;
                continue;
            }
            *self.counts.entry(stack).or_default() += 1;
        }
        self.incidents += u64::from(any);
    }

    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// One line a stack, from the thread to the innermost function, and how many stood there.
    pub(super) fn lines(&self) -> Vec<String> {
        self.counts.iter().map(|(stack, count)| format!("{stack} {count}")).collect()
    }

    /// What the picture shows.
    pub(super) fn title(&self) -> String {
        let incidents = if self.incidents == 1 { "incident" } else { "incidents" };
        let more = match self.left_out {
            0 => String::new(),
            more => format!("; {more} more stacks are left out"),
        };
        format!("Where threads stood in {} {incidents}{more}", self.incidents)
    }
}

/// A name that neither ends a frame nor a line, and that XML can hold.
fn in_line(name: &str) -> String {
    let fits = |c: char| match c {
        ';' => ',',
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '?',
        c => c,
    };
    name.chars().map(fits).collect()
}
