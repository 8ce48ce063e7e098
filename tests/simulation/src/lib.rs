//! Whole histories of a target, its machine and its watchdog, in virtual time and by the hundred
//! thousand.
//!
//! A seed makes a plan (`generator`), the world lives it (`world`, `process`, `thread`), the
//! observer sees of it what the probe would (`observer`), the real judge, ladder and budget decide
//! (`watchdog`), and each decision is held against what is really so (`invariants`, `deafness`,
//! `account`). A history that breaks a rule is made short (`shrink`) and printed (`report`).
//!
//! A package of its own, so that nothing but the simulation is linked with the watchdog's library,
//! and so that a mutant of the judge is built and tried in seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a simulation that cannot go on must fail the test, and say where"
)]

pub mod account;
pub mod channel;
pub mod deafness;
pub mod generator;
pub mod history;
pub mod invariants;
pub mod observer;
pub mod plan;
pub mod pool;
pub mod process;
pub mod random;
pub mod report;
pub mod run;
pub mod shrink;
pub mod thread;
pub mod watchdog;
pub mod watched_time;
pub mod world;
