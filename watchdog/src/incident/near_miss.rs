//! `near_misses.json` in the evidence directory: threads that made no progress for `warn_after`,
//! and how that ended. They show that a threshold is too short, or that a disk is dying, before
//! anything is killed.

use std::collections::VecDeque;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::thread::ThreadEvidence;
use crate::judge::target::FaultyThread;
use crate::own_folder::Place;
use crate::verdict::NearMissOutcome;

use super::id::IncidentId;
use super::small_file;
use super::timeline::micros;

/// The name of the file.
pub const NAME: &str = "near_misses.json";
/// So many are kept, the latest. With all that the kernel tells of a thread, each has about 2 KiB.
pub const MOST: usize = 50;

/// One near miss.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NearMiss {
    /// Sorts by time.
    pub id: IncidentId,
    /// The name of the shard.
    pub shard: String,
    /// When the thread was found late.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// The thread, its work, and the section of it.
    pub thread: FaultyThread,
    /// How it ended.
    pub outcome: NearMissOutcome,
    /// From its last sign of progress to the next one, or to the end of the near miss, seconds.
    pub lasted_seconds: f64,
    /// The part of it that counted when it was found late, seconds.
    pub counted_seconds: f64,
    /// The threshold at which it would have been stalled, seconds.
    pub stall_after_seconds: f64,
    /// The incident that it became.
    #[serde(default)]
    pub incident: Option<IncidentId>,
    /// What the thread was doing, as a clause.
    #[serde(default)]
    pub guess: Option<String>,
    /// What the kernel showed of the thread while it stood still; null if nothing was gathered, or
    /// if it went on meanwhile.
    #[serde(default)]
    pub evidence: Option<ThreadEvidence>,
}

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    near_misses: VecDeque<NearMiss>,
}

/// The latest near misses, oldest first.
pub(super) fn load(evidence: &Place) -> io::Result<VecDeque<NearMiss>> {
    let mut near_misses = small_file::read_larger::<File>(evidence, NAME)?.unwrap_or_default().near_misses;
    let too_many = near_misses.len().saturating_sub(MOST);
    near_misses.drain(..too_many);
    Ok(near_misses)
}

/// Adds one, and writes the file so that at every moment the old or the new one is complete on
/// disk.
pub(super) fn add(
    near_misses: &mut VecDeque<NearMiss>,
    near_miss: NearMiss,
    evidence: &Place,
) -> io::Result<()> {
    near_misses.push_back(near_miss);
    if near_misses.len() > MOST {
        near_misses.pop_front();
    }
    let file = File { near_misses: std::mem::take(near_misses) };
    let written = small_file::write(evidence, NAME, &file);
    *near_misses = file.near_misses;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::sample::faulty_thread;
    use std::sync::Arc;

    fn near_miss(number: u64) -> NearMiss {
        let at = Timestamp::from_second(1_700_000_000 + i64::try_from(number).unwrap()).unwrap();
        NearMiss {
            id: IncidentId::new(at, number),
            shard: "0".to_owned(),
            at,
            thread: faulty_thread(number),
            outcome: NearMissOutcome::Recovered,
            lasted_seconds: 0.8,
            counted_seconds: 0.4,
            stall_after_seconds: 1.0,
            incident: None,
            guess: None,
            evidence: Some(ThreadEvidence::default()),
        }
    }

    #[test]
    fn the_latest_are_kept_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned(), Arc::default());
        assert!(load(&place).unwrap().is_empty());
        let mut near_misses = VecDeque::new();
        for number in 0..MOST as u64 + 3 {
            add(&mut near_misses, near_miss(number), &place).unwrap();
        }
        let read = load(&place).unwrap();
        let keys: Vec<_> = read.iter().filter_map(|near_miss| near_miss.thread.work_key).collect();
        assert_eq!((keys.len(), keys.first(), keys.last()), (MOST, Some(&3), Some(&(MOST as u64 + 2))));
    }

    #[test]
    fn a_file_with_anything_in_it_is_an_error_and_replaced_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned(), Arc::default());
        std::fs::write(folder.path().join(NAME), "{\"near_misses\": 7}").unwrap();
        assert!(load(&place).is_err());
        add(&mut VecDeque::new(), near_miss(1), &place).unwrap();
        assert_eq!(load(&place).unwrap().len(), 1);
    }
}
