//! A minidump of the target, taken by a process of its own: the evidence helper.
//!
//! [`client::Helper`] is the side of the sidecar: it starts the helper beforehand, asks for a dump,
//! and sees to it that the target runs on whatever becomes of the helper. [`helper`] is the other
//! side, the hidden subcommand `evidence-helper`. They talk over a socket pair in the messages of
//! [`wire`]. [`permission`] knows why a process cannot be dumped, and who can change that.
//!
//! Not for the watch thread: every call takes as long as its deadline says, and starting the helper
//! forks.

pub mod client;
pub mod helper;
pub mod permission;
mod streams;
pub mod wire;

use std::time::Duration;

/// How long the target stands still for each of its threads: stopping, attaching, reading registers
/// and stack. `bench-evidence` measured 0.35 ms at 64 threads and 1 ms at 500, where more processes
/// wanted to run than there are CPUs. There the deadline of the request ends the dump.
const A_THREAD: Duration = Duration::from_micros(450);

/// How many threads can be dumped while the target stands still for `time_limit`.
pub fn most_threads(time_limit: Duration) -> u32 {
    u32::try_from(time_limit.as_nanos() / A_THREAD.as_nanos()).unwrap_or(u32::MAX)
}

/// No dump is larger, in bytes. With stacks of usual depth, 64 threads make about 1 MiB of it and
/// 2,000 threads about 20.
pub const LARGEST: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_limit_decides_how_many_threads_are_dumped() {
        assert_eq!(most_threads(Duration::from_millis(250)), 555);
        assert_eq!(most_threads(Duration::ZERO), 0);
        assert_eq!(most_threads(Duration::MAX), u32::MAX);
    }
}
