//! A process with a watched thread and two fault points, which anybody may break who runs as its
//! user.
//!
//! ```sh
//! cargo run -p shard-heartbeat --features faults --example faults -- /tmp/app.heartbeat /tmp/app.faults
//! shard-watchdog inject --socket /tmp/app.faults hang at commit --yes-break-it    # beside a sidecar
//! echo 'arm slow 50ms at read' | nc -U /tmp/app.faults                            # or by hand
//! ```
//!
//! The path of the fault socket is left out in production: without it nobody can arm anything.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use shard_heartbeat::{Heartbeat, ProcessState, SegmentOptions, Work, faults};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let segment = arguments.next().ok_or("usage: faults SEGMENT [FAULT_SOCKET]")?;
    // As long as this lives, orders are taken.
    let _port = arguments.next().map(|socket| faults::serve(Path::new(&socket))).transpose()?;

    let heartbeat = Heartbeat::create(Path::new(&segment), &SegmentOptions::new("example"))?;
    let worker = heartbeat.clone();
    let work = move || {
        let Ok(beat) = worker.register("worker-1") else { return };
        for number in 1.. {
            let working = beat.working(Work::new(number));
            faults::point("read");
            std::thread::sleep(Duration::from_millis(5));
            faults::point("commit");
            drop(working);
        }
    };
    let worker = std::thread::Builder::new().name("worker-1".to_owned()).spawn(work)?;
    heartbeat.set_state(ProcessState::Running);
    // As many programs do, this one does not notice that its only worker is gone.
    while !worker.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
    }
    loop {
        std::thread::park_timeout(Duration::from_secs(60));
    }
}
