//! Time as the watch loop counts it: `CLOCK_MONOTONIC`, which stands still in a suspend and ignores the wall clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC`. Only differences mean anything; the zero is the boot of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Reads the clock. The judge never calls this: its observation carries the time.
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self::from_parts(t.tv_sec, t.tv_nsec)
    }

    fn from_parts(seconds: i64, nanoseconds: i64) -> Self {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `after` this one.
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Ties the monotonic clock to the wall clock once, so that every time of one run is told on one scale even if
/// somebody sets the wall clock in between.
#[derive(Clone, Copy, Debug)]
pub struct WallAnchor {
    monotonic: Monotonic,
    wall: jiff::Timestamp,
}

impl WallAnchor {
    /// Reads both clocks, one after the other.
    pub fn now() -> Self {
        Self { monotonic: Monotonic::now(), wall: jiff::Timestamp::now() }
    }

    /// The wall-clock time of `at`.
    pub fn wall(&self, at: Monotonic) -> jiff::Timestamp {
        let (span, back) = if at >= self.monotonic {
            (at.since(self.monotonic), false)
        } else {
            (self.monotonic.since(at), true)
        };
        let moved = if back { self.wall.checked_sub(span) } else { self.wall.checked_add(span) };
        moved.unwrap_or(self.wall)
    }
}
