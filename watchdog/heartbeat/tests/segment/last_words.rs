//! Last words, and the work in flight: what a panic hook can still report.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;

use proptest::prelude::*;
use shard_heartbeat::layout::{
    self, H_LAST_WORDS, H_LAST_WORDS_LEN, H_LAST_WORDS_TEXT, H_LAST_WORDS_TID, LAST_WORDS_SAID,
    LAST_WORDS_WRITING,
};
use shard_heartbeat::{
    Heartbeat, InFlight, LastWords, MAX_LAST_WORDS, ReadError, Reader, SegmentOptions, Work,
};

use super::Bench;
use super::second::Second;

fn own_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn heard(bench: &Bench) -> Option<LastWords> {
    bench.reader.last_words().unwrap()
}

/// Changes one word of the segment behind the writer's back.
fn put(path: &Path, offset: usize, value: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
}

#[test]
fn last_words_reach_the_reader_with_the_thread_that_said_them() {
    let bench = Bench::new();
    assert_eq!(heard(&bench), None);
    let text = "exec-s0: panicked at src/vm.rs:7:9: index out of bounds\nblock 17, attempt 2 – ende";
    assert!(bench.heartbeat.last_words(text));
    assert_eq!(heard(&bench), Some(LastWords { tid: own_tid(), text: text.to_owned() }));
}

#[test]
fn the_first_last_words_stand() {
    let bench = Bench::new();
    assert!(bench.heartbeat.last_words("the cause"));
    let after = std::thread::scope(|scope| scope.spawn(|| bench.heartbeat.last_words("an effect")).join());
    assert!(!after.unwrap() && !bench.heartbeat.clone().last_words("another"));
    assert_eq!(heard(&bench).unwrap().text, "the cause");
}

#[test]
fn no_text_is_no_last_word() {
    let bench = Bench::new();
    assert!(!bench.heartbeat.last_words(""));
    assert_eq!(heard(&bench), None);
    assert!(bench.heartbeat.last_words("after all"), "and leaves the floor to others");
}

#[test]
fn long_last_words_are_cut_at_a_character() {
    for (text, kept) in [
        ("a".repeat(MAX_LAST_WORDS), MAX_LAST_WORDS),
        ("a".repeat(MAX_LAST_WORDS + 1), MAX_LAST_WORDS),
        ("é".repeat(MAX_LAST_WORDS), MAX_LAST_WORDS),
        (format!("a{}", "é".repeat(MAX_LAST_WORDS)), MAX_LAST_WORDS - 1),
        (format!("aaa{}", "🦀".repeat(MAX_LAST_WORDS)), MAX_LAST_WORDS - 1),
    ] {
        let bench = Bench::new();
        assert!(bench.heartbeat.last_words(&text));
        assert_eq!(heard(&bench).unwrap().text, text[..kept]);
        let next = std::fs::read(bench.path()).unwrap()
            [H_LAST_WORDS_TEXT + MAX_LAST_WORDS..layout::HEADER_SIZE]
            .to_vec();
        assert!(next.iter().all(|byte| *byte == 0), "something stands behind the text");
    }
}

#[test]
fn of_threads_that_speak_at_once_one_is_heard_whole() {
    const SPEAKERS: usize = 4;
    for round in 0..50 {
        let bench = Bench::new();
        let start = Barrier::new(SPEAKERS + 1);
        let texts: Vec<String> = (0..SPEAKERS).map(|who| format!("{round}-{who} ").repeat(300)).collect();
        std::thread::scope(|scope| {
            let speakers: Vec<_> = texts
                .iter()
                .map(|text| {
                    let (start, heartbeat) = (&start, &bench.heartbeat);
                    scope.spawn(move || {
                        start.wait();
                        (heartbeat.last_words(text), own_tid())
                    })
                })
                .collect();
            start.wait();
            // Anything heard while they speak is already whole.
            let early = (0..1000).find_map(|_| heard(&bench));
            let said: Vec<(bool, i32)> =
                speakers.into_iter().map(|speaker| speaker.join().unwrap()).collect();
            let winners: Vec<usize> = (0..SPEAKERS).filter(|who| said[*who].0).collect();
            assert_eq!(winners.len(), 1, "{said:?}");
            let text = texts[winners[0]][..texts[winners[0]].len().min(MAX_LAST_WORDS)].to_owned();
            let wanted = LastWords { tid: said[winners[0]].1, text };
            assert_eq!(heard(&bench).as_ref(), Some(&wanted));
            assert!(early.is_none_or(|early| early == wanted));
        });
    }
}

#[test]
fn a_hook_that_hangs_has_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.heartbeat");
    let (mut child, said) = Second::start("hook that hangs", &path);
    let told = Reader::open(&path).unwrap().last_words().unwrap().unwrap();
    assert_eq!(told.tid.to_string(), said);
    assert_eq!(told.text, "exec-s0: out of luck, at work 17, attempt 2, in exec-s0");
    child.kill();
    let after = Reader::open(&path).unwrap().last_words().unwrap();
    assert_eq!(after, Some(told), "and what it said outlives it");
}

/// The second process of the test above: a panic while it holds a lock that the same thread would
/// need for much else.
pub(crate) fn hook_that_hangs(path: &Path, say: fn(&str)) -> ! {
    let heartbeat = Heartbeat::create(path, &SegmentOptions::default()).unwrap();
    let hook = heartbeat.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let InFlight { name, work_key, attempt } = hook.in_flight().unwrap();
        let text = panic.payload_as_str().unwrap_or("?");
        assert!(
            hook.last_words(&format!("{name}: {text}, at work {work_key}, attempt {attempt}, in {name}"))
        );
        assert!(!hook.last_words("said twice"));
        say(&own_tid().to_string());
        loop {
            std::thread::park();
        }
    }));
    let beat = heartbeat.register("exec-s0").unwrap();
    let _outer = beat.working(Work::new(16));
    let _inner = beat.working(Work::new(17).attempt(2));
    panic!("out of luck");
}

#[test]
fn a_forked_child_has_no_last_words_and_no_work() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let _working = beat.working(Work::new(1));
    let ended = super::fork::in_child(|| {
        if bench.heartbeat.last_words("I am not my parent") || bench.heartbeat.in_flight().is_some() {
            // SAFETY: ends this process and nothing else.
            unsafe { libc::_exit(8) }
        }
    });
    assert_eq!(ended, Ok(7));
    assert_eq!(heard(&bench), None);
    assert!(bench.heartbeat.last_words("the parent"), "a child must not take the floor from its parent");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_last_words_are_bounded_and_printable(
        state in 0_u64..4,
        tid: u64,
        len in prop_oneof![any::<u64>(), 0_u64..2100],
        text in proptest::collection::vec(any::<u8>(), MAX_LAST_WORDS),
    ) {
        let bench = Bench::new();
        for (offset, value) in [(H_LAST_WORDS_TID, tid), (H_LAST_WORDS_LEN, len), (H_LAST_WORDS, state)] {
            put(&bench.path(), offset, value);
        }
        let file = std::fs::OpenOptions::new().write(true).open(bench.path()).unwrap();
        file.write_all_at(&text, H_LAST_WORDS_TEXT as u64).unwrap();
        let told = heard(&bench);
        prop_assert_eq!(told.is_some(), state == LAST_WORDS_SAID && len > 0);
        if let Some(told) = told {
            prop_assert!(told.text.len() <= 6 * MAX_LAST_WORDS);
            prop_assert!(!told.text.chars().any(|c| c != '\n' && c.is_control()));
            prop_assert_eq!(told.tid, i32::try_from(tid).unwrap_or(0));
        }
    }
}

#[test]
fn a_text_of_control_characters_is_shown_as_such() {
    let bench = Bench::new();
    let text = "\u{1b}[2J\r\n\u{202e}gpj\0\u{85}";
    assert!(bench.heartbeat.last_words(text));
    assert_eq!(heard(&bench).unwrap().text, "\\u{1b}[2J\\r\n\\u{202e}gpj\\u{0}\\u{85}");
    assert!(bench.heartbeat.clone().path().exists());
}

#[test]
fn last_words_that_were_not_finished_are_none() {
    let bench = Bench::new();
    put(&bench.path(), H_LAST_WORDS, LAST_WORDS_WRITING);
    assert!(!bench.heartbeat.last_words("too late"), "the floor is taken for good");
    assert_eq!(heard(&bench), None);
}

#[test]
fn last_words_of_a_truncated_file_are_an_error() {
    let bench = Bench::new();
    assert!(bench.heartbeat.last_words("gone"));
    let copy = bench.folder.path().join("copy");
    std::fs::copy(bench.path(), &copy).unwrap();
    let reader = Reader::open(&copy).unwrap();
    for length in [H_LAST_WORDS_TEXT as u64, H_LAST_WORDS as u64, 0] {
        std::fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(length).unwrap();
        assert!(matches!(reader.last_words(), Err(ReadError::Truncated { .. })), "{length}");
    }
}

#[test]
fn the_work_in_flight_is_the_calling_threads() {
    let bench = Bench::new();
    let found = || bench.heartbeat.in_flight();
    assert_eq!(found(), None, "not on the watch");
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    assert_eq!(found(), None, "idle");
    let outer = beat.working(Work::new(17).attempt(2));
    let wanted = |work_key, attempt| Some(InFlight { name: "exec-s0".into(), work_key, attempt });
    assert_eq!(found(), wanted(17, 2));
    let inner = beat.working(Work::new(18));
    assert_eq!(found(), wanted(18, 0));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let stranger = bench.heartbeat.in_flight();
            let own = bench.heartbeat.register("other").unwrap();
            let _working = own.working(Work::new(99));
            (stranger, bench.heartbeat.in_flight().unwrap().work_key)
        });
        assert_eq!(other.join().unwrap(), (None, 99));
    });
    drop(inner);
    assert_eq!(found(), wanted(17, 2));
    drop(outer);
    assert_eq!(found(), None);
    let _again = beat.working(Work::new(19));
    drop(_again);
    beat.leave();
    assert_eq!(found(), None);
}

#[test]
fn a_worker_in_a_lane_is_at_its_parents_work() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let lanes = beat.lanes();
    let found = |own: bool| {
        let (lanes, heartbeat) = (lanes.clone(), &bench.heartbeat);
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let own = own.then(|| heartbeat.register("worker").unwrap());
                let lane = lanes.join().unwrap();
                let joined = heartbeat.in_flight();
                lane.leave();
                let left = heartbeat.in_flight();
                if let Some(own) = own {
                    own.leave();
                }
                (joined, left)
            });
            worker.join().unwrap()
        })
    };
    assert_eq!(found(false), (None, None), "the parent is idle");
    let _working = beat.working(Work::new(17).attempt(2));
    let parents = Some(InFlight { name: "exec-s0".into(), work_key: 17, attempt: 2 });
    assert_eq!(found(false), (parents.clone(), None));
    assert_eq!(found(true), (parents, None), "idle in its own name, at work in its lane");
}

#[test]
fn a_slot_that_is_no_live_one_of_this_very_thread_is_not_asked() {
    let bench = Bench::new();
    let beat = bench.heartbeat.register("exec-s0").unwrap();
    let _working = beat.working(Work::new(17));
    let at = |offset| layout::HEADER_SIZE + offset;
    let read = |offset: usize| {
        let bytes = std::fs::read(bench.path()).unwrap();
        u64::from_le_bytes(bytes[at(offset)..at(offset) + 8].try_into().unwrap())
    };
    for (offset, value) in [
        // A panic inside a registration; a thread that is gone; one of the same id that ended
        // without notice; a stamp that will never be finished.
        (layout::T_CLAIM, 1 << 8 | layout::CLAIM_FILLING),
        (layout::T_CLAIM, 1 << 8 | layout::CLAIM_DROPPED),
        (layout::T_CLAIM, 1 << 8 | layout::CLAIM_LEFT),
        (layout::T_START_TIME, 1),
        (layout::T_SEQUENCE, 5),
    ] {
        assert!(bench.heartbeat.in_flight().is_some());
        let was = read(offset);
        put(&bench.path(), at(offset), value);
        assert_eq!(bench.heartbeat.in_flight(), None, "word {offset:#x} = {value}");
        put(&bench.path(), at(offset), was);
    }
    // A false count of slots must not lead beyond them.
    put(&bench.path(), layout::H_THREAD_HIGH_WATER, u64::MAX);
    put(&bench.path(), at(layout::T_LANE_HIGH_WATER), u64::MAX);
    assert!(bench.heartbeat.in_flight().is_some());
    put(&bench.path(), at(layout::T_TID), 1);
    assert_eq!(bench.heartbeat.in_flight(), None);
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    // Constant and without a destructor, so that the allocator may use it at any time.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn last_words_take_no_memory() {
    let bench = Bench::new();
    let text = "x".repeat(3000);
    let before = ALLOCATIONS.get();
    let said = [bench.heartbeat.last_words(&text), bench.heartbeat.last_words(&text)];
    let taken = ALLOCATIONS.get() - before;
    assert_eq!((said, taken), ([true, false], 0));
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.get() > before, "the counter counts nothing");
}
