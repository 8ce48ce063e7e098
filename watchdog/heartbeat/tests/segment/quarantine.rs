//! The reverse direction: work that the watchdog withholds from the process.

use std::os::unix::fs::FileExt;

use shard_heartbeat::layout::{H_QUARANTINE, H_QUARANTINE_KEYS, H_QUARANTINE_LEN, MAX_QUARANTINE};
use shard_heartbeat::{Heartbeat, Quarantine, SegmentOptions, WatchdogBeat};

use super::Bench;

#[test]
fn the_process_reads_what_the_sidecar_keeps_from_it() {
    let bench = Bench::new();
    assert!(bench.heartbeat.quarantine().keys().is_empty());
    let mut watchdog = WatchdogBeat::claim(&bench.path()).unwrap();
    assert!(bench.heartbeat.quarantine().keys().is_empty());
    watchdog.keep_from(Quarantine::of(&[7, u64::MAX])).unwrap();
    let read = bench.heartbeat.quarantine();
    assert_eq!(read.keys(), [7, u64::MAX]);
    assert!(read.contains(7) && !read.contains(8) && !read.contains(0));
    watchdog.keep_from(Quarantine::default()).unwrap();
    assert!(bench.heartbeat.quarantine().keys().is_empty());
}

#[test]
fn the_next_incarnation_has_it_from_its_beginning_and_the_sidecars_own_with_its_first_beat() {
    let bench = Bench::new();
    let mut watchdog = WatchdogBeat::claim(&bench.path()).unwrap();
    watchdog.keep_from(Quarantine::of(&[7])).unwrap();
    let path = bench.path();
    drop(bench.heartbeat);
    let next = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
    assert_eq!(next.quarantine().keys(), [7], "it stood in the segment that was replaced");
    watchdog.keep_from(Quarantine::of(&[8])).unwrap();
    assert_eq!(next.quarantine().keys(), [7], "written into the old file");
    assert!(watchdog.follow().unwrap());
    assert_eq!(next.quarantine().keys(), [8]);
}

#[test]
fn the_next_sidecar_begins_with_what_it_knows_itself() {
    let bench = Bench::new();
    let mut first = WatchdogBeat::claim(&bench.path()).unwrap();
    first.keep_from(Quarantine::of(&[7])).unwrap();
    drop(first);
    let _second = WatchdogBeat::claim(&bench.path()).unwrap();
    assert!(bench.heartbeat.quarantine().keys().is_empty());
}

#[test]
fn of_too_many_the_latest_are_kept_and_zero_is_none() {
    let many: Vec<u64> = (0..20).collect();
    let kept = Quarantine::of(&many);
    assert_eq!(kept.keys(), &many[20 - MAX_QUARANTINE..]);
    assert!(Quarantine::of(&[0, 0]).keys().is_empty());
}

#[test]
fn a_list_that_is_absurd_or_half_written_harms_nobody() {
    let bench = Bench::new();
    let file = std::fs::File::options().write(true).open(bench.path()).unwrap();
    let put = |offset: usize, word: u64| file.write_all_at(&word.to_le_bytes(), offset as u64).unwrap();
    put(H_QUARANTINE_LEN, u64::MAX);
    (0..MAX_QUARANTINE).for_each(|at| put(H_QUARANTINE_KEYS + 8 * at, at as u64));
    assert_eq!(bench.heartbeat.quarantine().keys(), [1, 2, 3, 4, 5, 6, 7]);
    put(H_QUARANTINE, 5);
    assert!(bench.heartbeat.quarantine().keys().is_empty(), "a sidecar stopped in the middle");
    let mut watchdog = WatchdogBeat::claim(&bench.path()).unwrap();
    watchdog.keep_from(Quarantine::of(&[9])).unwrap();
    assert_eq!(bench.heartbeat.quarantine().keys(), [9], "the next one makes it good");
}
