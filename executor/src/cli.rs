//! The subcommands: flags, messages and exit codes. One file each.

pub(crate) mod coordinator;
mod faults;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod local;
pub(crate) mod shard;

use std::process::ExitCode;

/// Every block verified.
pub(crate) const VERIFIED: u8 = 0;
/// A block was wrong.
pub(crate) const WRONG_BLOCK: u8 = 1;
/// Bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// A block could not be executed.
pub(crate) const NOT_EXECUTED: u8 = 3;

/// Each round takes a round trip to every shard; what is not settled by then is settled faster in order.
pub(crate) const MOST_ROUNDS: i64 = 16;

/// Says why, with the next step, and gives the exit code.
pub(crate) fn fail(code: u8, reason: &dyn std::fmt::Display) -> ExitCode {
    shard_executor::logs::tell(&format!("shard-executor: {reason}"));
    ExitCode::from(code)
}
