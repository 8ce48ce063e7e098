//! A process whose stacks are known: see `shard_tests::stack_target`.

use std::time::Duration;

use clap::Parser;
use shard_tests::stack_target::{self, Being};

#[derive(Parser)]
struct Args {
    /// Threads that wait.
    threads: usize,
    /// Be not dumpable.
    #[arg(long)]
    hide: bool,
    /// Time between two lines.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5)]
    beat: u64,
    /// Memory to have in use.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    heap: usize,
}

fn main() {
    let Args { threads, hide, beat, heap } = Args::parse();
    stack_target::be(&Being { threads, hide, beat: Duration::from_millis(beat), heap_mib: heap })
}
