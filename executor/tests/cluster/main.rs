//! What coordinator and shards promise as processes: the results of a sequential run, whoever dies; an answer in bounded
//! time, whatever is missing.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod blocks;
mod faults;
mod lifecycle;
mod loss;
mod messages;
mod peers;
mod process;
mod threads;
mod unread;
mod verify;
