//! What coordinator and shards promise as processes: the results of a sequential run, whichever
//! process dies; an answer in bounded time, whatever is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the message, and its runner ends a wait without end"
)]

mod admission;
mod blocks;
mod certificates;
mod fault_port;
mod faults;
mod garbage;
mod guard;
mod lifecycle;
mod loss;
mod messages;
mod peers;
mod poison;
mod process;
mod second;
mod stale;
mod terminal;
mod threads;
mod unread;
mod verify;
mod warm;
