//! What is done with each input: shared by the fuzz target and by a test that needs no special
//! toolchain.
//!
//! An input is a segment, or changes to a good one, and observations of it in virtual time. The
//! target is this very process, which lives and keeps all its threads, so only the segment's word
//! can condemn it. That word suffices only where it is well formed and explicit: [`Looks::explain`]
//! checks each condemnation against the bytes, by its own reading of ABI.md. Everything else is
//! garbage, and garbage kills nothing: a header that is refused, a file too short, a claim of no
//! known state, an impossible thread id, a word that says "dropped" for a moment, words that change
//! between observations.
//!
//! Every function here ends for every input, and panics only if a promise of the crate is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a panic is how a fuzz target says what it has found; a target uses one half of this; its thread waits for ever"
)]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;

use shard_heartbeat::{Heartbeat, ProcessState, Reader, SegmentOptions, Work};
use shard_watchdog::clock::Monotonic;
use shard_watchdog::config::read;
use shard_watchdog::judge::policy::Policy;
use shard_watchdog::judge::{Judge, Note};
use shard_watchdog::observation::Observation;
use shard_watchdog::probe::handle::TargetHandle;
use shard_watchdog::probe::segment::Consumers;
use shard_watchdog::probe::task::TaskDir;
use shard_watchdog::probe::{Adopted, Probe, ThreadEvents};
use shard_watchdog::snapshot::TargetIdentity;

#[path = "explain.rs"]
mod explain;

use explain::{Look, Looks};

const MILLI: u64 = 1_000_000;
/// All times of the policy, in milliseconds: short, so that an input with few observations reaches
/// them.
pub const THRESHOLD_MS: u64 = 100;
/// The most observations of one input.
const MOST_LOOKS: usize = 64;
/// Observations at the end of each input, at intervals too short to be void: enough for every
/// threshold to pass.
const LAST_LOOKS: usize = 12;
const LAST_INTERVAL_MS: u64 = 30;

/// A good segment of this process, whose one registered thread is at work, and waits for ever.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("good");
    let options =
        SegmentOptions { thread_slots: 3, channel_slots: 2, lanes: 2, ..SegmentOptions::new("fuzz") };
    let heartbeat = Heartbeat::create(&path, &options).expect("a segment");
    heartbeat.set_state(ProcessState::Running);
    let channel = heartbeat.channel("commands", Some(8)).expect("a slot");
    let (send, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let beat = heartbeat.register("exec-s0").expect("a slot");
        let _working = beat.working(Work::new(7));
        beat.progress();
        send.send(()).expect("somebody waits");
        loop {
            std::thread::park();
        }
    });
    ready.recv().expect("it registers");
    let bytes = std::fs::read(&path).expect("it is there");
    drop(channel);
    bytes
});

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = format!(
        "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n[[thread]]\nname = \"*\"\nstall_after = \"{THRESHOLD_MS}ms\"\n\
         warn_after = \"50ms\"\n[[channel]]\nname = \"commands\"\nmax_age = \"{THRESHOLD_MS}ms\"\nconsumer = \"*\"\non = \"kill\"\n\
         [judge]\nstartup_grace = \"1s\"\nexit_within = \"{THRESHOLD_MS}ms\"\n"
    );
    read::parse(&text, Path::new("fuzz.toml")).unwrap_or_else(|problems| panic!("{problems}")).policy(false)
});

static FILE: LazyLock<tempfile::NamedTempFile> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::NamedTempFile::new_in(folder).expect("a file")
});

/// The result of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its header was accepted.
    pub opened: bool,
    /// It condemned the process, for a reason that the segment contains.
    pub condemned: bool,
}

/// Reads an input: its first byte says whether the rest is a segment, or changes to a good one.
pub fn segment(input: &[u8]) -> Outcome {
    let Some((kind, rest)) = input.split_first() else { return Outcome::default() };
    if kind & 1 == 0 { look_at(rest, &[]) } else { look_at(&GOOD, rest) }
}

/// A good segment in which every word after the header's own is `random`, anew before each
/// observation.
pub fn noise(mut random: impl FnMut() -> u64) -> Outcome {
    let Some(mut watch) = Watch::begin(&GOOD) else { panic!("a good segment is refused") };
    watch.look(1);
    for _ in 0..LAST_LOOKS {
        for word in (shard_heartbeat::layout::H_STATE / 8)..GOOD.len() / 8 {
            watch.put(word * 8, &random().to_le_bytes());
        }
        watch.look(LAST_INTERVAL_MS);
    }
    // And then it stands still, like a stalled thread.
    (0..LAST_LOOKS).for_each(|_| watch.look(LAST_INTERVAL_MS));
    watch.outcome()
}

fn look_at(bytes: &[u8], mut changes: &[u8]) -> Outcome {
    let Some(mut watch) = Watch::begin(bytes) else { return Outcome::default() };
    while let [what, rest @ ..] = changes
        && watch.looks.count() < MOST_LOOKS - LAST_LOOKS
    {
        let place = |rest: &[u8]| {
            let (place, rest) = rest.split_first_chunk::<2>()?;
            let words = (bytes.len() / 8).max(1);
            Some((usize::from(u16::from_le_bytes(*place)) % words * 8, rest.len()))
        };
        let left = match (what % 8, place(rest)) {
            (0..=2, _) => {
                watch.look(u64::from(what >> 3) + 1);
                rest.len()
            }
            (3 | 4, Some((place, left))) if left >= 8 => {
                watch.put(place, rest.get(2..10).unwrap_or_default());
                left - 8
            }
            (5 | 6, Some((place, left))) if left >= 1 => {
                watch.put(place, &u64::from(rest.get(2).copied().unwrap_or_default()).to_le_bytes());
                left - 1
            }
            (7, Some((place, left))) => {
                watch.cut(if what >> 3 & 1 == 0 { place } else { bytes.len() });
                left
            }
            _ => 0,
        };
        changes = rest.get(rest.len() - left..).unwrap_or_default();
    }
    (0..LAST_LOOKS).for_each(|_| watch.look(LAST_INTERVAL_MS));
    watch.outcome()
}

/// A probe and a judge on one segment.
struct Watch {
    file: &'static File,
    probe: Probe,
    judge: Judge,
    at: Monotonic,
    seen: Observation,
    looks: Looks,
    condemned: bool,
}

impl Watch {
    /// `None` if the segment is refused.
    fn begin(bytes: &[u8]) -> Option<Self> {
        let file = FILE.as_file();
        file.set_len(0).expect("a file can be cut");
        file.write_all_at(bytes, 0).expect("and written");
        let segment = Reader::open(FILE.path()).ok()?;
        let looks = Looks::new(segment.header());
        let proc_dir = Path::new("/proc").join(std::process::id().to_string());
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let leader = TaskDir::open(&proc_dir.join("task").join(pid.to_string())).expect("the main thread");
        let start_time = leader.stat().expect("it can be read").expect("it lives").start_time;
        let identity = TargetIdentity { pid, start_time, incarnation: segment.header().incarnation };
        let handle = TargetHandle::open(Path::new("/proc"), identity, segment.as_fd(), Monotonic(0))
            .expect("this process");
        let mut probe = Probe::new(ThreadEvents::Pidfd).expect("a probe");
        let channel = POLICY.channels.first().expect("one rule");
        let threads = channel.consumer.clone().expect("it kills");
        probe.look_at_consumers(vec![Consumers { channel: channel.name.clone(), threads }]);
        let adopted = Adopted {
            handle,
            segment: Some(segment),
            proc_dir,
            leader,
            other_pid_namespace: false,
            sight: None,
            start_times: shard_watchdog::probe::start_times::StartTimes::default(),
        };
        probe.adopt(adopted).expect("it can be watched");
        let at = Monotonic(1_000 * MILLI);
        let judge = Judge::new(at);
        Some(Self { file, probe, judge, at, seen: Observation::default(), looks, condemned: false })
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, at as u64).expect("a file can be written");
    }

    fn cut(&self, length: usize) {
        self.file.set_len(length as u64).expect("a file can be cut");
    }

    fn look(&mut self, after_ms: u64) {
        self.at = Monotonic(self.at.0 + after_ms * MILLI);
        self.probe.observe(self.at, &mut self.seen);
        let process = self.seen.process.as_ref().expect("a target");
        assert!(!process.exited, "this process lives");
        let mut bytes = vec![0; self.looks.size()];
        let length = self.file.read_at(&mut bytes, 0).expect("a file can be read");
        bytes.truncate(length);
        self.looks.push(Look { at: self.at, readable: process.segment_readable, bytes });
        self.looks.assert_bounded(&self.seen);
        self.judge.observe(&POLICY, &self.seen);
        for note in self.judge.notes() {
            if let Note::Opened(condemned) = note {
                self.condemned = true;
                if let Err(why) = self.looks.explain(condemned) {
                    panic!("{} is no reason, for {why}: {condemned:#?}", condemned.why);
                }
            }
        }
    }

    fn outcome(self) -> Outcome {
        Outcome { opened: true, condemned: self.condemned }
    }
}

/// A good segment, whole; and changes to it: none, each word of a slot, other states, a file that
/// is cut and grows again.
pub fn seeds() -> Vec<Vec<u8>> {
    use shard_heartbeat::layout::{H_STATE, HEADER_SIZE, T_ACTIVITY, T_CLAIM, T_LANES, T_TID};
    let look = |ms: u8| vec![(ms - 1) << 3];
    let put =
        |at: usize, value: u64| [&[3][..], &((at / 8) as u16).to_le_bytes(), &value.to_le_bytes()].concat();
    let cut = |at: usize| [&[7][..], &((at / 8) as u16).to_le_bytes()].concat();
    let whole = [&[0][..], &GOOD].concat();
    let changed = |changes: &[Vec<u8>]| [&[1][..], &look(5), &changes.concat(), &look(20)].concat();
    let slot = HEADER_SIZE;
    let mut seeds = vec![whole, changed(&[])];
    seeds.extend([2, 3, 4, 9].map(|state| changed(&[put(H_STATE, state)])));
    seeds
        .extend([0, 1, 2, 3, 4, 0xff].map(|state| changed(&[put(slot + T_CLAIM, 1 << 8 | state), look(30)])));
    seeds.extend(
        [0, 1, 0x7fff_ffff, u64::MAX]
            .map(|tid| changed(&[put(slot + T_CLAIM, 2 << 8 | 1), put(slot + T_TID, tid)])),
    );
    seeds
        .extend([0, 2, 9].map(|word| {
            changed(&[put(slot + T_ACTIVITY, word), look(30), put(slot + T_LANES + 0x18, word)])
        }));
    // Dropped for a moment, at rest for a while, and dropped again: only the last time counts.
    let drop = |state: u64| [put(slot + T_CLAIM, 1 << 8 | state), look(5)].concat();
    seeds.push(changed(&[put(slot + T_ACTIVITY, 0), drop(3), drop(1), look(32).repeat(4), drop(3)]));
    seeds.push(changed(&[cut(slot), look(30), vec![15, 0, 0], look(30)]));
    // Given up for a moment and then restored: only the time after that counts.
    let at_work = 1 << 8 | 1;
    seeds.push(changed(&[
        look(30),
        look(30),
        put(slot + T_CLAIM, 2 << 8),
        look(5),
        put(slot + T_CLAIM, at_work),
        look(1),
    ]));
    seeds
}
