//! A watched process that begins with a piece of work in each of its lives, makes no progress with
//! it, and never asks which work its watchdog withholds. It is the same piece of work each time,
//! poison work that a watchdog has to handle alone; or, with `--other-work`, another one each time.

use std::path::PathBuf;
use std::time::Duration;

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};

/// The key of its work, unless that differs from life to life.
const KEY: u64 = 7;

fn main() {
    let Some(heartbeat) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("stalling-target HEARTBEAT [--other-work]");
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
    let other = std::env::args_os().nth(2).is_some_and(|word| word == "--other-work");
    let _working = thread.working(Work::new(if other { std::process::id().into() } else { KEY }));
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
