//! Sections of a piece of work: they belong to the work in which they were entered.

use std::thread;

use shard_heartbeat::{Section, SlotState, Work};

use super::Bench;

const READING: Section = Section::new("reading");
const EXECUTING: Section = Section::new("executing");

/// The section that a sample shows.
fn seen(bench: &Bench) -> Option<String> {
    Section::from_word(bench.sample().threads[0].section).map(|section| section.to_string())
}

#[test]
fn a_section_reaches_the_reader_and_is_progress() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let working = beat.working(Work::new(1));
    let before = bench.sample().threads.remove(0);
    assert_eq!(Section::from_word(before.section), None);
    beat.enter(READING);
    let after = bench.sample().threads.remove(0);
    assert_eq!(Section::from_word(after.section), Some(READING));
    assert_eq!(after.lanes.progress_sum(), before.lanes.progress_sum() + 1);
    assert_eq!((after.activity, after.sequence), (before.activity, before.sequence), "no stamp");
    working.enter(EXECUTING);
    assert_eq!(seen(&bench).as_deref(), Some("executing"));
    beat.leave_section();
    assert_eq!(seen(&bench), None);
}

#[test]
fn new_work_begins_in_no_section() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    {
        let _working = beat.working(Work::new(1));
        beat.enter(READING);
    }
    let _working = beat.working(Work::new(2));
    assert_eq!(seen(&bench), None);
}

#[test]
fn nested_work_gives_the_outer_section_back() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let _outer = beat.working(Work::new(1));
    beat.enter(READING);
    let inner = beat.working(Work::new(2));
    assert_eq!(seen(&bench), None);
    beat.enter(EXECUTING);
    drop(inner);
    assert_eq!(seen(&bench).as_deref(), Some("reading"));
}

#[test]
fn a_thread_that_is_not_at_work_is_in_no_section() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    beat.enter(READING);
    assert_eq!(seen(&bench), None);
}

#[test]
fn a_slot_that_is_used_again_begins_in_no_section() {
    let bench = Bench::with(&shard_heartbeat::SegmentOptions {
        thread_slots: 1,
        ..shard_heartbeat::SegmentOptions::new("shard-0")
    });
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    drop({
        let working = beat.working(Work::new(1));
        beat.enter(READING);
        working
    });
    beat.leave();
    let _next = bench.heartbeat.register("exec-s1").unwrap();
    assert_eq!(seen(&bench), None);
}

#[test]
fn a_thread_that_unwinds_shows_the_section_in_which_it_died() {
    let bench = Bench::new();
    let heartbeat = bench.heartbeat.clone();
    let died = thread::spawn(move || {
        let beat = heartbeat.register("exec-s0").unwrap();
        let _outer = beat.working(Work::new(41));
        beat.enter(READING);
        let _inner = beat.working(Work::new(42));
        beat.enter(EXECUTING);
        std::panic::resume_unwind(Box::new("a fault"));
    })
    .join();
    assert!(died.is_err());
    let thread = bench.sample().threads.remove(0);
    assert_eq!((thread.claim, thread.work_key), (SlotState::Dropped, 42));
    assert_eq!(seen(&bench).as_deref(), Some("executing"));
}
