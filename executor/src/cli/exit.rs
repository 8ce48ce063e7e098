//! The exit codes, and the last words that go with them.

use std::process::ExitCode;

/// Every block verified.
pub(crate) const VERIFIED: u8 = 0;
/// A block was wrong.
pub(crate) const WRONG_BLOCK: u8 = 1;
/// Bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// A block could not be executed.
pub(crate) const NOT_EXECUTED: u8 = 3;

/// Prints the reason, with the next step, and returns the exit code.
pub(crate) fn fail(code: u8, reason: &dyn std::fmt::Display) -> ExitCode {
    shard_executor::logs::tell(&format!("shard-executor: {reason}"));
    ExitCode::from(code)
}
