//! On which lines the thread at fault stood, in the head of the report of an incident.

use std::fmt::Write as _;

use shard_watchdog::incident::Incident;
use shard_watchdog::incident::folder::STACKS;
use shard_watchdog::stacks::read;

use super::super::super::status::table::plain;

/// Frames that are shown: those of a lock or a channel, and the function that waits for it with
/// some of its callers.
const MOST_FRAMES: usize = 12;

/// The rows; empty if the stacks are of other threads, as they are if that one is gone.
pub(super) fn told(incident: &Incident, stacks: &str) -> String {
    let guilty = incident.thread.as_ref().map(|thread| thread.tid);
    let is_guilty = |tid: u32| i32::try_from(tid).is_ok_and(|tid| Some(tid) == guilty);
    let threads = read::threads(stacks);
    let Some(thread) = threads.iter().find(|thread| is_guilty(thread.tid)) else { return String::new() };
    let mut text = String::new();
    for (index, frame) in thread.frames.iter().take(MOST_FRAMES).enumerate() {
        let key = if index == 0 { "stack" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:<7} {}{}", plain(&frame.function), plain(&frame.place));
    }
    let more = thread.frames.len().saturating_sub(MOST_FRAMES);
    if more > 0 {
        let _ = writeln!(text, "          and {more} more in {STACKS}");
    }
    text
}
