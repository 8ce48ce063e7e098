//! A recording, as a file and as chunks with their checksums corrected.
#![no_main]

#[path = "../src/inputs.rs"]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::recording(bytes));
