//! Plain counters. The threads that work add to them; the threads that collect read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shard_telemetry::dropped::Signal;

/// The kinds of telemetry that an executor may have to drop.
pub(super) const SIGNALS: [Signal; 4] =
    [Signal::Http, Signal::OtlpMetrics, Signal::OtlpLogs, Signal::OtlpTraces];

/// The value of `watchdog_age` while no watchdog was ever seen.
const NEVER: u64 = u64::MAX;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets the total to one that is counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The total.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a block ended at the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As its header says.
    Verified,
    /// Different from what its header says.
    Wrong,
    /// Not executed, within its retries and its deadline.
    Failed,
}

impl Outcome {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Verified, Self::Wrong, Self::Failed];

    /// The word in metrics and spans.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Wrong => "wrong",
            Self::Failed => "failed",
        }
    }
}

/// What missed its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// A request for state.
    State,
    /// A part.
    Part,
    /// A block.
    Block,
}

impl Late {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::State, Self::Part, Self::Block];

    /// The word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Part => "part",
            Self::Block => "block",
        }
    }
}

/// Why a message was useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// Of another block, attempt or incarnation.
    Stale,
    /// It could not be understood.
    Malformed,
    /// Nobody was left to receive it.
    Dropped,
}

impl Useless {
    /// Every value.
    pub const ALL: &'static [Self] = &[Self::Stale, Self::Malformed, Self::Dropped];

    /// The word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Malformed => "malformed",
            Self::Dropped => "dropped",
        }
    }
}

/// All counters of one process. A coordinator leaves alone what only a shard counts, and vice
/// versa.
#[derive(Debug)]
pub struct Counts {
    blocks: [Count; 3],
    late: [Count; 3],
    useless: [Count; 3],
    /// Transactions executed by a shard, or in blocks that a coordinator verified.
    pub transactions: Count,
    /// Transactions that a coordinator executed again because something they had read was stale.
    pub reexecuted: Count,
    /// Transactions that a coordinator sent to shards again, in a round after the first.
    pub again: Count,
    /// Transactions of parts that a helper had executed ahead.
    pub helped: Count,
    /// Parts dispatched again.
    pub retries: Count,
    /// Blocks withheld from shards.
    pub quarantined: Count,
    /// Requests for state that a shard made or a coordinator answered.
    pub state_requests: Count,
    /// Bytes sent.
    pub bytes_sent: Count,
    /// Bytes received.
    pub bytes_received: Count,
    /// Microseconds since the watchdog's last beat, or [`NEVER`].
    watchdog_age: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            blocks: Default::default(),
            late: Default::default(),
            useless: Default::default(),
            transactions: Count::default(),
            reexecuted: Count::default(),
            again: Count::default(),
            helped: Count::default(),
            retries: Count::default(),
            quarantined: Count::default(),
            state_requests: Count::default(),
            bytes_sent: Count::default(),
            bytes_received: Count::default(),
            watchdog_age: AtomicU64::new(NEVER),
        }
    }
}

impl Counts {
    /// Blocks with this outcome.
    pub const fn blocks(&self, outcome: Outcome) -> &Count {
        let [verified, wrong, failed] = &self.blocks;
        match outcome {
            Outcome::Verified => verified,
            Outcome::Wrong => wrong,
            Outcome::Failed => failed,
        }
    }

    /// Deadlines missed.
    pub const fn late(&self, what: Late) -> &Count {
        let [state, part, block] = &self.late;
        match what {
            Late::State => state,
            Late::Part => part,
            Late::Block => block,
        }
    }

    /// Messages discarded.
    pub const fn useless(&self, why: Useless) -> &Count {
        let [stale, malformed, dropped] = &self.useless;
        match why {
            Useless::Stale => stale,
            Useless::Malformed => malformed,
            Useless::Dropped => dropped,
        }
    }

    /// Sets how long ago the watchdog beat; `None`: none ever did.
    pub fn set_watchdog_age(&self, age: Option<Duration>) {
        let micros = age.map_or(NEVER, |age| u64::try_from(age.as_micros()).unwrap_or(NEVER - 1));
        self.watchdog_age.store(micros, Ordering::Relaxed);
    }

    /// How long ago the watchdog beat, as last set; `None`: none ever did.
    pub fn watchdog_age(&self) -> Option<Duration> {
        match self.watchdog_age.load(Ordering::Relaxed) {
            NEVER => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_never_was_has_no_age() {
        let counts = Counts::default();
        assert_eq!(counts.watchdog_age(), None);
        counts.set_watchdog_age(Some(Duration::from_millis(3)));
        assert_eq!(counts.watchdog_age(), Some(Duration::from_millis(3)));
        counts.set_watchdog_age(Some(Duration::MAX));
        assert!(counts.watchdog_age().is_some(), "long ago is not never");
    }
}
