//! The clocks: `CLOCK_MONOTONIC`, by which the watch loop goes, and the wall clock that people read.

pub use shard_judge::clock::Monotonic;

/// Reads `CLOCK_MONOTONIC`. The judge never does: its observation carries the time.
pub fn now() -> Monotonic {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(t.tv_nsec).unwrap_or(0);
    Monotonic(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
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
        Self { monotonic: now(), wall: jiff::Timestamp::now() }
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
