//! The JSON of `/api/v1/history`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::ExcuseKind;

use super::{COUNTED, EXCUSED, Entry, IDLE, OTHER, Ring, Rings, WORKING};

/// The last minute of the watched threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HistoryJson {
    /// The number of the newest entry, for `?after=`. There is one entry a second. The latest few
    /// may still change: what a thread did becomes clear only later.
    pub entry: u64,
    /// Threads that have no history because 64 others do.
    pub without: usize,
    /// The threads that have one.
    pub threads: Vec<ThreadHistoryJson>,
}

/// Columns of one thread, the oldest entry first. Each ends with the entry `entry`, unless there is
/// none of the thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ThreadHistoryJson {
    /// Registered name.
    pub name: String,
    /// Thread id as the sidecar sees it.
    pub tid: Option<i32>,
    /// Length of the entry, microseconds: the sum of the next five.
    pub length_us: Vec<u32>,
    /// Waiting for work, microseconds.
    pub idle_us: Vec<u32>,
    /// At work and making progress, microseconds.
    pub working_us: Vec<u32>,
    /// At work without progress in time that counts towards `stall_after`, microseconds.
    pub counted_us: Vec<u32>,
    /// Excused, microseconds, by kind; kinds that did not occur are absent.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, Vec<u32>>))]
    pub excused_us: BTreeMap<ExcuseKind, Vec<u32>>,
    /// None of these, microseconds: there was no such thread, or it could not be read.
    pub other_us: Vec<u32>,
    /// Age of the heartbeat at the end of the entry, milliseconds.
    pub heartbeat_age_ms: Vec<Option<u32>>,
    /// Age of the work then, milliseconds; null without work.
    pub work_age_ms: Vec<Option<u32>>,
    /// Share of a CPU that it had, in thousandths; null where unknown.
    pub cpu_permille: Vec<Option<u16>>,
    /// Share of the time that it waited in the run queue, in thousandths; null where unknown.
    pub run_delay_permille: Vec<Option<u16>>,
}

pub(super) fn of(rings: &Rings, after: Option<u64>) -> HistoryJson {
    let wanted = after.map_or(usize::MAX, |after| {
        usize::try_from(rings.number.saturating_sub(after)).unwrap_or(usize::MAX)
    });
    HistoryJson {
        entry: rings.number,
        without: rings.without,
        threads: rings.rings.iter().map(|ring| thread(ring, wanted)).collect(),
    }
}

fn thread(ring: &Ring, wanted: usize) -> ThreadHistoryJson {
    let skipped = ring.entries.len().saturating_sub(wanted);
    let entries = || ring.entries.iter().skip(skipped);
    let part = |part: usize| entries().map(|entry| entry.parts[part]).collect::<Vec<u32>>();
    let excused = ExcuseKind::ALL.iter().enumerate().filter_map(|(index, kind)| {
        let micros = part(EXCUSED + index);
        micros.iter().any(|micros| *micros > 0).then_some((*kind, micros))
    });
    let age = |of: fn(&Entry) -> u32| entries().map(|entry| known(of(entry), u32::MAX)).collect();
    let share = |of: fn(&Entry) -> u16| entries().map(|entry| known(of(entry), u16::MAX)).collect();
    ThreadHistoryJson {
        name: ring.name.clone(),
        tid: ring.tid,
        length_us: entries().map(|entry| entry.parts.iter().sum()).collect(),
        idle_us: part(IDLE),
        working_us: part(WORKING),
        counted_us: part(COUNTED),
        excused_us: excused.collect(),
        other_us: part(OTHER),
        heartbeat_age_ms: age(|entry| entry.heartbeat_ms),
        work_age_ms: age(|entry| entry.work_ms),
        cpu_permille: share(|entry| entry.cpu.ran),
        run_delay_permille: share(|entry| entry.cpu.waited),
    }
}

fn known<T: Copy + PartialEq>(value: T, unknown: T) -> Option<T> {
    (value != unknown).then_some(value)
}
