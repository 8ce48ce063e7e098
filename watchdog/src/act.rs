//! All the signalling, and whether it may be done: `act/pidfd.rs` sends, `act/proof.rs` knows to
//! whom not, `act/ladder.rs` says what and when, `act/budget.rs` how often.

pub mod budget;
pub mod ladder;
pub mod pidfd;
pub mod proof;
