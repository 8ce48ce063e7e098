//! The cost of the checks before a signal, on a real process and by the sidecar's own code. No
//! signal is sent.

use std::path::Path;
use std::time::Instant;

use shard_heartbeat::Reader;
use shard_watchdog::act::pidfd::prove;
use shard_watchdog::adopt::{Wanted, check};
use shard_watchdog::clock::now;
use shard_watchdog::probe::{Probe, ThreadEvents};

/// Checks per adoption. Nothing here checks again whether the segment is still mapped, so they must
/// finish before the adoption's own check is too old to count.
const A_TIME: usize = 20;

/// Times the checks for the process that writes `heartbeat`, `count` times, in microseconds.
pub fn times(heartbeat: &Path, shard: &str, count: usize) -> Vec<f64> {
    let mut took = Vec::with_capacity(count);
    while took.len() < count {
        let probe = adopt(heartbeat, shard);
        let handle = probe.handle().expect("a target");
        for _ in 0..A_TIME.min(count - took.len()) {
            let began = Instant::now();
            if prove(handle, now()).is_ok() {
                took.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    took
}

/// A probe that watches the process which writes `heartbeat`.
pub fn adopt(heartbeat: &Path, shard: &str) -> Probe {
    let mut probe = Probe::new(ThreadEvents::Pidfd).expect("a probe");
    let wanted = Wanted {
        shard: shard.to_owned(),
        heartbeat: heartbeat.to_owned(),
        user: None,
        systemd_unit: None,
        apart: false,
        proc_root: "/proc".into(),
    };
    let reader = Reader::open(heartbeat).expect("a segment");
    probe.adopt(check::adopt(reader, &wanted).expect("its owner")).expect("it can be watched");
    probe
}
