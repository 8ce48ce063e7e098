//! Recordings: what was seen is read back as it was, and arbitrary bytes do no harm.

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
use shard_watchdog::judge::crash_loop::CrashLoops;
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
const WAITS: &[Option<WaitChannel>] = &[
    None,
    Some(WaitChannel::Frozen),
    Some(WaitChannel::Futex),
    Some(WaitChannel::Other),
    Some(WaitChannel::Memory),
    Some(WaitChannel::Answer),
    Some(WaitChannel::RealTime),
];

/// Realistic counters: mostly small steps, now and then anything.
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
    let presence = select(&[Presence::Present, Presence::Gone, Presence::Unknown, Presence::Unopened][..]);
    (1..4_u32, 0..2_u64, presence, option::of(task()))
        .prop_map(|(lane, generation, presence, task)| WorkerObservation { lane, generation, presence, task })
}

fn thread() -> impl Strategy<Value = ThreadObservation> {
    let who = (0..4_u32, 0..2_u64, "exec-s[0-2]|[a-zé\\\\ ]{0,15}", select(&[7, 8, -1][..]));
    let claim = select(&[Claim::Live, Claim::Left, Claim::Dropped][..]);
    let presence = select(&[Presence::Present, Presence::Gone, Presence::Unknown, Presence::Unopened][..]);
    let numbers = (counter(), counter(), counter(), counter(), counter(), counter());
    let kernel = (option::of(task()), vec(worker(), 0..4));
    (who, claim, presence, numbers, kernel).prop_map(
        |(
            (slot, generation, name, tid),
            claim,
            presence,
            (activity, progress, work_key, attempt, deadline_ns, section),
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
                section,
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

/// What happens between two observations.
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
    Section(Index, u64),
    Suspend(u64),
    Steal(Option<u64>),
    Deaths(Box<CrashLoops>),
    Clear(Option<u64>),
}

/// Work with few keys, so that keys repeat.
fn work() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..9_u64, 1 => any::<u64>()]
}

/// Sometimes more of it than is remembered.
fn deaths() -> impl Strategy<Value = CrashLoops> {
    (vec(work(), 0..20), vec(work(), 0..20), select(&[0, 0, 1, 300][..]))
        .prop_map(|(deaths, keys, kills)| CrashLoops::remembered(&deaths, &keys).after_kills(kills))
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
        2 => (any::<Index>(), counter()).prop_map(|(place, to)| Change::Section(place, to)),
        1 => counter().prop_map(Change::Suspend),
        1 => option::of(counter()).prop_map(Change::Steal),
        1 => deaths().prop_map(|deaths| Change::Deaths(Box::new(deaths))),
        1 => option::of(1..9_u64).prop_map(Change::Clear),
    ]
}

/// What the recorder is given.
#[derive(Clone, Debug)]
enum Given {
    Look(Observation),
    /// What the judge knows of deaths from the previous observation on.
    Known(CrashLoops),
    /// Which work a person cleared, and what the judge knows after that.
    Cleared(Option<u64>, CrashLoops),
}

type History = Vec<(Monotonic, Given)>;

/// Observations between 1 ms and 2 s apart: some begin another chunk.
fn history() -> impl Strategy<Value = History> {
    vec((1..2_000_u64, change()), 1..40).prop_map(|steps| {
        let mut now = Observation { at: BEGAN, ..Observation::default() };
        let mut known = CrashLoops::NONE;
        let mut given = Vec::new();
        for (after, change) in steps {
            now.at.0 += after * MILLI;
            match change {
                Change::Deaths(deaths) => {
                    known = *deaths;
                    given.push((now.at, Given::Known(known)));
                }
                Change::Clear(key) => {
                    known.clear(key);
                    given.push((now.at, Given::Cleared(key, known)));
                }
                change => apply(&mut now, change),
            }
            given.push((now.at, Given::Look(now.clone())));
        }
        // Anything longer than the ring retains is another test's concern.
        given.into_iter().filter(|(at, _)| now.at.0 - at.0 < 50_000 * MILLI).collect()
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
        Change::Section(place, to) if threads > 0 => now.threads[place.index(threads)].section = to,
        Change::Suspend(to) => now.suspended_ns = to,
        Change::Steal(to) => now.stolen_ns = to,
        Change::Traffic(place, to) if channels > 0 => now.channels[place.index(channels)].sent = to,
        _ => {}
    }
}

fn past() -> Past {
    Past { ages: vec![Duration::from_secs(9_000), Duration::from_nanos(1)], cut: true }
}

fn give(recorder: &mut Recorder, history: &[(Monotonic, Given)]) {
    for (at, given) in history {
        match given {
            Given::Look(seen) => recorder.look(seen),
            Given::Known(known) => recorder.remember(known),
            Given::Cleared(key, known) => recorder.cleared(*at, *key, known),
        }
    }
}

fn recorded(history: &[(Monotonic, Given)]) -> Vec<u8> {
    let mut recorder = Recorder::new(BEGAN, past(), true);
    give(&mut recorder, history);
    let at = history.last().map_or(BEGAN, |(at, _)| *at);
    file::write(&recorder.excerpt(at), "0", &WallAnchor::now())
}

fn parsed(bytes: &[u8]) -> Result<Recording, RecordingError> {
    Recording::parse(bytes.to_vec(), Path::new("recording"))
}

/// What can be read of a recording, and what cannot.
#[derive(Debug, Default, PartialEq)]
struct Told {
    /// Observations, and work that was cleared.
    happened: Vec<String>,
    /// For each beginning of a chunk: how many of these came before it, and what was known by then.
    chunks: Vec<(usize, Option<Deaths>)>,
    problems: Vec<String>,
}

/// Deaths, keys, and kills without progress.
type Deaths = (Vec<u64>, Vec<u64>, u32);

fn read(recording: &Recording) -> Told {
    let mut records = recording.records();
    let mut told = Told::default();
    while let Some(record) = records.next() {
        let before = told.happened.len();
        match record {
            Record::Look => told.happened.push(format!("{:?}", records.seen())),
            Record::Cleared { at, key } => told.happened.push(cleared(at, key)),
            Record::Key { .. } => told.chunks.push((before, None)),
            Record::Known(known) => match told.chunks.last_mut() {
                Some((at, place @ None)) if *at == before => *place = Some(listed(&known)),
                _ => told.problems.push("what was known does not stand behind a key".to_owned()),
            },
            other => told.problems.push(format!("nobody has given {other:?}")),
        }
    }
    told.problems.extend(records.problems());
    told
}

fn cleared(at: Monotonic, key: Option<u64>) -> String {
    format!("cleared {key:?} at {at:?}")
}

fn listed(known: &CrashLoops) -> Deaths {
    (known.deaths().to_vec(), known.keys().to_vec(), known.kills_without_progress())
}

/// What should be read of `history`: all that happened, and what was known before each event.
fn expected(history: &[(Monotonic, Given)]) -> (Vec<String>, Vec<Option<Deaths>>) {
    let mut known = CrashLoops::NONE;
    let mut all = (Vec::new(), Vec::new());
    for (at, given) in history {
        let (happened, after) = match given {
            Given::Look(seen) => (Some(format!("{seen:?}")), known),
            Given::Known(after) => (None, *after),
            Given::Cleared(key, after) => (Some(cleared(*at, *key)), *after),
        };
        if let Some(happened) = happened {
            all.0.push(happened);
            all.1.push((known != CrashLoops::NONE).then(|| listed(&known)));
        }
        known = after;
    }
    all
}

proptest! {
    #[test]
    fn what_was_seen_comes_back_as_it_was(history in history()) {
        let recording = parsed(&recorded(&history)).unwrap();
        let Told { happened, chunks, problems } = read(&recording);
        let (expected, known) = expected(&history);
        prop_assert_eq!(problems, Vec::<String>::new());
        prop_assert_eq!(happened, expected);
        prop_assert!(!chunks.is_empty());
        for (at, told) in chunks {
            prop_assert_eq!(&told, &known[at], "before look {}", at);
        }
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
        let Told { happened, chunks, problems } = read(&recording);
        let (expected, known) = expected(&history);
        prop_assert!(expected.starts_with(&happened));
        for (at, told) in chunks.into_iter().filter(|(_, told)| told.is_some()) {
            prop_assert_eq!(&told, &known[at]);
        }
        prop_assert!(!problems.is_empty(), "{} of {} bytes", cut, whole.len());
    }

    #[test]
    fn a_changed_byte_is_found(history in history(), place in any::<Index>(), by in 1..=255_u8) {
        let mut bytes = recorded(&history);
        let place = place.index(bytes.len());
        bytes[place] ^= by;
        // A changed length or checksum counts, too.
        let found = parsed(&bytes).map_or(true, |recording| !read(&recording).problems.is_empty());
        prop_assert!(found, "byte {}", place);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hold_more_than_they_are(bytes in vec(any::<u8>(), 0..4_096)) {
        drop(parsed(&bytes));
        // Behind the checksum, where only deliberate changes can occur.
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
        give(&mut recorder, &history);
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
    let nothing = Observation { at: BEGAN, ..Observation::default() };
    let whole = recorded(&[(BEGAN, Given::Look(nothing))]);
    let refused = |bytes: &[u8]| parsed(bytes).unwrap_err().to_string();
    assert!(refused(b"{}").contains("is not a recording"));
    let mut newer = whole.clone();
    newer[8] += 1;
    assert!(refused(&newer).contains(&format!("has format {}", file::VERSION + 1)));
    let mut older = whole.clone();
    older[8] = 2;
    assert!(
        refused(&older).contains("has format 2, and this program reads formats 3 to 6"),
        "{}",
        refused(&older)
    );
    for version in 3..6 {
        // One changed byte is not enough: the checksum of this version covers the version.
        older[8] = version;
        assert!(refused(&older).contains("its checksum does not match"), "{version}");
    }
    older[8] = 3;
    let header = 18..18 + usize::from(older[10]);
    let checksum = crc32fast::hash(&older[header]).to_le_bytes();
    older[14..18].copy_from_slice(&checksum);
    assert!(parsed(&older).is_ok(), "version 3 says nothing that this one does not say in the same way");
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    assert!(refused(&damaged).contains("its checksum does not match"));
    assert!(refused(&whole[..15]).contains("damaged at byte"));
}

/// The figures of docs/recording.md: eight threads at work, observed 250 times a second, each at
/// another item of work every 4 ms, and the kernel asked about one of them.
#[test]
fn a_minute_of_a_busy_shard_fits_into_the_ring() {
    let identity = TargetIdentity { pid: 4_711, start_time: 1, incarnation: 1 };
    let mut recorder = Recorder::new(BEGAN, Past::default(), false);
    let mut now = Observation { at: BEGAN, ..Observation::default() };
    now.process =
        Some(ProcessObservation { declared: Declared::Running, ..ProcessObservation::blank(identity) });
    now.threads = (0..8)
        .map(|slot| ThreadObservation {
            activity: 1,
            work_key: 19_000_000,
            attempt: 1,
            ..ThreadObservation::blank(slot, 1, format!("exec-s0-w{slot}").into(), 100)
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
    let Told { happened, problems, .. } = read(&parsed(&bytes).unwrap());
    assert_eq!((happened.len(), problems.len()), (60 * 250, 0));
    assert!(bytes.len() < 2 << 20, "{}", bytes.len());
}
