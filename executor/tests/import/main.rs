//! `import`, against a stand-in for an archive node that answers for a generated chain. Tests have
//! no access to a real node: the stand-in imitates the shapes of real answers.

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
