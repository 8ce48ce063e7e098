//! The writer's protocol under every order that the memory model allows. Run it with
//! `RUSTFLAGS="--cfg loom" cargo test -p shard-heartbeat --release --test loom`.

#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::convert::Infallible;

use loom::sync::atomic::Ordering::{Acquire, Relaxed};
use loom::sync::atomic::fence;
use loom::thread;
use shard_heartbeat::Work;
use shard_heartbeat::layout::{
    H_LAST_WORDS, H_LAST_WORDS_LEN, H_LAST_WORDS_TEXT, H_LAST_WORDS_TID, HEADER_SIZE, L_TID, LANE_SIZE,
    T_ACTIVITY, T_ATTEMPT, T_LANES, T_SECTION, T_SEQUENCE, T_TID, T_WORK_KEY, thread_stride,
};
use shard_heartbeat::model::{BODY_WORDS, Identity, LaneCell, NoLane, Stamp, Table, Words, heard, read, say};

/// Switches away from a thread that could go on. Three find every fault that was put in on purpose;
/// without a bound the larger models do not end in minutes.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

fn who(tid: u64) -> Identity {
    Identity { tid, start_time: tid }
}

/// A segment of `slots` thread slots with `lanes` lanes. Of the header it has only the high-water
/// line, not the page.
fn table(slots: u32, lanes: u32) -> Table {
    let stride = thread_stride(lanes);
    let segment = Words::on_heap((HEADER_SIZE + slots as usize * stride) / 8);
    Table { segment, offset: HEADER_SIZE, stride, slots }
}

/// A word of a thread slot.
fn word(table: &Table, slot: usize, offset: usize) -> usize {
    (table.offset + slot * table.stride + offset) / 8
}

fn share(table: &Table) -> Table {
    Table { segment: table.segment.clone(), ..*table }
}

fn ok(value: u64) -> Result<u64, Infallible> {
    Ok(value)
}

#[test]
fn a_stamp_never_yields_a_mixed_pair() {
    explore(|| {
        let words = Words::on_heap(3);
        let writers = words.clone();
        let writer = thread::spawn(move || {
            let stamp = Stamp::adopt(&writers[0]);
            for value in 1..=2 {
                stamp.write(&writers[0], || {
                    writers[1].store(value, Relaxed);
                    writers[2].store(value, Relaxed);
                });
            }
        });
        let copy = || Ok((words[1].load(Relaxed), words[2].load(Relaxed)));
        if let Ok(Some((one, other))) = read(|| ok(words[0].load(Relaxed)), copy) {
            assert_eq!(one, other);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_description_has_the_key_of_its_activity_even_when_work_nests() {
    explore(|| {
        let table = table(1, 1);
        let at = |offset| word(&table, 0, offset);
        let words = table.segment.clone();
        let slot = table.claim("t", who(1)).unwrap();
        slot.begin(Work::new(10).attempt(10));
        let reader = thread::spawn({
            let (sequence, activity, key, attempt) =
                (at(T_SEQUENCE), at(T_ACTIVITY), at(T_WORK_KEY), at(T_ATTEMPT));
            move || {
                let copy = || {
                    Ok([
                        words[activity].load(Relaxed),
                        words[key].load(Relaxed),
                        words[attempt].load(Relaxed),
                    ])
                };
                if let Ok(Some([activity, key, attempt])) = read(|| ok(words[sequence].load(Relaxed)), copy) {
                    // A new slot is idle at 2; then outer work, inner work, outer work again.
                    let wanted = match activity {
                        3 | 7 => 10,
                        5 => 20,
                        other => panic!("activity {other}"),
                    };
                    assert_eq!((key, attempt), (wanted, wanted), "at activity {activity}");
                }
            }
        });
        let outer = slot.begin(Work::new(20).attempt(20));
        slot.end(outer);
        reader.join().unwrap();
    });
}

#[test]
fn a_description_has_a_section_of_its_work_even_when_work_nests() {
    explore(|| {
        let table = table(1, 1);
        let at = |offset| word(&table, 0, offset);
        let words = table.segment.clone();
        let slot = table.claim("t", who(1)).unwrap();
        slot.begin(Work::new(10));
        let reader = thread::spawn({
            let (sequence, activity, section) = (at(T_SEQUENCE), at(T_ACTIVITY), at(T_SECTION));
            move || {
                let copy = || Ok([words[activity].load(Relaxed), words[section].load(Relaxed)]);
                if let Ok(Some([activity, section])) = read(|| ok(words[sequence].load(Relaxed)), copy) {
                    // Entering a section is no stamp, so it may show or not; that of other work
                    // never does.
                    let allowed: &[u64] = match activity {
                        3 => &[0, 101],
                        5 => &[0, 201],
                        7 => &[101],
                        other => panic!("activity {other}"),
                    };
                    assert!(allowed.contains(&section), "{section} at activity {activity}");
                }
            }
        });
        slot.enter(101);
        let outer = slot.begin(Work::new(20));
        slot.enter(201);
        slot.end(outer);
        reader.join().unwrap();
    });
}

#[test]
fn the_same_odd_activity_before_and_after_vouches_for_the_key() {
    explore(|| {
        let table = table(1, 1);
        let (activity, key) = (word(&table, 0, T_ACTIVITY), word(&table, 0, T_WORK_KEY));
        let words = table.segment.clone();
        let slot = table.claim("t", who(1)).unwrap();
        let reader = thread::spawn(move || {
            let before = words[activity].load(Relaxed);
            fence(Acquire);
            let key = words[key].load(Relaxed);
            fence(Acquire);
            if before & 1 == 1 && words[activity].load(Relaxed) == before {
                assert_eq!(key, before * 10);
            }
        });
        for activity in [3, 5] {
            let outer = slot.begin(Work::new(activity * 10));
            slot.end(outer);
        }
        reader.join().unwrap();
    });
}

#[test]
fn threads_that_race_get_distinct_slots() {
    explore(|| {
        let table = table(2, 1);
        let other = share(&table);
        let racer = thread::spawn(move || assert!(other.claim("a", who(1)).is_some()));
        assert!(table.claim("b", who(2)).is_some());
        racer.join().unwrap();
        let mut tids = [0, 1].map(|slot| table.segment[word(&table, slot, T_TID)].load(Relaxed));
        tids.sort_unstable();
        assert_eq!(tids, [1, 2]);
    });
}

#[test]
fn the_last_slot_goes_to_one() {
    explore(|| {
        let table = table(1, 1);
        let other = share(&table);
        let racer = thread::spawn(move || other.claim("a", who(1)).is_some());
        let ours = table.claim("b", who(2)).is_some();
        assert!(racer.join().unwrap() != ours);
    });
}

#[test]
fn workers_that_race_get_distinct_lanes() {
    explore(|| {
        let table = table(1, 3);
        let slot = table.claim("t", who(1)).unwrap();
        let (words, claim) = slot.lanes();
        let racer = thread::spawn({
            let words = words.clone();
            move || LaneCell::join(&words, claim, who(2)).unwrap().progress()
        });
        LaneCell::join(&words, claim, who(3)).unwrap().progress();
        racer.join().unwrap();
        let mut tids = [1, 2].map(|lane| words[(T_LANES + lane * LANE_SIZE + L_TID) / 8].load(Relaxed));
        tids.sort_unstable();
        assert_eq!(tids, [2, 3]);
    });
}

#[test]
fn a_worker_never_joins_a_slot_that_another_thread_has_taken_over() {
    explore(|| {
        let table = table(1, 2);
        let slot = table.claim("t", who(1)).unwrap();
        let (words, claim) = slot.lanes();
        slot.close(true);
        let other = share(&table);
        let taker = thread::spawn(move || other.claim("u", who(2)).is_some());
        // The claim is stale: whatever the order, this worker must find out.
        assert_eq!(LaneCell::join(&words, claim, who(3)).err(), Some(NoLane::Gone));
        let taken = taker.join().unwrap();
        if !taken {
            assert!(
                table.claim("v", who(4)).is_some(),
                "a refused worker must not keep the slot from the next"
            );
        }
    });
}

#[test]
fn an_owner_that_leaves_and_a_worker_that_joins_agree_with_the_next_owner() {
    explore(|| {
        let table = table(1, 2);
        let slot = table.claim("t", who(1)).unwrap();
        let (words, claim) = slot.lanes();
        let worker = thread::spawn(move || LaneCell::join(&words, claim, who(3)).is_ok());
        slot.close(true);
        let taken = table.claim("u", who(2)).is_some();
        let joined = worker.join().unwrap();
        assert!(!(taken && joined), "a worker of the old owner counts for the new one");
    });
}

#[test]
fn of_two_that_speak_at_once_one_is_heard_whole_or_nobody_yet() {
    explore(|| {
        let segment = Words::on_heap(HEADER_SIZE / 8);
        // Two words of text of different lengths: enough for a mixture to show. Only these are
        // loaded, because each load is one more place at which threads can change.
        let hear = |segment: &Words| {
            let body = || {
                let mut body = [0; BODY_WORDS];
                for offset in [H_LAST_WORDS_TID, H_LAST_WORDS_LEN, H_LAST_WORDS_TEXT, H_LAST_WORDS_TEXT + 8] {
                    body[(offset - H_LAST_WORDS_TID) / 8] = segment[offset / 8].load(Relaxed);
                }
                Ok::<_, Infallible>(body)
            };
            heard(|| ok(segment[H_LAST_WORDS / 8].load(Relaxed)), body).unwrap()
        };
        let others = segment.clone();
        let other = thread::spawn(move || say(&others, 1, "first thread"));
        let seen = segment.clone();
        let reader = thread::spawn(move || {
            if let Some(told) = hear(&seen) {
                assert!(
                    matches!((told.tid, &*told.text), (1, "first thread") | (2, "the other one")),
                    "{told:?}"
                );
            }
        });
        let ours = say(&segment, 2, "the other one");
        assert!(other.join().unwrap() != ours);
        reader.join().unwrap();
        assert_eq!(hear(&segment).unwrap().tid, if ours { 2 } else { 1 });
    });
}
