//! Whether a process that maps the segment and began at another time than its writer is that writer, restored from a
//! checkpoint (docs/adr/028).
//!
//! A restored process has the pid and the thread ids that it had, maps the same file for writing, and all of its tasks
//! began anew. A forked child has another pid and does not map the file; a program run by `exec` does not map it; whoever
//! gets the pid of a dead writer neither maps its file for writing nor has its threads.

use std::path::Path;

use shard_heartbeat::{Reader, Sample, SlotState};

use crate::probe::segment::is_claimed;
use crate::probe::start_times::StartTimes;
use crate::probe::task::TaskDir;

use super::mapping::Mapping;
use super::misfit::Misfit;

/// The start times of a restored writer's threads; else why it is none.
///
/// `offset`: ticks by which the clock of the process differs.
pub(super) fn start_times(
    reader: &Reader,
    proc_dir: &Path,
    mapping: Mapping,
    offset: i64,
) -> Result<StartTimes, Misfit> {
    let mut sample = Sample::default();
    if mapping != Mapping::Writes || reader.sample(&mut sample).is_err() {
        return Err(Misfit::OtherStart);
    }
    let tasks = tasks(proc_dir);
    let began = |tid: u64| tasks.iter().find(|(theirs, _)| *theirs == tid).map(|(_, began)| *began);
    let mut known = Vec::new();
    let mut all = 0;
    for slot in sample.threads.iter().filter(|slot| is_claimed(slot) && slot.claim == SlotState::Live) {
        all += 1;
        known.extend(began(slot.tid).map(|began| ((slot.tid, slot.start_time), began)));
    }
    let found = known.len();
    if found == 0 {
        return Err(Misfit::OtherStart);
    }
    if found < all {
        return Err(Misfit::RestoredInPart { found, all });
    }
    let lanes = sample.threads.iter().flat_map(|slot| &slot.lanes.lanes);
    let lanes = lanes.filter(|lane| lane.state == SlotState::Live);
    known.extend(lanes.filter_map(|lane| Some(((lane.tid, lane.start_time), began(lane.tid)?))));
    Ok(StartTimes::shifted(offset).restored(known))
}

/// Id in its innermost pid namespace, which the segment names, and start time of each task.
fn tasks(proc_dir: &Path) -> Vec<(u64, u64)> {
    let Ok(entries) = std::fs::read_dir(proc_dir.join("task")) else { return Vec::new() };
    let task = |entry: std::fs::DirEntry| {
        let dir = TaskDir::open(&entry.path()).ok()?;
        let stat = dir.stat().ok()??;
        let innermost = dir.status()?.nspid?.last().copied()?;
        Some((u64::try_from(innermost).ok()?, stat.start_time))
    };
    entries.filter_map(Result::ok).filter_map(task).collect()
}
