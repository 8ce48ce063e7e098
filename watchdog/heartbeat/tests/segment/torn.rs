//! Reads while another process writes as fast as it can.

use std::time::{Duration, Instant};

use shard_heartbeat::{Reader, Sample, Work};

use super::second::{Second, work};

/// Long enough for some hundred thousand reads; a single unguarded read is wrong about once in a
/// thousand.
const LONG: Duration = Duration::from_secs(2);

#[test]
fn a_description_is_never_torn_and_a_word_is_always_whole() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("busy.heartbeat");
    let (_writer, said) = Second::start("busy", &path);
    assert_eq!(said, "busy");
    let reader = Reader::open(&path).unwrap();
    let mut sample = Sample::default();
    let (mut told, mut untold, mut mixed, mut last) = (0_u64, 0_u64, 0_u64, (0, 0, 0));
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        match reader.describe(0).unwrap() {
            None => untold += 1,
            Some(found) if found.work_key == 0 => {}
            Some(found) => {
                told += 1;
                let count = found.work_key & 0xffff_ffff;
                let wanted = work(count);
                let deadline = Some(Duration::from_nanos(found.deadline_ns));
                let got = Work { key: found.work_key, attempt: found.attempt, deadline, trace: found.trace };
                assert_eq!(got, wanted);
                assert_eq!(found.name, "busy");
            }
        }
        reader.sample(&mut sample).unwrap();
        let thread = &sample.threads[0];
        for word in [thread.work_key, thread.attempt, thread.deadline_ns] {
            assert_eq!(word >> 32, word & 0xffff_ffff, "a torn word: {word:#x}");
        }
        mixed += u64::from(thread.work_key != thread.attempt);
        let now = (thread.activity, thread.sequence, thread.lanes.progress);
        assert!(now.0 >= last.0 && now.1 >= last.1 && now.2 >= last.2, "{now:?} after {last:?}");
        last = now;
    }
    println!("{told} descriptions, {untold} given up, {mixed} samples of two works, {} beats", last.2);
    assert!(
        told > 1000 && last.2 > 1000,
        "the test has tested nothing: {told} told, {untold} not, {} beats",
        last.2
    );
}
