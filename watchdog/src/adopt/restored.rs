//! Whether a process that maps the segment but started at another time than its writer is that
//! writer, restored from a checkpoint (docs/adr/028).
//!
//! A restored process has its former pid and thread ids, maps the same file for writing, and all of
//! its tasks have new start times. A forked child has another pid and does not map the file; a
//! program run by `exec` does not map it; a process that reuses the pid of a dead writer neither
//! maps its file for writing nor has its threads.

use std::path::Path;

use shard_heartbeat::{Reader, Sample, SlotState};

use crate::probe::segment::is_claimed;
use crate::probe::start_times::StartTimes;
use crate::probe::task::TaskDir;

use super::mapping::Mapping;
use super::misfit::Misfit;

/// The start times of a restored writer's threads; otherwise, why it is not one.
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

/// Id in its innermost pid namespace, as the segment names it, and start time of each task.
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use std::sync::mpsc::channel;

    use shard_heartbeat::{Heartbeat, SegmentOptions};

    use super::*;

    /// The segment of a writer with two registered threads and one that has left, and the ids of
    /// the three in this order.
    fn segment(folder: &Path) -> (Reader, [u64; 3]) {
        let path = folder.join("0.heartbeat");
        let heartbeat = Heartbeat::create(&path, &SegmentOptions::new("0")).unwrap();
        let (told, tids) = channel();
        for name in ["exec-s0", "exec-s1", "exec-s2"] {
            let (heartbeat, told) = (heartbeat.clone(), told.clone());
            let thread = std::thread::spawn(move || {
                let thread = heartbeat.register(name).unwrap();
                told.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
                if name == "exec-s2" {
                    thread.leave();
                } else {
                    // Dropping it would report that.
                    let _claimed = std::mem::ManuallyDrop::new(thread);
                }
            });
            thread.join().unwrap();
        }
        let tids: Vec<u64> = tids.try_iter().map(|tid| u64::try_from(tid).unwrap()).collect();
        (Reader::open(&path).unwrap(), [tids[0], tids[1], tids[2]])
    }

    /// A process with tasks of these ids in its own pid namespace, started at these ticks.
    fn process(tasks: &[(u64, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (innermost, began) in tasks {
            let outside = innermost + 50_000;
            let task = folder.path().join("task").join(outside.to_string());
            std::fs::create_dir_all(&task).unwrap();
            let stat =
                format!("{outside} (x) S 1 1 1 0 -1 0 {}{began} {}\n", "0 ".repeat(12), "0 ".repeat(30));
            std::fs::write(task.join("stat"), stat).unwrap();
            let status = format!(
                "Name:\tx\nState:\tS (sleeping)\nTgid:\t1\nNgid:\t0\nPid:\t{outside}\nPPid:\t1\nTracerPid:\t0\nUid:\t0\t0\t0\t0\n\
                 Gid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0\nNSpid:\t{outside}\t{innermost}\nThreads:\t2\nSigQ:\t0/1\nSigPnd:\t0\n\
                 ShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\n"
            );
            std::fs::write(task.join("status"), status).unwrap();
        }
        folder
    }

    #[test]
    fn a_process_with_all_threads_of_the_segment_is_its_writer_and_each_thread_began_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, [first, second, _]) = segment(folder.path());
        let restored = process(&[(first, 901), (second, 902), (7, 900)]);
        let times = start_times(&reader, restored.path(), Mapping::Writes, 0).unwrap();
        assert!(times.is_restored());
        let mut sample = Sample::default();
        reader.sample(&mut sample).unwrap();
        assert_eq!(times.of(first, sample.threads[0].start_time).ticks, 901);
        assert_eq!(times.of(second, sample.threads[1].start_time).ticks, 902);
    }

    #[test]
    fn whoever_lacks_threads_or_does_not_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, [first, second, left]) = segment(folder.path());
        let told = |tasks: &[(u64, u64)], mapping| {
            start_times(&reader, process(tasks).path(), mapping, 0).unwrap_err()
        };
        let all = [(first, 901), (second, 902)];
        assert_eq!(told(&all, Mapping::Reads), Misfit::OtherStart, "a stranger that looks into the file");
        assert_eq!(
            told(&[(7, 900), (left, 903)], Mapping::Writes),
            Misfit::OtherStart,
            "none of its threads"
        );
        let part = told(&all[..1], Mapping::Writes);
        assert_eq!(part, Misfit::RestoredInPart { found: 1, all: 2 });
        assert!(part.to_string().contains("restored from a checkpoint"), "{part}");
        assert_eq!(told(&[], Mapping::Writes), Misfit::OtherStart);
    }
}
