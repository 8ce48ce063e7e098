//! All the signalling: `act/pidfd.rs` sends, to whom every check holds, `act/ladder.rs` says what
//! and when, `act/budget.rs` how often. The checks themselves read and belong to the probe.

pub mod budget;
pub mod ladder;
pub mod pidfd;
