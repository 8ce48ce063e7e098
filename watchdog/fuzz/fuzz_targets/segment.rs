//! A heartbeat segment as a hostile target may write it, through the probe to the judge.
#![no_main]

#[path = "../src/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::segment(bytes);
});
