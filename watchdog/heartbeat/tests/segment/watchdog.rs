//! The reverse direction: the process can tell whether a sidecar watches it.

use std::time::{Duration, Instant};

use shard_heartbeat::{ClaimError, Heartbeat, ReadError, SegmentOptions, WatchdogBeat, WatchdogMonitor};

use super::Bench;

#[test]
fn never_seen_is_not_silent() {
    let bench = Bench::new();
    let mut monitor = WatchdogMonitor::new(&bench.heartbeat);
    assert_eq!(monitor.age(), None);
    assert_eq!(bench.heartbeat.watchdog().beat, 0);
}

#[test]
fn silence_is_counted_from_the_last_beat_seen() {
    let bench = Bench::new();
    let mut monitor = WatchdogMonitor::new(&bench.heartbeat);
    let mut watchdog = WatchdogBeat::claim(&bench.path()).unwrap();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(monitor.age_at(at(0)), Some(Duration::ZERO));
    assert_eq!(monitor.age_at(at(3)), Some(Duration::from_secs(3)));
    watchdog.beat().unwrap();
    assert_eq!(monitor.age_at(at(4)), Some(Duration::ZERO));
    drop(watchdog);
    assert_eq!(monitor.age_at(at(9)), Some(Duration::from_secs(5)));
    let seen = bench.heartbeat.watchdog();
    assert_eq!(seen.pid, u64::from(std::process::id()));
    assert_eq!(seen.start_time, bench.reader.header().start_time);
}

#[test]
fn the_next_sidecars_first_beat_is_a_change() {
    let bench = Bench::new();
    let mut first = WatchdogBeat::claim(&bench.path()).unwrap();
    first.beat().unwrap();
    let before = bench.heartbeat.watchdog().beat;
    drop(first);
    let _second = WatchdogBeat::claim(&bench.path()).unwrap();
    assert!(bench.heartbeat.watchdog().beat > before);
}

#[test]
fn the_sidecar_follows_a_new_incarnation() {
    let bench = Bench::new();
    let mut watchdog = WatchdogBeat::claim(&bench.path()).unwrap();
    assert!(!watchdog.follow().unwrap());
    let path = bench.path();
    drop(bench.heartbeat);
    let next = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
    watchdog.beat().unwrap();
    assert_eq!(next.watchdog().beat, 0, "it still beats into the old file");
    assert!(watchdog.follow().unwrap());
    assert!(next.watchdog().beat > 0);
}

#[test]
fn a_beat_does_not_make_a_truncated_segment_grow() {
    let bench = Bench::new();
    let path = bench.path();
    // A copy of the mapped file, not the file itself: truncation would end its writer by SIGBUS.
    let copy = bench.folder.path().join("copy.heartbeat");
    std::fs::copy(&path, &copy).unwrap();
    let mut watchdog = WatchdogBeat::claim(&copy).unwrap();
    std::fs::File::options().write(true).open(&copy).unwrap().set_len(16).unwrap();
    let refused = watchdog.beat().unwrap_err();
    assert!(matches!(refused, ClaimError::Segment(ReadError::Truncated { .. })), "{refused}");
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), 16);
}

#[test]
fn what_is_no_segment_is_not_claimed_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let text = "x".repeat(10_000);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(WatchdogBeat::claim(&path).unwrap_err(), ClaimError::Segment(ReadError::Magic { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let absent = WatchdogBeat::claim(&folder.path().join("absent")).unwrap_err();
    assert!(matches!(absent, ClaimError::Segment(ReadError::Io { .. })), "{absent}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "not even a lock file was made");
}
