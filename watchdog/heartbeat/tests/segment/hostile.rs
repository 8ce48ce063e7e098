//! Any bytes result in a value or a typed error, in bounded time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use shard_heartbeat::layout::{self, H_CHANNEL_HIGH_WATER, H_LANES, H_PID, H_SHARD_LEN, H_THREAD_HIGH_WATER};
use shard_heartbeat::{Description, ReadError, Reader, Sample, SegmentOptions, SlotState, WatchdogBeat};

use super::Bench;

/// Far more than reading the largest allowed segment takes; the point is that it ends.
const BOUND: Duration = Duration::from_secs(5);

/// Everything a sidecar does with a file. True if both its reader and its beat accepted it as a
/// segment.
fn look_at(path: &Path) -> bool {
    let start = Instant::now();
    let claim = WatchdogBeat::claim(path).is_ok();
    let Ok(reader) = Reader::open(path) else { return false };
    let mut sample = Sample::default();
    if reader.sample(&mut sample).is_ok() {
        assert!(sample.threads.len() <= reader.header().thread_slots as usize);
        assert!(sample.channels.len() <= reader.header().channel_slots as usize);
        for thread in &sample.threads {
            assert!(thread.lanes.lanes.len() < reader.header().lanes as usize);
            let _ = thread.lanes.fingerprint();
        }
        for channel in &sample.channels {
            let _ = channel.depth();
        }
    }
    for slot in [0, 1, 63, 64, usize::MAX] {
        if let Ok(Some(Description { name, .. })) = reader.describe(slot) {
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
        if let Ok(Some(name)) = reader.describe_channel(slot) {
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
    }
    if let Ok(Some(told)) = reader.last_words() {
        assert!(!told.text.chars().any(|c| c != '\n' && c.is_control()), "{told:?}");
        assert!(told.text.len() <= 6 * layout::MAX_LAST_WORDS && told.tid >= 0);
    }
    assert!(!reader.header().shard.chars().any(char::is_control));
    assert!(start.elapsed() < BOUND);
    claim
}

/// The bytes of a good segment.
fn good() -> Vec<u8> {
    let bench = Bench::with(&SegmentOptions {
        thread_slots: 4,
        channel_slots: 4,
        lanes: 2,
        ..SegmentOptions::new("s")
    });
    let _beat = bench.heartbeat.register("exec-s0").unwrap();
    std::fs::read(bench.path()).unwrap()
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(bytes, 0).unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 16 {
            put(&mut bytes, layout::H_MAGIC, layout::MAGIC);
            put(&mut bytes, layout::H_VERSION, layout::VERSION);
        }
        look_at(file(&bytes).path());
    }

    #[test]
    fn a_good_header_over_arbitrary_slots_is_read(seed in proptest::collection::vec(any::<u64>(), 64)) {
        let mut bytes = good();
        let words = bytes.len() / 8;
        let changing = layout::H_STATE / 8;
        for index in changing..words {
            // Not periodic in any stride, with small numbers as common as large ones.
            let value = seed[(index * index + index / 7) % seed.len()].rotate_left((index % 64) as u32);
            put(&mut bytes, index * 8, if index % 3 == 0 { value % 7 } else { value });
        }
        prop_assert!(look_at(file(&bytes).path()));
    }

    #[test]
    fn one_changed_header_word_is_read_or_refused(offset in 0..layout::H_STATE / 8, value: u64, small in 0_u64..5000) {
        for value in [value, small] {
            let mut bytes = good();
            put(&mut bytes, offset * 8, value);
            look_at(file(&bytes).path());
        }
    }

    #[test]
    fn any_length_is_read_or_refused(length in 0_usize..7000) {
        let bytes = good();
        let length = length.min(bytes.len());
        prop_assert_eq!(look_at(file(&bytes[..length]).path()), length == bytes.len());
    }
}

#[test]
fn truncated_segment_is_an_error() {
    let bytes = good();
    let file = file(&bytes);
    let reader = Reader::open(file.path()).unwrap();
    let mut sample = Sample::default();
    reader.sample(&mut sample).unwrap();
    for length in [bytes.len() as u64 / 2, layout::HEADER_SIZE as u64 + 8, 4096, 200, 8, 0] {
        file.as_file().set_len(length).unwrap();
        let error = reader.sample(&mut sample).unwrap_err();
        assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
        let again = Reader::open(file.path()).unwrap_err();
        assert!(matches!(again, ReadError::Truncated { .. }), "{again}");
    }
    assert!(matches!(reader.describe(0).unwrap_err(), ReadError::Truncated { .. }));
    assert!(matches!(reader.describe_channel(0).unwrap_err(), ReadError::Truncated { .. }));
}

#[test]
fn each_lie_in_the_header_is_named() {
    for (offset, value, named) in [
        (layout::H_MAGIC, 0, "not a heartbeat segment"),
        (layout::H_VERSION, 0, "version 0"),
        (layout::H_VERSION, 2, "version 2"),
        (layout::H_HEADER_SIZE, 64, "header_size"),
        (layout::H_TOTAL_SIZE, u64::MAX, "total_size"),
        (layout::H_THREAD_SLOTS, 1 << 40, "thread_slots"),
        (layout::H_THREAD_SLOTS, 0, "thread_slots"),
        (layout::H_THREAD_STRIDE, 8, "thread_stride"),
        (layout::H_THREAD_OFFSET, 0, "thread_offset"),
        (H_LANES, 129, "lanes"),
        (layout::H_CHANNEL_SLOTS, 4097, "channel_slots"),
        (layout::H_CHANNEL_STRIDE, 0, "channel_stride"),
        (layout::H_CHANNEL_OFFSET, 0, "channel_offset"),
        (H_PID, 0, "pid"),
        (H_PID, 1 << 31, "pid"),
        (H_SHARD_LEN, 33, "shard_len"),
    ] {
        let mut bytes = good();
        put(&mut bytes, offset, value);
        let file = file(&bytes);
        let told = Reader::open(file.path()).unwrap_err().to_string();
        assert!(told.contains(named) && told.contains(file.path().to_str().unwrap()), "{named}: {told}");
    }
}

#[test]
fn a_high_water_mark_beyond_the_slots_reads_the_slots() {
    let mut bytes = good();
    put(&mut bytes, H_THREAD_HIGH_WATER, u64::MAX);
    put(&mut bytes, H_CHANNEL_HIGH_WATER, u64::MAX);
    put(&mut bytes, layout::HEADER_SIZE + layout::T_LANE_HIGH_WATER, u64::MAX);
    let file = file(&bytes);
    let mut sample = Sample::default();
    Reader::open(file.path()).unwrap().sample(&mut sample).unwrap();
    assert_eq!((sample.threads.len(), sample.channels.len(), sample.threads[0].lanes.lanes.len()), (4, 4, 1));
}

#[test]
fn unknown_codes_are_kept_as_they_are() {
    let mut bytes = good();
    put(&mut bytes, layout::H_STATE, 99);
    put(&mut bytes, layout::HEADER_SIZE + layout::T_CLAIM, 5 << 8 | 77);
    let file = file(&bytes);
    let mut sample = Sample::default();
    Reader::open(file.path()).unwrap().sample(&mut sample).unwrap();
    assert_eq!((sample.state.0, sample.state.known()), (99, None));
    assert_eq!((sample.threads[0].claim, sample.threads[0].generation), (SlotState::Unknown(77), 5));
}

#[test]
fn a_stamp_that_never_settles_is_given_up() {
    let mut bytes = good();
    put(&mut bytes, layout::HEADER_SIZE + layout::T_SEQUENCE, 5);
    let file = file(&bytes);
    assert_eq!(Reader::open(file.path()).unwrap().describe(0).unwrap(), None);
}

#[test]
fn only_a_regular_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let target = file(&good());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(target.path(), &link).unwrap();
    for path in [pipe.as_path(), link.as_path(), folder.path(), Path::new("/dev/zero")] {
        let error = Reader::open(path).unwrap_err();
        assert!(matches!(error, ReadError::NotRegular { .. }), "{error}");
    }
    let absent = Reader::open(&folder.path().join("absent")).unwrap_err();
    assert!(
        matches!(&absent, ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
        "{absent}"
    );
}

#[test]
fn a_segment_that_changes_while_it_is_read_never_panics() {
    let bytes = good();
    let file = file(&bytes);
    let reader = Reader::open(file.path()).unwrap();
    let handle: File = file.reopen().unwrap();
    let end = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1_u64;
            while Instant::now() < end {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let offset = (state >> 20) % bytes.len() as u64;
                match state >> 60 {
                    0 => handle.set_len(offset).unwrap(),
                    1..5 => handle.write_all_at(&bytes, 0).unwrap(),
                    _ => handle.write_all_at(&state.to_le_bytes(), offset).unwrap(),
                }
            }
        });
        let mut sample = Sample::default();
        while Instant::now() < end {
            let _ = reader.sample(&mut sample);
            let _ = (reader.describe(0), reader.describe_channel(0));
            look_at(file.path());
        }
    });
}
