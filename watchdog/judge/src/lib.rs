//! The judge: a pure function of (policy, its own state, observation). It reads no clock, no file
//! and no random number, so the same history gives the same decisions every time, in a simulation
//! as on a live shard.
//!
//! # Duties
//! [`observation`] is all of its input, [`policy`] its configuration, [`Decision`] and [`Note`]
//! (`decision.rs`) its output. `judge.rs` carries the state from one incarnation to the next,
//! `incarnation.rs` judges one process, `thread.rs` one thread. `stall_clock.rs` counts time,
//! `workers.rs` that of a thread that waits for its workers, `silence.rs` that of an idle thread
//! while there is work; `steal.rs` takes off what the hypervisor took, `tracing.rs` detects a
//! tracer that comes and goes. `look.rs` holds the circumstances of an observation, `finding.rs`
//! its result, `words.rs` how incidents word what was observed.
//!
//! `testing.rs`, behind the feature `testing`, makes observations for tests, here and elsewhere.
//!
//! # Prohibitions
//! No clock, no file, no socket, no lock, no thread: the crate does without `std`, and may not gain
//! a dependency that uses them.

#![no_std]

extern crate alloc;

pub mod channel;
pub mod channel_age;
pub mod clock;
pub mod crash_loop;
mod decision;
pub mod excuse;
pub mod finding;
pub mod incarnation;
mod judge;
pub mod look;
pub mod observation;
pub mod policy;
pub mod section;
pub mod silence;
pub mod stall_clock;
pub mod steal;
pub mod target;
#[cfg(feature = "testing")]
pub mod testing;
pub mod thread;
mod tracing;
pub mod verdict;
pub mod words;
pub mod workers;

pub use decision::{Condemnation, Decision, Note};
pub use finding::{Finding, Why};
pub use judge::Judge;
pub use look::{Look, OBSERVER_LATE};
