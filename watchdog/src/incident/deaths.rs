//! `deaths.json` in the evidence directory: what the next run of the sidecar must know of deaths
//! and of work in a crash loop. The incidents record that too, but not what a person cleared, and
//! the oldest of them are deleted.

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::judge::crash_loop::{CrashLoops, DEATHS, KEYS};
use crate::own_folder::Place;
use crate::verdict::Reason;

use super::timeline::{StepName, micros};
use super::{Incident, small_file};

/// The name of the file.
pub(super) const FILE: &str = "deaths.json";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths {
    /// The time of this state: incidents whose process died later are not included.
    #[serde(with = "micros")]
    as_of: Timestamp,
    /// Work that was in flight at each of the last deaths, oldest first.
    deaths: Vec<u64>,
    /// Work in a crash loop, oldest first.
    crash_loop_keys: Vec<u64>,
    /// Kills in a row without a finished piece of work.
    #[serde(default)]
    kills_without_progress: u32,
}

impl Default for Deaths {
    /// No death was ever seen.
    fn default() -> Self {
        Self {
            as_of: Timestamp::MIN,
            deaths: Vec::new(),
            crash_loop_keys: Vec::new(),
            kills_without_progress: 0,
        }
    }
}

impl Deaths {
    /// What the judge knew at `as_of`.
    pub fn of(known: &CrashLoops, as_of: Timestamp) -> Self {
        Self {
            as_of,
            deaths: known.deaths().to_vec(),
            crash_loop_keys: known.keys().to_vec(),
            kills_without_progress: known.kills_without_progress(),
        }
    }

    /// For a judge: `after` deaths with the same work in flight are a crash loop.
    pub fn known(&self, after: u32) -> CrashLoops {
        CrashLoops::remembered(&self.deaths, &self.crash_loop_keys)
            .after_kills(self.kills_without_progress)
            .settled(after)
    }

    /// Adds the incidents, oldest first, that were written after this state: a sidecar that was
    /// killed in between had written only the incident.
    pub(super) fn add<'a>(&mut self, incidents: impl Iterator<Item = &'a Incident>) {
        for incident in incidents {
            let key = incident.thread.as_ref().and_then(|thread| thread.work_key);
            let mut new = false;
            for (died, killed) in deaths_of(incident) {
                if died <= self.as_of {
                    continue;
                }
                (self.as_of, new) = (died, true);
                self.deaths.extend(key.filter(|key| *key != 0));
                if killed && incident.reason != Reason::Requested {
                    self.kills_without_progress = self.kills_without_progress.saturating_add(1);
                }
            }
            if new && incident.timeline.iter().any(|entry| entry.step == StepName::Recovered) {
                self.kills_without_progress = 0;
            }
        }
        let too_many = self.deaths.len().saturating_sub(DEATHS);
        self.deaths.drain(..too_many);
    }

    /// The content of the file in `evidence`; empty if there is none.
    pub(super) fn load(evidence: &Place) -> io::Result<Self> {
        let mut deaths: Self = small_file::read(evidence, FILE)?.unwrap_or_default();
        deaths.deaths.truncate(DEATHS);
        deaths.crash_loop_keys.truncate(KEYS);
        Ok(deaths)
    }

    /// Writes the file so that at every moment the old or the new one is complete on disk.
    pub(super) fn write(&self, evidence: &Place) -> io::Result<()> {
        small_file::write(evidence, FILE, self)
    }
}

/// When the process of an incident died, or was sent a signal whose effect the same sidecar did not
/// observe; and whether it was sent one. A sidecar that ends itself in place of a signal may do so
/// in vain: then the next one does it again in the same incident.
fn deaths_of(incident: &Incident) -> Vec<(Timestamp, bool)> {
    let mut deaths = Vec::new();
    for life in incident.lives() {
        let step = |name| life.iter().rev().find(|entry| entry.step == name).map(|entry| entry.at);
        let (exited, signal) = (step(StepName::Exited), step(StepName::Signal));
        // The death that a sidecar only found has been counted by the signal of the one before.
        if signal.is_some() || deaths.is_empty() {
            deaths.extend(exited.or(signal).map(|died| (died, signal.is_some())));
        }
    }
    deaths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_was_written_comes_back_and_nothing_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = Place::new(folder.path().join("evidence"), Arc::default());
        assert_eq!(Deaths::load(&evidence).unwrap(), Deaths::default());
        let known = CrashLoops::remembered(&[3, 4], &[u64::MAX]).after_kills(2);
        let deaths = Deaths::of(&known, at(1_700_000_000));
        deaths.write(&evidence).unwrap();
        let read = Deaths::load(&evidence).unwrap();
        assert_eq!(read, deaths);
        assert_eq!(read.known(2), known);
        assert_eq!(read.known(0), CrashLoops::NONE.after_kills(2), "no work is poison then");
    }

    #[test]
    fn a_hostile_file_is_refused_or_cut() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = Place::new(folder.path().to_owned(), Arc::default());
        let put = |text: &str| std::fs::write(folder.path().join(FILE), text).unwrap();
        for text in ["", "{", "[1]", "{\"as_of\":\"now\",\"deaths\":[],\"crash_loop_keys\":[]}"] {
            put(text);
            assert!(Deaths::load(&evidence).is_err(), "{text}");
        }
        let many = vec![7_u64; 1_000];
        put(&format!(
            "{{\"as_of\":\"2026-01-01T00:00:00Z\",\"deaths\":{many:?},\"crash_loop_keys\":{many:?}}}"
        ));
        assert_eq!(Deaths::load(&evidence).unwrap().known(2).keys(), [7]);
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join(FILE)).unwrap();
        assert!(Deaths::load(&evidence).is_err());
    }
}
