//! Compiles the wire format without `protoc`, so that Rust and a C compiler are all a build needs.

use std::error::Error;

const PROTO: &str = "proto/executor.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    // No `transport` helpers: both sides build their channel and server with limits of their own in
    // src/net.rs.
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
