//! Whole histories of a target, its machine and its watchdog, in virtual time and by the hundred
//! thousand.
//!
//! A seed makes a plan (`generator`), the world lives it (`world`, `process`, `thread`), the
//! observer sees what the probe would see of it (`observer`), and the real judge, ladder and budget
//! decide (`watchdog`). Each decision is checked against the truth (`invariants`, `deafness`,
//! `account`). A history that breaks a rule is shortened (`shrink`) and printed (`report`).
//!
//! This is a package of its own, so that only the simulation is linked with the watchdog's library,
//! and so that a mutant of the judge is built and tried in seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a simulation that cannot go on must fail the test, and say where"
)]

pub mod account;
pub mod canary;
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
pub mod sections;
pub mod shrink;
pub mod silence;
pub mod theft;
pub mod thread;
pub mod watchdog;
pub mod watched_time;
pub mod world;
