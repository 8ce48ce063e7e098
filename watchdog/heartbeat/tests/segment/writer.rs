//! Threads, work, lanes and channels: what the writer does is what the reader sees.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use shard_heartbeat::{
    CreateError, Heartbeat, ProcessState, RegisterError, Sample, SegmentOptions, SlotState, TraceContext,
    Work,
};

use super::Bench;

fn own_start_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
}

#[test]
fn the_header_says_who_writes() {
    let bench = Bench::new();
    let header = bench.reader.header();
    assert_eq!(header.shard, "shard-0");
    assert_eq!(header.pid, std::process::id());
    assert_eq!((header.thread_slots, header.channel_slots, header.lanes), (64, 64, 16));
    assert_eq!(header.incarnation, bench.heartbeat.incarnation());
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().replace('-', "");
    let ours: String = header.boot_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ours, boot_id.trim());
    assert!(header.start_time > 0 && header.start_time <= own_start_time());
    assert_eq!(std::fs::metadata(bench.path()).unwrap().len(), header.total_size);
}

#[test]
fn the_segment_can_be_found_among_the_writers_mappings() {
    let bench = Bench::new();
    let id = bench.reader.file_id();
    let wanted = format!(" {:02x}:{:02x} {} ", id.dev_major, id.dev_minor, id.inode);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(
        maps.lines().any(|line| line.contains(&wanted) && line.ends_with("0.heartbeat")),
        "{wanted}\n{maps}"
    );
}

#[test]
fn every_process_state_reaches_the_reader() {
    let bench = Bench::new();
    assert_eq!(bench.sample().state.known(), Some(ProcessState::Boot));
    for state in [ProcessState::Running, ProcessState::Stopping, ProcessState::Failed, ProcessState::Boot] {
        bench.heartbeat.set_state(state);
        assert_eq!(bench.sample().state.known(), Some(state));
    }
}

#[test]
fn a_registered_thread_is_live_and_idle() {
    let bench = Bench::new();
    let _beat = bench.heartbeat.register("exec-s0").unwrap();
    let sample = bench.sample();
    assert_eq!(sample.threads.len(), 1);
    let thread = &sample.threads[0];
    assert_eq!(thread.claim, SlotState::Live);
    assert!(!thread.is_working());
    assert_eq!(thread.tid, u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()));
    assert_eq!(thread.start_time, own_start_time());
    assert_eq!(bench.reader.describe(0).unwrap().unwrap().name, "exec-s0");
    assert_eq!(bench.reader.describe(1).unwrap(), None);
    assert_eq!(bench.reader.describe(usize::MAX).unwrap(), None);
}

#[test]
fn work_is_seen_with_key_attempt_deadline_and_trace() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let trace = TraceContext { trace_id: *b"0123456789abcdef", span_id: *b"span-id!", flags: 1 };
    let work = Work::new(17).attempt(2).deadline(Duration::from_millis(5)).trace(trace);
    let guard = beat.working(work);
    let thread = bench.sample().threads.remove(0);
    assert!(thread.is_working());
    assert_eq!((thread.work_key, thread.attempt, thread.deadline_ns), (17, 2, 5_000_000));
    let told = bench.reader.describe(0).unwrap().unwrap();
    assert_eq!(told.trace, trace);
    assert_eq!((told.work_key, told.activity), (17, thread.activity));
    drop(guard);
    assert!(!bench.sample().threads[0].is_working());
}

#[test]
fn nested_work_stays_work_and_gives_the_outer_back() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let mut seen = Vec::new();
    let mut look = || {
        let thread = bench.sample().threads.remove(0);
        seen.push((thread.activity, thread.work_key, thread.attempt));
    };
    let outer = beat.working(Work::new(1).attempt(7));
    look();
    let inner = beat.working(Work::new(2).attempt(8));
    look();
    let innermost = beat.working(Work::new(3));
    look();
    drop(innermost);
    look();
    drop(inner);
    look();
    drop(outer);
    look();
    let (activities, works): (Vec<_>, Vec<_>) = seen.into_iter().map(|(a, k, t)| (a, (k, t))).unzip();
    assert_eq!(works, [(1, 7), (2, 8), (3, 0), (2, 8), (1, 7), (1, 7)]);
    assert!(activities[..5].iter().all(|activity| activity & 1 == 1), "{activities:?}");
    assert!(
        activities.windows(2).all(|pair| pair[0] < pair[1]),
        "every turn is a sign of life: {activities:?}"
    );
    assert_eq!(activities[5] & 1, 0);
}

#[test]
fn guards_dropped_out_of_order_never_leave_a_thread_working() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let outer = beat.working(Work::new(1));
    let inner = beat.working(Work::new(2));
    drop(outer);
    assert!(bench.sample().threads[0].is_working());
    drop(inner);
    assert!(!bench.sample().threads[0].is_working());
}

#[test]
fn progress_moves_the_sum_and_nothing_else() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let before = bench.sample().threads.remove(0);
    beat.progress();
    beat.progress();
    let after = bench.sample().threads.remove(0);
    assert_eq!(after.lanes.progress_sum(), before.lanes.progress_sum() + 2);
    assert_eq!(after.activity, before.activity);
}

#[test]
fn leaving_takes_the_thread_off_the_watch() {
    let bench = Bench::new();
    bench.heartbeat.register("exec-s0").unwrap().leave();
    assert_eq!(bench.sample().threads[0].claim, SlotState::Left);
}

#[test]
fn drop_marks_the_thread_gone() {
    let bench = Bench::new();
    drop(bench.heartbeat.register("exec-s0").unwrap());
    assert_eq!(bench.sample().threads[0].claim, SlotState::Dropped);
}

#[test]
fn unwinding_marks_gone_with_the_work_it_died_at() {
    let bench = Bench::new();
    let heartbeat = bench.heartbeat.clone();
    let died = thread::spawn(move || {
        let beat = heartbeat.register("exec-s0").unwrap();
        let _outer = beat.working(Work::new(41));
        let _inner = beat.working(Work::new(42).attempt(3));
        std::panic::resume_unwind(Box::new("a fault"));
    })
    .join();
    assert!(died.is_err());
    let thread = bench.sample().threads.remove(0);
    assert_eq!(thread.claim, SlotState::Dropped);
    assert!(thread.is_working(), "it did not die idle");
    assert_eq!((thread.work_key, thread.attempt), (42, 3));
}

#[test]
fn a_caught_panic_leaves_the_thread_idle_and_live() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _guard = beat.working(Work::new(1));
        std::panic::resume_unwind(Box::new("a fault"));
    }));
    assert!(caught.is_err());
    let thread = bench.sample().threads.remove(0);
    assert_eq!((thread.claim, thread.is_working()), (SlotState::Live, false));
}

#[test]
fn each_worker_has_a_lane_of_its_own() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let lanes = beat.lanes();
    let before = bench.sample().threads[0].lanes.fingerprint();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lane = lanes.join().unwrap();
                for _ in 0..100 {
                    lane.progress();
                }
                lane.leave();
            });
        }
    });
    let thread = bench.sample().threads.remove(0);
    assert_eq!(thread.lanes.fingerprint(), before + 400);
    assert!(!thread.lanes.lanes.is_empty());
    assert!(thread.lanes.lanes.iter().all(|lane| lane.state == SlotState::Left && lane.tid > 0));
}

#[test]
fn a_lane_that_is_used_again_never_goes_back() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    for round in 1..=5 {
        let lane = beat.lanes().join().unwrap();
        lane.progress();
        lane.leave();
        let thread = bench.sample().threads.remove(0);
        assert_eq!(thread.lanes.progress_sum(), round);
        assert_eq!(thread.lanes.lanes.len(), 1);
        assert_eq!(thread.lanes.lanes[0].generation, round);
    }
}

#[test]
fn a_worker_that_dies_is_seen_as_lost() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    drop(beat.lanes().join().unwrap());
    let next = beat.lanes().join().unwrap();
    let lanes = bench.sample().threads.remove(0).lanes.lanes;
    assert_eq!(
        lanes.iter().map(|lane| lane.state).collect::<Vec<_>>(),
        [SlotState::Dropped, SlotState::Live]
    );
    next.leave();
}

#[test]
fn lane_exhaustion_is_a_typed_error() {
    let bench = Bench::with(&SegmentOptions { lanes: 3, ..SegmentOptions::default() });
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let lanes = beat.lanes();
    let (_one, _two) = (lanes.join().unwrap(), lanes.join().unwrap());
    let refused = lanes.join().unwrap_err();
    assert!(matches!(refused, RegisterError::Exhausted { slots: 2, .. }), "{refused}");
}

#[test]
fn lanes_of_a_thread_that_left_admit_nobody() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let lanes = beat.lanes();
    beat.leave();
    assert!(matches!(lanes.join().unwrap_err(), RegisterError::Gone));
}

#[test]
fn slot_exhaustion_is_a_typed_error_and_only_left_slots_are_used_again() {
    let bench =
        Bench::with(&SegmentOptions { thread_slots: 3, channel_slots: 1, ..SegmentOptions::new("shard-0") });
    let first = bench.heartbeat.register("a").unwrap();
    drop(bench.heartbeat.register("b").unwrap());
    let third = bench.heartbeat.register("c").unwrap();
    let refused = bench.heartbeat.register("d").unwrap_err();
    assert!(matches!(refused, RegisterError::Exhausted { slots: 3, .. }), "{refused}");

    let lost = first.lanes();
    drop(lost.join().unwrap());
    let activity = bench.sample().threads[0].activity;
    first.leave();
    let again = bench.heartbeat.register("e").unwrap();
    let sample = bench.sample();
    assert_eq!(sample.threads[0].generation, 2);
    assert!(sample.threads[0].activity > activity, "a word never goes back");
    assert_eq!(
        sample.threads[0].lanes.lanes[0].state,
        SlotState::Left,
        "a lost worker of another's is not held against it"
    );
    assert_eq!(sample.threads[1].claim, SlotState::Dropped, "evidence stays");
    assert_eq!(bench.reader.describe(0).unwrap().unwrap().name, "e");
    again.leave();
    third.leave();
}

#[test]
fn a_slot_with_a_worker_still_in_it_is_not_used_again() {
    let bench = Bench::with(&SegmentOptions { thread_slots: 1, ..SegmentOptions::default() });
    let beat = bench.heartbeat.register("a").unwrap();
    let lane = beat.lanes().join().unwrap();
    beat.leave();
    assert!(bench.heartbeat.register("b").is_err());
    lane.leave();
    bench.heartbeat.register("b").unwrap().leave();
}

#[test]
fn slots_are_distinct_under_a_race() {
    let bench = Bench::with(&SegmentOptions { thread_slots: 32, ..SegmentOptions::default() });
    let together = std::sync::Barrier::new(16);
    thread::scope(|scope| {
        for index in 0..16 {
            let (heartbeat, together) = (bench.heartbeat.clone(), &together);
            scope.spawn(move || {
                together.wait();
                let beat = heartbeat.register(&format!("t{index}")).unwrap();
                together.wait();
                beat.leave();
            });
        }
    });
    let mut tids: Vec<_> = bench.sample().threads.iter().map(|thread| thread.tid).collect();
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), 16);
}

#[test]
fn names_are_1_to_15_bytes() {
    let bench = Bench::new();
    for name in ["", "sixteen-bytes-xx", "ÄÄÄÄÄÄÄÄ"] {
        assert!(
            matches!(bench.heartbeat.register(name).unwrap_err(), RegisterError::Name { .. }),
            "{name:?}"
        );
        assert!(matches!(bench.heartbeat.channel(name, None).unwrap_err(), RegisterError::Name { .. }));
    }
    bench.heartbeat.register("fifteen-bytes-x").unwrap().leave();
}

#[test]
fn options_out_of_bounds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    let good = SegmentOptions::default();
    for options in [
        SegmentOptions { thread_slots: 0, ..good.clone() },
        SegmentOptions { thread_slots: 4097, ..good.clone() },
        SegmentOptions { channel_slots: 4097, ..good.clone() },
        SegmentOptions { lanes: 0, ..good.clone() },
        SegmentOptions { lanes: 129, ..good.clone() },
        SegmentOptions { thread_slots: 4096, lanes: 128, ..good.clone() },
    ] {
        assert!(matches!(Heartbeat::create(&path, &options).unwrap_err(), CreateError::OutOfBounds { .. }));
    }
    let long = SegmentOptions::new("x".repeat(33));
    assert!(matches!(Heartbeat::create(&path, &long).unwrap_err(), CreateError::ShardTooLong { len: 33 }));
    assert!(!path.exists());
    let most =
        SegmentOptions { thread_slots: 4096, channel_slots: 4096, ..SegmentOptions::new("x".repeat(32)) };
    Heartbeat::create(&path, &most).unwrap();
}

#[test]
fn a_channel_counts_what_goes_in_and_out() {
    let bench = Bench::new();
    let bounded = bench.heartbeat.channel("parts", Some(8)).unwrap();
    let _unbounded = bench.heartbeat.channel("results", None).unwrap();
    let clone = bounded.clone();
    (0..5).for_each(|_| bounded.sent());
    (0..2).for_each(|_| clone.received());
    let channels = bench.sample().channels;
    assert_eq!((channels[0].capacity, channels[1].capacity), (Some(8), None));
    assert_eq!((channels[0].sent, channels[0].received, channels[0].depth()), (5, 2, 3));
    assert_eq!(bench.reader.describe_channel(0).unwrap().as_deref(), Some("parts"));
    assert_eq!(bench.reader.describe_channel(2).unwrap(), None);
    drop(bounded);
    assert!(bench.sample().channels[0].live, "one clone is left");
    drop(clone);
    assert!(!bench.sample().channels[0].live);
}

#[test]
fn a_channel_slot_used_again_starts_empty() {
    let bench = Bench::with(&SegmentOptions { channel_slots: 1, ..SegmentOptions::default() });
    let first = bench.heartbeat.channel("a", None).unwrap();
    assert!(matches!(
        bench.heartbeat.channel("b", None).unwrap_err(),
        RegisterError::Exhausted { slots: 1, .. }
    ));
    first.sent();
    drop(first);
    let _second = bench.heartbeat.channel("b", Some(0)).unwrap();
    let channel = bench.sample().channels[0];
    assert_eq!((channel.depth(), channel.capacity, channel.generation), (0, Some(0), 2));
}

#[test]
fn a_sample_is_filled_again_without_allocation() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let _lane = beat.lanes().join().unwrap();
    let _channel = bench.heartbeat.channel("parts", None).unwrap();
    let mut sample = Sample::default();
    bench.reader.sample(&mut sample).unwrap();
    let places = |sample: &Sample| {
        (sample.threads.as_ptr(), sample.channels.as_ptr(), sample.threads[0].lanes.lanes.as_ptr())
    };
    let before = places(&sample);
    beat.progress();
    bench.reader.sample(&mut sample).unwrap();
    assert_eq!(places(&sample), before);
}

#[test]
fn many_slots_with_many_lanes_are_all_read() {
    let bench = Bench::with(&SegmentOptions {
        thread_slots: 40,
        channel_slots: 200,
        lanes: 100,
        ..SegmentOptions::default()
    });
    let beats: Vec<_> =
        (0..40).map(|index| bench.heartbeat.register(&format!("t{index}")).unwrap()).collect();
    let channels: Vec<_> = (0..200).map(|_| bench.heartbeat.channel("c", None).unwrap()).collect();
    for (index, beat) in beats.iter().enumerate() {
        (0..index).for_each(|_| beat.progress());
    }
    for (index, channel) in channels.iter().enumerate() {
        (0..index).for_each(|_| channel.sent());
    }
    let sample = bench.sample();
    let progress: Vec<_> = sample.threads.iter().map(|thread| thread.lanes.progress).collect();
    assert_eq!(progress, (0..40).collect::<Vec<_>>());
    assert!(sample.threads.iter().enumerate().all(|(index, thread)| thread.slot as usize == index));
    assert_eq!(
        sample.channels.iter().map(|channel| channel.sent).collect::<Vec<_>>(),
        (0..200).collect::<Vec<_>>()
    );
    assert_eq!(bench.reader.describe(39).unwrap().unwrap().name, "t39");
    beats.into_iter().for_each(shard_heartbeat::ThreadBeat::leave);
}
