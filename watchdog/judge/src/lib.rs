//! The judge: a pure function of (policy, its own state, observation). It reads no clock, no file
//! and no random number, so a history fed to it twice gives the same decisions twice, in a
//! simulation as on a live shard.
//!
//! # Duties
//! [`observation`] is all that it may know, [`policy`] what it goes by, [`Decision`] and [`Note`]
//! (`decision.rs`) what it answers. `judge.rs` carries the story from one incarnation to the next,
//! `incarnation.rs` judges one process, `thread.rs` one thread, `stall_clock.rs` counts time,
//! `workers.rs` that of a thread which waits for others, `tracing.rs` knows a tracer that comes and
//! goes. `look.rs` is what a look is like, `finding.rs` what one comes to.
//!
//! # Prohibitions
//! No clock, no file, no socket, no lock, no thread: the crate has no `std` to do it with, and may
//! get no dependency that does it.

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
pub mod stall_clock;
pub mod target;
pub mod thread;
mod tracing;
pub mod verdict;
pub mod workers;

pub use decision::{Condemnation, Decision, Note};
pub use finding::{Finding, Why};
pub use judge::Judge;
pub use look::{Look, OBSERVER_LATE};
