//! A file in the evidence folder, read back by the next life of the sidecar.
#![no_main]

#[path = "../src/inputs.rs"]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::kept_file(bytes));
