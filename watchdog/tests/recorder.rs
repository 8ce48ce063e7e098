//! Recordings: what was seen comes back as it was, and bytes that anybody may have written do no harm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use shard_watchdog::act::budget::Past;
use shard_watchdog::clock::{Monotonic, WallAnchor};
use shard_watchdog::observation::{
    ChannelObservation, Claim, Declared, Observation, Presence, ProcessObservation, Survivors,
    TaskObservation, TaskState, ThreadObservation, ThrottleObservation, WaitChannel, WorkerObservation,
};
use shard_watchdog::recorder::Recorder;
use shard_watchdog::recorder::decode::{self, Record};
use shard_watchdog::recorder::delta::Memory;
use shard_watchdog::recorder::file::{self, Recording, RecordingError};
use shard_watchdog::recorder::wire::In;
use shard_watchdog::snapshot::TargetIdentity;

const MILLI: u64 = 1_000_000;
const BEGAN: Monotonic = Monotonic(77_000_000_000);

const DECLARED: &[Declared] =
    &[Declared::Unknown, Declared::Boot, Declared::Running, Declared::Stopping, Declared::Failed];
const SURVIVORS: &[Survivors] =
    &[Survivors::NotAsked, Survivors::Unknown, Survivors::None, Survivors::Alone, Survivors::Some];
const STATES: &[TaskState] = &[
    TaskState::Running,
    TaskState::Sleeping,
    TaskState::DiskSleep,
    TaskState::Stopped,
    TaskState::Traced,
    TaskState::Zombie,
    TaskState::Dead,
    TaskState::Other,
];
const WAITS: &[Option<WaitChannel>] =
    &[None, Some(WaitChannel::Frozen), Some(WaitChannel::Futex), Some(WaitChannel::Other)];

/// Counters as they are: mostly small steps, now and then anything.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..1_000_u64, 1 => any::<u64>()]
}

fn process() -> impl Strategy<Value = ProcessObservation> {
    let identity = (select(&[1, 4_711, i32::MAX, -1][..]), 0..3_u64, 0..3_u64);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), option::of(select(STATES)));
    let late = (option::of(0..u64::MAX), option::of((counter(), counter())));
    (identity, select(DECLARED), select(SURVIVORS), flags, late).prop_map(
        |(
            (pid, start_time, incarnation),
            declared,
            survivors,
            (readable, exited, core_dumping, leader),
            (signalled, throttle),
        )| {
            ProcessObservation {
                identity: TargetIdentity { pid, start_time, incarnation },
                declared,
                segment_readable: readable,
                exited,
                leader,
                survivors,
                signalled: signalled.map(Monotonic),
                throttle: throttle.map(|(periods, time_ns)| ThrottleObservation { periods, time_ns }),
                core_dumping,
            }
        },
    )
}

fn task() -> impl Strategy<Value = TaskObservation> {
    (select(STATES), option::of(counter()), option::of(counter()), select(WAITS))
        .prop_map(|(state, cpu_ns, run_delay_ns, wait)| TaskObservation { state, cpu_ns, run_delay_ns, wait })
}

fn worker() -> impl Strategy<Value = WorkerObservation> {
    let presence = select(&[Presence::Present, Presence::Gone, Presence::Unknown][..]);
    (1..4_u32, 0..2_u64, presence, option::of(task()))
        .prop_map(|(lane, generation, presence, task)| WorkerObservation { lane, generation, presence, task })
}

fn thread() -> impl Strategy<Value = ThreadObservation> {
    let who = (0..4_u32, 0..2_u64, "exec-s[0-2]|[a-zé\\\\ ]{0,15}", select(&[7, 8, -1][..]));
    let claim = select(&[Claim::Live, Claim::Left, Claim::Dropped][..]);
    let presence = select(&[Presence::Present, Presence::Gone, Presence::Unknown][..]);
    let numbers = (counter(), counter(), counter(), counter(), counter());
    let kernel = (option::of(task()), vec(worker(), 0..4));
    (who, claim, presence, numbers, kernel).prop_map(
        |(
            (slot, generation, name, tid),
            claim,
            presence,
            (activity, progress, work_key, attempt, deadline_ns),
            (task, workers),
        )| {
            let name = Arc::from(name);
            ThreadObservation {
                slot,
                generation,
                name,
                tid,
                claim,
                presence,
                activity,
                progress,
                work_key,
                attempt,
                deadline_ns,
                task,
                workers,
            }
        },
    )
}

fn channel() -> impl Strategy<Value = ChannelObservation> {
    (0..4_u32, 0..2_u64, "[a-z]{1,8}", counter(), counter()).prop_map(
        |(slot, generation, name, sent, received)| ChannelObservation {
            slot,
            generation,
            name: Arc::from(name),
            sent,
            received,
        },
    )
}

/// What happens between two looks.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Process(Option<ProcessObservation>),
    Members(Vec<ThreadObservation>, Vec<ChannelObservation>),
    Progress(Index, u64),
    Task(Index, Option<TaskObservation>),
    Workers(Index, Vec<WorkerObservation>),
    Traffic(Index, u64),
    Deadline(Index, u64),
    Suspend(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Nothing),
        1 => option::of(process()).prop_map(Change::Process),
        1 => (vec(thread(), 0..6), vec(channel(), 0..3)).prop_map(|(threads, channels)| Change::Members(threads, channels)),
        6 => (any::<Index>(), counter()).prop_map(|(place, to)| Change::Progress(place, to)),
        4 => (any::<Index>(), option::of(task())).prop_map(|(place, to)| Change::Task(place, to)),
        4 => (any::<Index>(), vec(worker(), 0..4)).prop_map(|(place, to)| Change::Workers(place, to)),
        2 => (any::<Index>(), counter()).prop_map(|(place, to)| Change::Traffic(place, to)),
        2 => (any::<Index>(), counter()).prop_map(|(place, to)| Change::Deadline(place, to)),
        1 => counter().prop_map(Change::Suspend),
    ]
}

/// Looks between 1 ms and 2 s apart: some begin another chunk.
fn history() -> impl Strategy<Value = Vec<Observation>> {
    vec((1..2_000_u64, change()), 1..40).prop_map(|steps| {
        let mut now = Observation { at: BEGAN, ..Observation::default() };
        let looks = steps.into_iter().map(|(after, change)| {
            now.at.0 += after * MILLI;
            apply(&mut now, change);
            now.clone()
        });
        // What is longer than the ring keeps is another test's concern.
        let looks: Vec<_> = looks.collect();
        let last = looks.last().unwrap().at;
        looks.into_iter().filter(|seen| last.0 - seen.at.0 < 50_000 * MILLI).collect()
    })
}

fn apply(now: &mut Observation, change: Change) {
    let (threads, channels) = (now.threads.len(), now.channels.len());
    match change {
        Change::Process(process) => now.process = process,
        Change::Members(threads, channels) => (now.threads, now.channels) = (threads, channels),
        Change::Progress(place, to) if threads > 0 => now.threads[place.index(threads)].progress = to,
        Change::Task(place, to) if threads > 0 => now.threads[place.index(threads)].task = to,
        Change::Workers(place, to) if threads > 0 => now.threads[place.index(threads)].workers = to,
        Change::Deadline(place, to) if threads > 0 => now.threads[place.index(threads)].deadline_ns = to,
        Change::Suspend(to) => now.suspended_ns = to,
        Change::Traffic(place, to) if channels > 0 => now.channels[place.index(channels)].sent = to,
        _ => {}
    }
}

fn past() -> Past {
    Past { ages: vec![Duration::from_secs(9_000), Duration::from_nanos(1)], cut: true }
}

fn recorded(history: &[Observation]) -> Vec<u8> {
    let mut recorder = Recorder::new(BEGAN, past(), true);
    history.iter().for_each(|seen| recorder.look(seen));
    let at = history.last().map_or(BEGAN, |seen| seen.at);
    file::write(&recorder.excerpt(at), "0", &WallAnchor::now())
}

fn parsed(bytes: &[u8]) -> Result<Recording, RecordingError> {
    Recording::parse(bytes.to_vec(), Path::new("recording"))
}

/// Every look that can be read, and what cannot.
fn read(recording: &Recording) -> (Vec<String>, Vec<String>) {
    let mut records = recording.records();
    let mut looks = Vec::new();
    while let Some(record) = records.next() {
        if record == Record::Look {
            looks.push(format!("{:?}", records.seen()));
        }
    }
    (looks, records.problems())
}

proptest! {
    #[test]
    fn what_was_seen_comes_back_as_it_was(history in history()) {
        let recording = parsed(&recorded(&history)).unwrap();
        let (looks, problems) = read(&recording);
        let expected: Vec<String> = history.iter().map(|seen| format!("{seen:?}")).collect();
        prop_assert_eq!(problems, Vec::<String>::new());
        prop_assert_eq!(looks, expected);
        let facts = &recording.header().facts;
        prop_assert_eq!((facts.began, &facts.past, facts.dropped), (BEGAN, &past(), 0));
    }

    #[test]
    fn a_recording_that_was_cut_off_gives_what_is_left_of_it_and_says_so(
        history in history(), cut in any::<Index>(),
    ) {
        let whole = recorded(&history);
        let cut = cut.index(whole.len());
        let Ok(recording) = parsed(&whole[..cut]) else { return Ok(()) };
        let (looks, problems) = read(&recording);
        let expected: Vec<String> = history.iter().map(|seen| format!("{seen:?}")).collect();
        prop_assert!(expected.starts_with(&looks));
        prop_assert!(!problems.is_empty(), "{} of {} bytes", cut, whole.len());
    }

    #[test]
    fn a_changed_byte_is_found(history in history(), place in any::<Index>(), by in 1..=255_u8) {
        let mut bytes = recorded(&history);
        let place = place.index(bytes.len());
        bytes[place] ^= by;
        // A changed length or checksum counts, too.
        let found = parsed(&bytes).map_or(true, |recording| !read(&recording).1.is_empty());
        prop_assert!(found, "byte {}", place);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hold_more_than_they_are(bytes in vec(any::<u8>(), 0..4_096)) {
        drop(parsed(&bytes));
        // Behind the checksum, where only somebody who means it can write.
        let (mut memory, mut input) = (Memory::default(), In::new(&bytes));
        let mut records = 0;
        while !input.is_empty() && decode::record(&mut memory, &mut input).is_ok() {
            records += 1;
        }
        prop_assert!(records <= bytes.len());
        prop_assert!(memory.seen.threads.len() + memory.seen.channels.len() <= bytes.len());
    }

    #[test]
    fn damage_behind_a_true_checksum_is_an_error_or_an_observation(
        history in history(), places in vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let mut recorder = Recorder::new(BEGAN, Past::default(), false);
        history.iter().for_each(|seen| recorder.look(seen));
        for chunk in recorder.excerpt(BEGAN).chunks {
            let mut bytes = chunk.to_vec();
            for (place, byte) in &places {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let (mut memory, mut input) = (Memory::default(), In::new(&bytes));
            while !input.is_empty() && decode::record(&mut memory, &mut input).is_ok() {}
            prop_assert!(memory.seen.threads.len() + memory.seen.channels.len() <= bytes.len());
        }
    }
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let whole = recorded(&[Observation { at: BEGAN, ..Observation::default() }]);
    let refused = |bytes: &[u8]| parsed(bytes).unwrap_err().to_string();
    assert!(refused(b"{}").contains("is not a recording"));
    let mut newer = whole.clone();
    newer[8] += 1;
    assert!(refused(&newer).contains(&format!("has format {}", file::VERSION + 1)));
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    assert!(refused(&damaged).contains("its checksum does not match"));
    assert!(refused(&whole[..15]).contains("damaged at byte"));
}

/// The figures of docs/recording.md: eight threads at work, looked at 250 times a second, each at another item of work
/// every 4 ms, and the kernel asked about one of them.
#[test]
fn a_minute_of_a_busy_shard_fits_into_the_ring() {
    let identity = TargetIdentity { pid: 4_711, start_time: 1, incarnation: 1 };
    let mut recorder = Recorder::new(BEGAN, Past::default(), false);
    let mut now = Observation { at: BEGAN, ..Observation::default() };
    now.process = Some(ProcessObservation {
        identity,
        declared: Declared::Running,
        segment_readable: true,
        exited: false,
        leader: None,
        survivors: Survivors::NotAsked,
        signalled: None,
        throttle: None,
        core_dumping: false,
    });
    now.threads = (0..8)
        .map(|slot| ThreadObservation {
            slot,
            generation: 1,
            name: format!("exec-s0-w{slot}").into(),
            tid: 100,
            claim: Claim::Live,
            presence: Presence::Present,
            activity: 1,
            progress: 0,
            work_key: 19_000_000,
            attempt: 1,
            deadline_ns: 0,
            task: None,
            workers: Vec::new(),
        })
        .collect();
    for look in 0..60 * 250_u64 {
        now.at.0 += 4 * MILLI + look % 97;
        for thread in &mut now.threads {
            thread.progress += 90 + look % 7;
            thread.activity += 2;
        }
        let running = TaskObservation {
            state: TaskState::Running,
            cpu_ns: Some(look * 4 * MILLI),
            run_delay_ns: Some(look * 1_000),
            wait: None,
        };
        now.threads[0].task = Some(running);
        recorder.look(&now);
    }
    let bytes = file::write(&recorder.excerpt(now.at), "0", &WallAnchor::now());
    println!("a minute is {} bytes, an hour {} MiB", bytes.len(), (bytes.len() * 60) >> 20);
    assert_eq!(recorder.dropped(), 0);
    let (looks, problems) = read(&parsed(&bytes).unwrap());
    assert_eq!((looks.len(), problems.len()), (60 * 250, 0));
    assert!(bytes.len() < 2 << 20, "{}", bytes.len());
}
