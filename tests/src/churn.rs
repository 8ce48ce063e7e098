//! A process whose threads come and go in good order as fast as they can: each registers, does one
//! piece of work, leaves, and ends. An observer that catches it between two of these steps must not
//! take an orderly end for a loss.

use std::path::Path;

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};

/// Threads that each start one such thread after another.
const PARENTS: usize = 2;
/// The process ends by itself after this many seconds, in case the harness is gone.
const LIVES_SECONDS: u32 = 120;

/// Runs until somebody ends the process.
pub fn be(segment: &Path) -> ! {
    // SAFETY: sets a timer of this process and touches no memory.
    unsafe { libc::alarm(LIVES_SECONDS) };
    let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("churn")).expect("a segment");
    // The one thread that stays.
    let steady = heartbeat.register("exec-steady").expect("a slot");
    for parent in 0..PARENTS {
        let heartbeat = heartbeat.clone();
        let bear = move || {
            loop {
                let heartbeat = heartbeat.clone();
                let live = move || {
                    let beat = heartbeat.register(&format!("exec-s{parent}")).expect("a slot");
                    beat.end(beat.begin(Work::new(1)));
                    beat.leave();
                };
                let child = std::thread::Builder::new().stack_size(64 << 10).spawn(live).expect("a thread");
                child.join().expect("it ends in good order");
            }
        };
        std::thread::Builder::new().spawn(bear).expect("a thread");
    }
    heartbeat.set_state(ProcessState::Running);
    println!("churning");
    loop {
        steady.end(steady.begin(Work::new(2)));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
