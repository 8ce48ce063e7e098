//! The interface that both kinds of fault share: those from inside the process and those from
//! outside.

use std::sync::mpsc::Sender;
use std::time::Duration;

use shard_watchdog::demo::process::Heard;

/// How long the fault kit holds a fault by default.
pub(super) const DEFAULT_HOLD: Duration = Duration::from_secs(10);
/// The longest time that a fault point of the heartbeat holds a thread.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// One fault, from its plan to its undoing.
pub(super) trait Fault {
    /// The name of the fault, in the words that ordered it.
    fn name(&self) -> String;

    /// The process that the fault breaks; `None` if the kernel does not say, as across pid
    /// namespaces.
    fn pid(&self) -> Option<i32>;

    /// Whether the watcher must not kill for this fault, whatever its config says.
    fn must_not_kill(&self) -> bool;

    /// What the fault would do and to which process. Changes nothing.
    fn would(&mut self) -> Result<String, String>;

    /// Starts the fault. On an error it was refused, and nothing is broken.
    fn begin(&mut self, sender: &Sender<Heard>) -> Result<(), String>;

    /// Handles a line of output from the process that the fault has started.
    fn hear(&mut self, line: String);

    /// Checks progress, and undoes the fault if its time is up. On an error the fault was refused,
    /// and nothing is broken.
    fn look(&mut self) -> Result<(), String>;

    /// When it struck, in nanoseconds of the monotonic clock.
    fn struck_at(&self) -> Option<u64>;

    /// Whether the fault reports that it has struck only a moment after it did.
    fn is_told_late(&self) -> bool;

    /// Starts to undo the fault, without waiting for the result.
    fn undo(&mut self);

    /// Whether the fault is undone, or what is left of it; `None`: not undone yet.
    fn undone(&self) -> Option<Result<(), String>>;

    /// When it was undone, on the clock of [`Self::struck_at`].
    fn undone_at(&self) -> Option<u64>;
}

/// Parses how long a fault lasts, in a flag.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = super::super::positive_duration(text)?;
    if duration > LONGEST_HOLD { Err("no fault lasts longer than 10m".to_owned()) } else { Ok(duration) }
}
