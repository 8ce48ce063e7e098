//! The text of a config file.
#![no_main]

#[path = "../src/inputs.rs"]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::config(bytes));
