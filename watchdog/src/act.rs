//! Everything that signals: `act/ladder.rs` decides which signal is due, `act/budget.rs` how often,
//! and `act/pidfd.rs` sends it. `act/resume.rs` lets a target run on that the evidence helper has
//! stopped. The checks before a signal only read and belong to the probe.

pub mod budget;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod child;
pub mod ladder;
pub mod pidfd;
pub mod resume;
