//! A target that claims every slot, with a worker in every lane: its claims must not cost the
//! sidecar the descriptors that it needs for everything else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::os::fd::AsFd;
use std::path::Path;

use shard_heartbeat::layout::MAX_SLOTS;
use shard_heartbeat::{Heartbeat, ProcessState, Reader, SegmentOptions, Work};
use shard_watchdog::clock::Monotonic;
use shard_watchdog::observation::{Observation, Presence};
use shard_watchdog::probe::handle::TargetHandle;
use shard_watchdog::probe::start_times::StartTimes;
use shard_watchdog::probe::task::TaskDir;
use shard_watchdog::probe::{Adopted, Probe, ThreadEvents};
use shard_watchdog::snapshot::TargetIdentity;

/// The most descriptors that threads may use here.
const MOST: usize = 300;
/// Descriptors for the target, the segment, and a folder of `/proc` that is being read.
const BESIDES: usize = 16;
const LANES: u32 = 16;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn adopted(segment: &Path) -> Adopted {
    let segment = Reader::open(segment).unwrap();
    let proc_dir = Path::new("/proc").join(std::process::id().to_string());
    let pid = i32::try_from(std::process::id()).unwrap();
    let leader = TaskDir::open(&proc_dir.join("task").join(pid.to_string())).unwrap();
    let start_time = leader.stat().unwrap().unwrap().start_time;
    let identity = TargetIdentity { pid, start_time, incarnation: segment.header().incarnation };
    let handle = TargetHandle::open(Path::new("/proc"), identity, segment.as_fd(), Monotonic(0)).unwrap();
    let segment = Some(segment);
    Adopted {
        handle,
        segment,
        proc_dir,
        leader,
        other_pid_namespace: false,
        sight: None,
        start_times: StartTimes::default(),
    }
}

#[test]
fn every_slot_and_every_lane_claimed_leaves_the_reserve_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment");
    let options = SegmentOptions { thread_slots: MAX_SLOTS, lanes: LANES, ..SegmentOptions::new("hostile") };
    let heartbeat = Heartbeat::create(&path, &options).unwrap();
    heartbeat.set_state(ProcessState::Running);
    // One living thread claims them all; a hostile target can write no more than that.
    let beats: Vec<_> = (0..MAX_SLOTS).map(|_| heartbeat.register("exec-s0").unwrap()).collect();
    let lanes: Vec<_> =
        beats.iter().flat_map(|beat| (1..LANES).map(|_| beat.lanes().join().unwrap())).collect();
    let works: Vec<_> = beats.iter().map(|beat| beat.begin(Work::new(7))).collect();
    let before = open_files();
    let mut probe = Probe::new(ThreadEvents::Pidfd).unwrap().keeping_open(MOST);
    probe.adopt(adopted(&path)).unwrap();
    let mut seen = Observation::default();
    // Enough observations to open all that may be opened, and to retry what found no room.
    for second in 1..=12 {
        probe.observe(Monotonic(second * 1_000_000_000), &mut seen);
        let held = open_files() - before;
        assert!(held <= MOST + BESIDES, "{held} in look {second}");
    }
    assert_eq!(seen.threads.len(), MAX_SLOTS as usize);
    let unopened = seen.threads.iter().filter(|thread| thread.presence == Presence::Unopened).count();
    assert_eq!(
        unopened,
        MAX_SLOTS as usize - MOST / 2,
        "the others are watched, and said to be out of sight"
    );
    let blind = |thread: &&shard_watchdog::observation::ThreadObservation| {
        thread.workers.iter().any(|worker| worker.presence == Presence::Unopened)
    };
    assert!(seen.threads.iter().filter(blind).count() > 0, "so are workers");
    drop((lanes, works));
}
