//! A scheduling class for a thread of another process, as an operator sets it with `chrt`.

use std::process::Command;

/// What a thread of `SCHED_DEADLINE` may run in each period, in milliseconds.
pub const RUNTIME_MS: u64 = 10;
/// The period, in milliseconds.
pub const PERIOD_MS: u64 = 100;

/// Puts the thread `tid` into `SCHED_DEADLINE`: [`RUNTIME_MS`] of CPU time in every [`PERIOD_MS`].
///
/// # Errors
/// If `chrt` is missing or the kernel refuses, for example for want of root, because the thread may
/// not run on every CPU, or because nothing is left of what deadlines may use.
pub fn deadline(tid: i32) -> Result<(), String> {
    let ns = |ms: u64| (ms * 1_000_000).to_string();
    let mut command = Command::new("chrt");
    command.args(["--deadline", "--sched-runtime", &ns(RUNTIME_MS)]);
    command.args(["--sched-deadline", &ns(PERIOD_MS), "--sched-period", &ns(PERIOD_MS)]);
    command.args(["--pid", "0", &tid.to_string()]);
    let output = command.output().map_err(|error| format!("chrt (apt-get install util-linux): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("SCHED_DEADLINE is refused: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
