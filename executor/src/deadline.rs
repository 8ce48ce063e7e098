//! Every deadline between a coordinator and its shards, all derived here from the deadline of a
//! block.
//!
//! The order is what matters: state request < part < block < the watchdog's `stall_after`. An inner
//! wait must end, with an error that names it, before the wait around it gives up. The coordinator
//! must also have given a stuck shard's part to another before the watchdog ends that shard, so
//! that a kill never costs more than the retry that is already under way.

use std::time::Duration;

/// How long a block may take by default: the default in the contract, no longer than the watchdog's
/// default `stall_after`.
pub const DEFAULT_BLOCK: Duration = Duration::from_secs(5);

/// The share of a block's deadline for one attempt at a part. After an attempt times out in full,
/// one whole further attempt and the validation must still fit: 2/5 + 2/5 leaves 1/5.
const PART_OF_BLOCK: (u32, u32) = (2, 5);

/// One state request's share of a part's deadline. A shard without an answer must report it while
/// its coordinator still waits. A quarter lets several requests of one part be slow with none lost.
const STATE_OF_PART: (u32, u32) = (1, 4);

/// A shorter deadline would measure the scheduler, not the peer: a loaded machine delays a thread
/// by tens of milliseconds.
const FLOOR: Duration = Duration::from_millis(20);

/// How long a coordinator waits at its start for a first shard: longer than a supervisor's first
/// restart back-off.
pub const FIRST_SHARD: Duration = Duration::from_secs(10);

/// How long one connection attempt may take. On the networks that connect shards a handshake takes
/// milliseconds; a half-open or filtered address must not use up a block's deadline.
pub const CONNECT: Duration = Duration::from_millis(500);

/// How long the other end may take to introduce itself on a new stream, for the same reason as
/// [`CONNECT`].
pub const HELLO: Duration = Duration::from_millis(1_000);

/// How long a connection to a shard may be open without serving a coordinator. A coordinator says
/// hello as soon as it is connected, at most [`HELLO`] later. Ten times that allows for an
/// overloaded machine, and for a probe that asks for the health a few times.
pub const ADMISSION: Duration = Duration::from_secs(10);

/// The pause between two attempts to reach a lost shard. A restart takes about 100 ms, so 20 ms
/// adds little to it, and 50 refused connections a second cost next to nothing.
pub const RECONNECT: Duration = Duration::from_millis(20);

/// The pause between two attempts once a shard has been away for [`RECONNECT_PATIENCE`], too long
/// for a restart.
pub const RECONNECT_SLOW: Duration = Duration::from_millis(250);

/// When reconnecting slows down; see [`RECONNECT_SLOW`].
pub const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How often an idle connection is probed, and how long the answer may take. A peer that vanished
/// silently is detected within 2 s, inside one block's deadline, and a loaded machine still answers
/// in time.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How often a waiting thread checks whether it should stop. Short enough that stopping is prompt,
/// long enough that an idle thread costs nothing.
pub const LOOK_ROUND: Duration = Duration::from_millis(50);

/// How long a message may wait for a full queue between two threads of one process before it counts
/// as lost. The receiver does nothing but forward messages.
pub const HAND_OVER: Duration = Duration::from_millis(250);

/// How long an executor thread waits for a helper that does not come back before it ends itself.
/// Longer than the watchdog's default `stall_after`, so that a watchdog acts first and records
/// evidence; without a watchdog the shard must not stay half lost.
pub const HELPER: Duration = Duration::from_secs(8);

/// How long a process may warm up before it reports that it is running. Warming up takes some 20
/// ms; a debug build on a machine loaded to ten times its cores takes over a second. The limit is
/// well inside the watchdog's default `startup_grace`.
pub const WARM_UP: Duration = Duration::from_secs(5);

/// How long to wait for the warm-up of a started thread: as long as the warm-up may take, plus time
/// to finish the step then under way.
pub const WARM: Duration = Duration::from_secs(10);

/// How long threads get to finish once the process is asked to stop.
pub const STOP: Duration = Duration::from_millis(1_000);

/// When a process that was asked to stop ends, whatever its threads do: the bound promised to
/// operators.
pub const STOP_AT_LAST: Duration = Duration::from_millis(1_900);

/// How long the panic hook may take to report before the process ends without its report. Writing a
/// few lines takes milliseconds; writing to a pipe that nobody reads takes forever.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a process that has lost a thread lives on for the sidecar that watches it, which takes
/// its evidence from the living process and ends it in its own way. The sidecar's verdict takes a
/// millisecond, and its evidence gets 250 ms by default.
pub const WATCHDOG_FIRST: Duration = Duration::from_millis(250);

/// How long an ending process may take to send its metrics and traces. A reachable collector takes
/// milliseconds, and an unreachable one must not delay a restart.
pub const TELEMETRY: Duration = Duration::from_millis(500);

/// How long to retry notifying the service manager that the process is running, if it has no room
/// for the message. It takes microseconds; at that time only the first block waits for it.
pub const SERVICE_MANAGER: Duration = Duration::from_secs(1);

/// The deadlines for one block, innermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// One state request, from sending it to the answer.
    pub state_request: Duration,
    /// One attempt at one part, from dispatch to the result.
    pub part: Duration,
    /// The whole block, including every retry.
    pub block: Duration,
}

impl Deadlines {
    /// The deadlines inside a block whose own deadline is `block`.
    pub fn within(block: Duration) -> Self {
        let share = |of: Duration, (n, d): (u32, u32)| of.saturating_mul(n) / d;
        let part = share(block, PART_OF_BLOCK).max(FLOOR * 2);
        let state_request = share(part, STATE_OF_PART).max(FLOOR);
        Self { state_request, part, block: block.max(FLOOR * 4) }
    }
}

/// The longest deadline accepted: a day. A longer one is a mistake in the unit, and with this limit
/// time arithmetic stays exact.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `5s`, `250ms`, `100us`, `2m` or a sum of those such as `1s 500ms`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, unit) = part.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| format!("{part:?} does not begin with a whole number"))?;
        let piece = match unit {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.saturating_mul(60)),
            _ => return Err(format!("{part:?} has no unit: write it as 250ms, 5s or 2m")),
        };
        sum = sum.saturating_add(piece);
    }
    if sum.is_zero() || sum > LONGEST {
        return Err(format!("{text:?} is not between 1ms and a day: write it as 250ms, 5s or 2m"));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_deadlines_end_before_outer_ones() {
        for block in [
            Duration::ZERO,
            Duration::from_millis(1),
            DEFAULT_BLOCK,
            Duration::from_secs(3600),
            Duration::MAX / 4,
        ] {
            let d = Deadlines::within(block);
            assert!(d.state_request < d.part && d.part < d.block, "{d:?}");
        }
    }

    #[test]
    fn a_part_that_times_out_leaves_time_for_another_attempt() {
        let d = Deadlines::within(DEFAULT_BLOCK);
        assert!(d.part * 2 < d.block);
    }

    #[test]
    fn durations_need_a_unit_and_an_end() {
        assert_eq!(parse("1s 500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "0s", "-1s", "99999999999999999999s", "25000m", "1h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
