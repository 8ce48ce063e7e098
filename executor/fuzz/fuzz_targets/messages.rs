//! Bytes as they come from the network, to a shard and to the coordinator.
#![no_main]

#[path = "../src/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::messages(bytes));
