//! An hour of a busy shard as a `[recorder]` file, made without taking the hour: `replay` is timed
//! on it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use shard_watchdog::act::budget::Past;
use shard_watchdog::clock::{Monotonic, WallAnchor};
use shard_watchdog::observation::{
    Declared, Observation, ProcessObservation, TaskObservation, TaskState, ThreadObservation,
};
use shard_watchdog::recorder::{Recorder, file};
use shard_watchdog::snapshot::TargetIdentity;

/// The highest possible rate of observations.
pub const LOOKS_PER_SECOND: u64 = 250;
/// Threads, all of them at work and making progress.
pub const THREADS: u32 = 8;

const MILLI: u64 = 1_000_000;
const BEGAN: Monotonic = Monotonic(3_600_000 * MILLI);

/// Writes `seconds` of it to `path`. Returns the number of observations in it.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, seconds: u64) -> io::Result<u64> {
    let mut recorder = Recorder::new(BEGAN, Past::default(), false);
    let mut seen = beginning();
    let anchor = WallAnchor::now();
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    file.write_all(&file::write_beginning(&recorder.copy(BEGAN), "0", &anchor))?;
    let mut whole = Vec::new();
    let mut keep = |recorder: &mut Recorder, at: Monotonic| {
        while let Some((excerpt, _)) = recorder.take_whole(at) {
            whole.clear();
            excerpt.chunks.iter().for_each(|chunk| file::with_checksum(chunk, &mut whole));
            file.write_all(&whole)?;
        }
        io::Result::Ok(())
    };
    let looks = seconds * LOOKS_PER_SECOND;
    for look in 0..looks {
        go_on(&mut seen, look);
        recorder.look(&seen);
        keep(&mut recorder, seen.at)?;
    }
    recorder.end();
    keep(&mut recorder, seen.at)?;
    file.flush()?;
    assert_eq!(recorder.dropped(), 0, "all of it was recorded");
    Ok(looks)
}

fn beginning() -> Observation {
    let identity = TargetIdentity { pid: 4_711, start_time: 1, incarnation: 1 };
    let process = ProcessObservation {
        declared: Declared::Running,
        leader: Some(TaskState::Sleeping),
        ..ProcessObservation::blank(identity)
    };
    let thread = |slot| ThreadObservation {
        activity: 1,
        work_key: 19_000_000,
        attempt: 1,
        ..ThreadObservation::blank(slot, 1, format!("exec-s0-w{slot}").into(), 4_712)
    };
    let threads = (0..THREADS).map(thread).collect();
    Observation { at: BEGAN, process: Some(process), threads, ..Observation::default() }
}

/// The next observation: every thread has progressed, and the kernel was asked about one of them.
fn go_on(seen: &mut Observation, look: u64) {
    seen.at.0 += 4 * MILLI + look % 97;
    for thread in &mut seen.threads {
        thread.progress += 90 + look % 7;
        thread.activity += 2;
    }
    if let Some(first) = seen.threads.first_mut() {
        first.task = Some(TaskObservation {
            state: TaskState::Running,
            cpu_ns: Some(look * 4 * MILLI),
            run_delay_ns: Some(look * 1_000),
            wait: None,
        });
    }
}
