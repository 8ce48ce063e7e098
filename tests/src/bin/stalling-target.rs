//! A watched process that begins with the same piece of work in each of its lives, makes no
//! progress with it, and never asks which work its watchdog withholds: poison work that a watchdog
//! has to handle alone.

use std::path::PathBuf;
use std::time::Duration;

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};

/// The key of its only work.
const KEY: u64 = 7;

fn main() {
    let Some(heartbeat) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("stalling-target HEARTBEAT");
        std::process::exit(2);
    };
    let heartbeat = match Heartbeat::create(&heartbeat, &SegmentOptions::new("0")) {
        Ok(heartbeat) => heartbeat,
        Err(error) => {
            eprintln!("stalling-target: {error}");
            std::process::exit(2);
        }
    };
    let Ok(thread) = heartbeat.register("exec-s0") else { std::process::exit(2) };
    heartbeat.set_state(ProcessState::Running);
    let _working = thread.working(Work::new(KEY));
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
