//! Parses the input as a block file, and executes the block if it is small.
#![no_main]

#[path = "../src/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::block(bytes));
