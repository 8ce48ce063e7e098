//! Everything that signals: `act/ladder.rs` decides which signal is due, `act/budget.rs` how often,
//! and `act/pidfd.rs` sends it. The checks before a signal only read and belong to the probe.

pub mod budget;
pub mod ladder;
pub mod pidfd;
