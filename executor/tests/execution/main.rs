//! What block execution promises: exact results, whichever way a block is run, and clear messages
//! about bad input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the message, and its runner ends a wait without end"
)]

mod amsterdam;
mod bad_input;
mod chains;
mod duties;
mod equivalence;
mod fork_cases;
mod generated_chains;
mod hostile_blocks;
mod mismatches;
mod parallel;
mod real_blocks;
mod rounds;
mod rules;
mod shapes;
mod state_roots;
mod support;
mod vectors;
