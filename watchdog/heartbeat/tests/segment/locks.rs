//! One writer and one sidecar, whoever else tries, and the next one as soon as the first is dead.

use shard_heartbeat::{ClaimError, CreateError, Heartbeat, Reader, SegmentOptions, WatchdogBeat};

use super::Bench;
use super::second::Second;

#[test]
fn second_writer_is_refused() {
    let bench = Bench::new();
    let refused = Heartbeat::create(&bench.path(), &SegmentOptions::default()).unwrap_err();
    assert!(
        matches!(refused, CreateError::Held { pid: Some(pid), .. } if pid == std::process::id()),
        "{refused}"
    );
    let (_second, said) = Second::start("writer", &bench.path());
    assert!(said.contains("another writer") && said.contains(&std::process::id().to_string()), "{said}");
    assert!(bench.reader.is_current().unwrap(), "a refused writer has replaced nothing");
}

#[test]
fn a_refused_writer_does_not_give_the_lock_away() {
    let bench = Bench::new();
    // Another name for the same folder: the lock file counts, not its path.
    let link = bench.folder.path().join("folder");
    std::os::unix::fs::symlink(bench.folder.path(), &link).unwrap();
    for path in [bench.path(), link.join("0.heartbeat")] {
        assert!(Heartbeat::create(&path, &SegmentOptions::default()).is_err());
        let (_second, said) = Second::start("writer", &path);
        assert!(said.contains("another writer"), "{said}");
    }
}

#[test]
fn the_lock_ends_with_the_last_handle() {
    let bench = Bench::new();
    let incarnation = bench.heartbeat.incarnation();
    let (path, folder) = (bench.path(), bench.folder);
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    drop(bench.heartbeat);
    assert!(
        Heartbeat::create(&path, &SegmentOptions::default()).is_err(),
        "a registered thread is a handle too"
    );
    beat.leave();
    assert!(path.exists(), "the file tells what was");
    let next = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
    assert!(next.incarnation() > incarnation);
    assert!(!bench.reader.is_current().unwrap());
    drop(folder);
}

#[test]
fn a_dead_writer_keeps_nobody_out_even_while_its_child_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    let (mut first, child) = Second::start("writer with a child", &path);
    assert!(matches!(
        Heartbeat::create(&path, &SegmentOptions::default()).unwrap_err(),
        CreateError::Held { pid: Some(pid), .. } if pid == first.0.id()
    ));
    first.kill();
    let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
    rustix::process::test_kill_process(child).expect("the child outlives the writer");
    let next = Heartbeat::create(&path, &SegmentOptions::default());
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    next.unwrap();
}

#[test]
fn second_sidecar_is_refused() {
    let bench = Bench::new();
    let mut first = WatchdogBeat::claim(&bench.path()).unwrap();
    let refused = WatchdogBeat::claim(&bench.path()).unwrap_err();
    assert!(
        matches!(refused, ClaimError::Held { pid: Some(pid), .. } if pid == std::process::id()),
        "{refused}"
    );
    let (_second, said) = Second::start("watchdog", &bench.path());
    assert!(said.contains("another watchdog") && said.contains(&std::process::id().to_string()), "{said}");
    first.beat().unwrap();
    drop(first);
    let (mut second, said) = Second::start("watchdog", &bench.path());
    assert_eq!(said, "claimed");
    assert!(matches!(
        WatchdogBeat::claim(&bench.path()).unwrap_err(),
        ClaimError::Held { pid: Some(pid), .. } if pid == second.0.id()
    ));
    second.kill();
    WatchdogBeat::claim(&bench.path()).unwrap();
}

#[test]
fn a_lock_file_that_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    let elsewhere = folder.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, folder.path().join("0.heartbeat.lock")).unwrap();
    let refused = Heartbeat::create(&path, &SegmentOptions::default()).unwrap_err();
    assert!(matches!(refused, CreateError::Io { .. }), "{refused}");
    assert!(!elsewhere.exists(), "a symbolic link was followed");
}

#[test]
fn a_link_in_the_segments_place_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("0.heartbeat"), folder.path().join("elsewhere"));
    std::fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let _heartbeat = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    Reader::open(&path).unwrap();
}

#[test]
fn what_a_writer_left_half_made_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    std::fs::write(folder.path().join(".0.heartbeat.new"), "half").unwrap();
    let _heartbeat = Heartbeat::create(&path, &SegmentOptions::default()).unwrap();
    Reader::open(&path).unwrap();
    assert!(!folder.path().join(".0.heartbeat.new").exists());
}

#[test]
fn a_segment_is_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let meta = std::fs::metadata(bench.path()).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert_eq!(bench.reader.owner_uid(), meta.uid());
    assert_eq!(bench.reader.file_id().inode, meta.ino());
}
