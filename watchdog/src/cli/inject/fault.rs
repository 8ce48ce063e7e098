//! What both kinds of fault have in common: those from inside the process and those from outside.

use std::sync::mpsc::Sender;
use std::time::Duration;

use shard_watchdog::demo::process::Heard;

/// As long as the fault kit holds a fault unless it is told otherwise.
pub(super) const DEFAULT_HOLD: Duration = Duration::from_secs(10);
/// As long as a fault point of the heartbeat holds a thread.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// One fault, from what it would be to its undoing.
pub(super) trait Fault {
    /// In the words that ordered it.
    fn name(&self) -> String;

    /// The process that it breaks; `None` if the kernel does not say, as across pid namespaces.
    fn pid(&self) -> Option<i32>;

    /// Whether who watches must not kill for it, whatever its config says.
    fn must_not_kill(&self) -> bool;

    /// What it would do and to whom. Touches nothing.
    fn would(&mut self) -> Result<String, String>;

    /// Begins. An error: it was refused, and nothing is broken.
    fn begin(&mut self, sender: &Sender<Heard>) -> Result<(), String>;

    /// A line of what it has started.
    fn hear(&mut self, line: String);

    /// Sees how far it is, and undoes it if its time is up. An error: it was refused, and nothing
    /// is broken.
    fn look(&mut self) -> Result<(), String>;

    /// When it struck, in nanoseconds of the monotonic clock.
    fn struck_at(&self) -> Option<u64>;

    /// Whether it says only a moment later that it has struck.
    fn is_told_late(&self) -> bool;

    /// Has it undone, without waiting for that.
    fn undo(&mut self);

    /// Whether it is undone, or what is left of it; `None`: not yet.
    fn undone(&self) -> Option<Result<(), String>>;

    /// When it was undone, on the clock of [`Self::struck_at`].
    fn undone_at(&self) -> Option<u64>;
}

/// How long a fault lasts, in a flag.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = super::super::positive_duration(text)?;
    if duration > LONGEST_HOLD { Err("no fault lasts longer than 10m".to_owned()) } else { Ok(duration) }
}
