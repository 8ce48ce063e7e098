//! A process whose threads come and go in good order, as fast as they can: each registers, does one
//! piece of work, leaves, and ends. Whoever looks at it between two of these steps must not take an
//! end for a loss.

use std::path::Path;

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work};

/// Threads that start one such thread after the other.
const PARENTS: usize = 2;
/// It ends by itself after so many seconds, should the harness be gone.
const LIVES_SECONDS: u32 = 120;

/// What the process does until somebody ends it.
pub fn be(segment: &Path) -> ! {
    // SAFETY: sets a timer of this process and touches no memory.
    unsafe { libc::alarm(LIVES_SECONDS) };
    let heartbeat = Heartbeat::create(segment, &SegmentOptions::new("churn")).expect("a segment");
    // The one that stays.
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
