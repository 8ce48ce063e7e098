//! The process that `bench-peers` breaks.

use clap::Parser;
use shard_tests::peers::target;

fn main() {
    target::run(target::Options::parse())
}
