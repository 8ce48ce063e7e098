//! The kills that were charged to the budget, stored apart from the incidents: those are pruned,
//! and the kills must not be lost with them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::act::budget::Past;
use crate::clock::{Moment, Monotonic};
use crate::own_folder::Place;
use crate::verdict::Reason;

use super::id::IncidentId;
use super::timeline::{Entry, StepName};
use super::{Incident, Status, small_file, unharmed};

/// The file in the evidence directory.
pub const FILE: &str = "kills.json";
/// The number of kills that are remembered, the latest ones. A budget that allows more within its
/// period is no limit.
pub const MOST: usize = 64;

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The incident of the kill, which has one for each sidecar that signalled in it; `None` stands
    /// for kills that are no longer known.
    pub incident: Option<IncidentId>,
    /// The time of the kill.
    #[serde(flatten)]
    pub at: Moment,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Whether earlier kills were dropped.
    cut: bool,
    kills: Vec<Kill>,
}

/// All kills that are remembered.
#[derive(Debug)]
pub struct Kills {
    evidence: Place,
    document: Document,
}

impl Kills {
    /// No kills yet; `evidence` is the directory of the file.
    pub fn new(evidence: Place) -> Self {
        Self { evidence, document: Document::default() }
    }

    /// Reads the file, and adds the kills in `incidents`.
    ///
    /// # Errors
    /// If the file exists and cannot be used. Then the whole budget counts as spent, and the file
    /// is written anew.
    pub fn load(&mut self, incidents: &[Incident], now: Moment) -> io::Result<()> {
        let read = small_file::read::<Document>(&self.evidence, FILE);
        let failed = match read {
            Ok(document) => {
                self.document = document.unwrap_or_default();
                None
            }
            Err(error) => {
                self.document = Document { cut: true, kills: vec![Kill { incident: None, at: now }] };
                Some(error)
            }
        };
        let mut new = failed.is_some();
        for incident in incidents {
            new |= self.take(incident, signalled(incident).chain(untold(incident)));
        }
        if new {
            self.write()?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Nothing is known of earlier kills.
    pub fn forget(&mut self, now: Moment) {
        self.document = Document { cut: true, kills: vec![Kill { incident: None, at: now }] };
    }

    /// Adds the kills in `incident` that are new, and writes the file if there are any.
    ///
    /// # Errors
    /// Any error of the disk. They are remembered all the same while this sidecar lives.
    pub fn add(&mut self, incident: &Incident) -> io::Result<()> {
        if self.take(incident, signalled(incident)) { self.write() } else { Ok(()) }
    }

    fn take(&mut self, incident: &Incident, all: impl Iterator<Item = Moment>) -> bool {
        let before = self.document.kills.len();
        for at in all {
            // The wall-clock time loses digits on its way through a document.
            let same = |known: Moment| (known.boot, known.monotonic) == (at.boot, at.monotonic);
            let known = |kill: &Kill| kill.incident.as_ref() == Some(&incident.id) && same(kill.at);
            if !self.document.kills.iter().any(known) {
                self.document.kills.push(Kill { incident: Some(incident.id.clone()), at });
            }
        }
        self.document.kills.len() > before
    }

    fn write(&mut self) -> io::Result<()> {
        let kills = &mut self.document.kills;
        if let Some(more) = kills.len().checked_sub(MOST).filter(|more| *more > 0) {
            // The kills were added in order of time.
            kills.drain(..more);
            self.document.cut = true;
        }
        small_file::write(&self.evidence, FILE, &self.document)
    }

    /// The age of each kill, as seen from `now`.
    pub fn past(&self, now: Moment) -> Past {
        let mut ages: Vec<_> = self.document.kills.iter().map(|kill| kill.at.age(&now)).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let more = ages.len().saturating_sub(MOST);
        ages.drain(..more);
        Past { ages, cut: self.document.cut || more > 0 }
    }
}

/// When each sidecar sent its first signal in this incident, which was charged to its budget. One
/// that the kernel refused was charged too.
fn signalled(incident: &Incident) -> impl Iterator<Item = Moment> {
    incident.lives().filter_map(|life| first(incident, life, &[StepName::Signal, StepName::SignalRefused]))
}

/// When a signal may have been sent without a record: the last sidecar ended between its verdict
/// and the report of the signal. If the process shows no trace of a signal, none was sent.
fn untold(incident: &Incident) -> Option<Moment> {
    const TOLD: &[StepName] =
        &[StepName::Signal, StepName::SignalRefused, StepName::Withheld, StepName::Exited];
    let kills = incident.mode == "enforce" || incident.reason == Reason::Requested;
    if incident.status != Status::Open || !kills || incident.reason == Reason::ProcessGone {
        return None;
    }
    let life = incident.lives().last()?;
    if first(incident, life, TOLD).is_some() {
        return None;
    }
    let verdict = first(incident, life, &[StepName::Verdict])?;
    (!unharmed::is_unharmed(incident.target)).then_some(verdict)
}

fn first(incident: &Incident, life: &[Entry], wanted: &[StepName]) -> Option<Moment> {
    let entry = life.iter().find(|entry| wanted.contains(&entry.step))?;
    Some(Moment { boot: incident.boot, monotonic: entry.monotonic_ns.map(Monotonic), wall: entry.at })
}
