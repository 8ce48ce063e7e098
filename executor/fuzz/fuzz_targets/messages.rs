//! Feeds bytes, as if from the network, to the shard's and the coordinator's decoders.
#![no_main]

#[path = "../src/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::messages(bytes));
