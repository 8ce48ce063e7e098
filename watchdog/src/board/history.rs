//! The last minute of each thread, one entry a second, for the status page: where its time went,
//! how old its heartbeat and its work were, and what it got of the CPU.
//!
//! Made from the snapshots that the board receives anyway, on the slow side. Bounded: [`ENTRIES`]
//! for each of [`THREADS`] threads, 68 bytes each, 255 KiB together.

mod json;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::snapshot::{Snapshot, Spent, ThreadStatus};
use crate::verdict::ExcuseKind;

pub use json::{HistoryJson, ThreadHistoryJson};

/// A minute.
pub const ENTRIES: usize = 60;
/// More than a person reads, and more than any shard here has.
pub const THREADS: usize = 64;

const SECOND: u64 = 1_000_000_000;
/// A reading of the CPU that is older says nothing of the last second.
const CPU_IS_FRESH: Duration = Duration::from_millis(2_500);
/// What the clocks of a thread's parts lose by being cut to whole microseconds.
const ROUNDED_US: u64 = PARTS as u64;

const PARTS: usize = 4 + ExcuseKind::ALL.len();
const IDLE: usize = 0;
const WORKING: usize = 1;
const COUNTED: usize = 2;
const OTHER: usize = 3;
const EXCUSED: usize = 4;

/// Microseconds by what the thread did, in the order idle, working, counted, other, and the kinds
/// of excuse. Their sum is the length of the entry.
type Parts = [u32; PARTS];

/// About one second of one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    parts: Parts,
    /// Milliseconds; [`u32::MAX`]: none.
    heartbeat_ms: u32,
    work_ms: u32,
    cpu: Share,
}

const _: () = assert!(size_of::<Entry>() == 68);

/// Thousandths of the time that a thread ran and that it waited in the run queue; [`u16::MAX`]:
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    ran: u16,
    waited: u16,
}

const UNKNOWN: Share = Share { ran: u16::MAX, waited: u16::MAX };

/// What the kernel had given a thread at one moment.
#[derive(Clone, Copy, Debug)]
pub struct CpuReading {
    /// The thread.
    pub tid: i32,
    /// Nanoseconds that it ran.
    pub ran_ns: u64,
    /// Nanoseconds that it waited in the run queue.
    pub waited_ns: u64,
}

/// One thread. A new incarnation's thread of the same name goes on with it.
#[derive(Clone, Debug)]
struct Ring {
    name: String,
    tid: Option<i32>,
    /// Microseconds by part at the last entry.
    before: [u64; PARTS],
    entries: VecDeque<Entry>,
    /// The last entries at which there was no such thread.
    absent: usize,
    read: Option<(Monotonic, CpuReading)>,
    share: Option<(Monotonic, Share)>,
}

#[derive(Clone, Debug, Default)]
struct Rings {
    /// The number of the newest entry.
    number: u64,
    at: Option<Monotonic>,
    rings: Vec<Ring>,
    without: usize,
}

/// The last minute of all threads.
#[derive(Debug, Default)]
pub struct History(Mutex<Rings>);

impl History {
    /// Makes an entry of each thread if a new second has begun.
    pub fn record(&self, snapshot: &Snapshot) {
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rings.at.is_none_or(|at| snapshot.at.0 / SECOND > at.0 / SECOND) {
            rings.record(snapshot);
        }
    }

    /// Takes what the kernel had given to threads by `at`.
    pub fn read_cpu(&self, at: Monotonic, readings: &[CpuReading]) {
        let by_tid: HashMap<i32, CpuReading> =
            readings.iter().map(|reading| (reading.tid, *reading)).collect();
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ring in &mut rings.rings {
            let Some(now) = ring.tid.and_then(|tid| by_tid.get(&tid).copied()) else { continue };
            let before = ring.read.replace((at, now));
            let before = before.filter(|(then, before)| before.tid == now.tid && *then < at);
            ring.share = before.map(|(then, before)| (at, share(at.since(then), before, now)));
        }
    }

    /// Ids of the threads that have a history.
    pub fn tids(&self) -> Vec<i32> {
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rings.rings.iter().filter_map(|ring| ring.tid).collect()
    }

    /// Entries with a number above `after`, all by default.
    pub fn json(&self, after: Option<u64>) -> HistoryJson {
        // A copy of a few hundred KiB at most: the relay must not wait while the answer is made.
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json::of(&rings, after)
    }
}

impl Rings {
    fn record(&mut self, snapshot: &Snapshot) {
        let length = self.at.map(|at| snapshot.at.since(at));
        (self.at, self.number) = (Some(snapshot.at), self.number + 1);
        self.without = 0;
        let mut seen = vec![false; self.rings.len()];
        let mut by_thread: HashMap<(String, i32), usize> = HashMap::new();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, ring) in self.rings.iter().enumerate() {
            if let Some(tid) = ring.tid {
                by_thread.insert((ring.name.clone(), tid), index);
            }
            by_name.entry(ring.name.clone()).or_default().push(index);
        }
        let threads = snapshot.threads.iter().filter_map(|thread| Some((thread, thread.tid?)));
        let mut others = Vec::new();
        for (thread, tid) in threads {
            match by_thread.remove(&(thread.name.clone(), tid)) {
                Some(index) => self.go_on(index, &mut seen, thread, snapshot.at, length),
                None => others.push(thread),
            }
        }
        for thread in others {
            let free = by_name.get(&thread.name).into_iter().flatten();
            let free = free.copied().find(|index| seen.get(*index) == Some(&false));
            match free {
                Some(index) => self.go_on(index, &mut seen, thread, snapshot.at, length),
                None if self.rings.len() < THREADS => {
                    self.rings.push(Ring::begin(thread, snapshot.at, length));
                }
                None => self.without += 1,
            }
        }
        let absent = self.rings.iter_mut().zip(&seen).filter(|(_, seen)| !**seen);
        absent.for_each(|(ring, _)| ring.miss(length));
        self.rings.retain(|ring| ring.absent < ENTRIES);
    }

    fn go_on(
        &mut self,
        index: usize,
        seen: &mut [bool],
        thread: &ThreadStatus,
        at: Monotonic,
        length: Option<Duration>,
    ) {
        let (Some(ring), Some(seen)) = (self.rings.get_mut(index), seen.get_mut(index)) else { return };
        *seen = true;
        ring.look(thread, at, length.unwrap_or_default());
    }
}

impl Ring {
    /// The history of a thread seen for the first time: since its start if that was within this
    /// second, else from now on.
    fn begin(thread: &ThreadStatus, at: Monotonic, length: Option<Duration>) -> Self {
        let mut ring = Self {
            name: thread.name.clone(),
            tid: thread.tid,
            before: [0; PARTS],
            entries: VecDeque::with_capacity(ENTRIES),
            absent: 0,
            read: None,
            share: None,
        };
        let now = totals(&thread.spent);
        let lived = Duration::from_micros(now.iter().sum());
        let second = length.unwrap_or(Duration::from_nanos(SECOND));
        if lived.is_zero() || lived > second {
            ring.before = now;
        } else {
            ring.look(thread, at, lived);
        }
        ring
    }

    fn look(&mut self, thread: &ThreadStatus, at: Monotonic, length: Duration) {
        let now = totals(&thread.spent);
        let sum = |parts: &[u64; PARTS]| parts.iter().sum::<u64>();
        if self.tid != thread.tid || sum(&now) + ROUNDED_US < sum(&self.before) {
            // Another thread, whose time began after the last entry, unless it had no history.
            let lived = Duration::from_micros(sum(&now));
            self.before = if lived > length { now } else { [0; PARTS] };
            (self.read, self.share) = (None, None);
        }
        self.tid = thread.tid;
        let mut parts = [0; PARTS];
        for (part, (now, before)) in parts.iter_mut().zip(now.iter().zip(&self.before)) {
            *part = signed(*now) - signed(*before);
        }
        self.settle(&mut parts);
        self.before = now;
        self.absent = 0;
        let age = |since: Option<Monotonic>| {
            let millis = since.map(|since| at.since(since).as_millis());
            millis.map_or(u32::MAX, |millis| u32::try_from(millis).unwrap_or(u32::MAX - 1))
        };
        let share = self.share.filter(|(read, _)| at.since(*read) < CPU_IS_FRESH);
        self.push(Entry {
            parts: whole(parts, length),
            heartbeat_ms: age(thread.last_beat),
            work_ms: age(thread.work_since),
            cpu: share.map_or(UNKNOWN, |(_, share)| share),
        });
    }

    /// There was no such thread.
    fn miss(&mut self, length: Option<Duration>) {
        self.absent += 1;
        (self.read, self.share) = (None, None);
        let parts = whole([0; PARTS], length.unwrap_or_default());
        self.push(Entry { parts, heartbeat_ms: u32::MAX, work_ms: u32::MAX, cpu: UNKNOWN });
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// What a thread did becomes clear later: a pause turns out to be a standstill, counted time
    /// to be stolen. A part that has shrunk is taken from earlier entries, and what has grown
    /// instead goes there: the length of each entry stays.
    fn settle(&mut self, parts: &mut [i64; PARTS]) {
        for lacking in 0..PARTS {
            // Pauses become counted first, and counted time excused.
            let order: Vec<usize> =
                if lacking == WORKING { (COUNTED..PARTS).collect() } else { (0..PARTS).rev().collect() };
            for grown in order {
                let (lacks, has) = (parts[lacking], parts[grown]);
                if lacks >= 0 {
                    break;
                }
                let moves = has.clamp(0, -lacks);
                parts[lacking] += moves;
                parts[grown] -= moves;
                self.rewrite(lacking, grown, moves);
            }
            parts[lacking] = parts[lacking].max(0);
        }
    }

    fn rewrite(&mut self, from: usize, to: usize, mut micros: i64) {
        for entry in self.entries.iter_mut().rev() {
            let moved = u32::try_from(micros).unwrap_or(u32::MAX).min(entry.parts[from]);
            entry.parts[from] -= moved;
            entry.parts[to] += moved;
            micros -= i64::from(moved);
            if micros == 0 {
                return;
            }
        }
    }
}

/// Microseconds by part.
fn totals(spent: &Spent) -> [u64; PARTS] {
    let mut parts = [0; PARTS];
    parts[IDLE] = spent.idle_ns / 1_000;
    parts[WORKING] = spent.working_ns / 1_000;
    parts[COUNTED] = spent.counted_ns / 1_000;
    parts[OTHER] = spent.unclear_ns / 1_000;
    for (part, excused) in parts[EXCUSED..].iter_mut().zip(spent.excused_ns) {
        *part = excused / 1_000;
    }
    parts
}

/// Makes the parts add up to `length`: what is missing is time without such a thread.
fn whole(parts: [i64; PARTS], length: Duration) -> Parts {
    let mut left = u32::try_from(length.as_micros()).unwrap_or(u32::MAX);
    let mut whole = parts.map(|part| {
        let part = u32::try_from(part).unwrap_or(u32::MAX).min(left);
        left -= part;
        part
    });
    whole[OTHER] += left;
    whole
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

fn share(time: Duration, before: CpuReading, now: CpuReading) -> Share {
    let of = |before: u64, now: u64| {
        let nanos = u128::from(now.saturating_sub(before));
        u16::try_from((nanos * 1_000 / time.as_nanos().max(1)).min(1_000)).unwrap_or(1_000)
    };
    Share { ran: of(before.ran_ns, now.ran_ns), waited: of(before.waited_ns, now.waited_ns) }
}
