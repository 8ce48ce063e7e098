//! `import`, against a stand-in for an archive node that answers for a generated chain. No real
//! node can be had in a test: what real ones answer is imitated in its shapes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "in a test a panic is the message, and its runner ends it if it hangs"
)]

mod chain;
mod from_a_node;
mod from_files;
mod node;
mod trouble;
