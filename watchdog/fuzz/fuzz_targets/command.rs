//! The body of an order over HTTP.
#![no_main]

#[path = "../src/inputs.rs"]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::command(bytes));
