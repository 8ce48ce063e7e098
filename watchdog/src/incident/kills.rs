//! The kills that were charged to the budget, stored apart from the incidents: those are pruned,
//! and the kills must not be lost with them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::act::budget::Past;
use crate::clock::{Moment, Monotonic};
use crate::own_folder::Place;
use crate::verdict::Reason;

use super::id::IncidentId;
use super::timeline::StepName;
use super::{Incident, Status, small_file};

/// The file in the evidence directory.
pub const FILE: &str = "kills.json";
/// The number of kills that are remembered, the latest ones. A budget that allows more within its
/// period is no limit.
pub const MOST: usize = 64;

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The incident of the kill; `None` stands for kills that are no longer known.
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
            new |= self.take(incident, signalled(incident).or_else(|| untold(incident)));
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

    /// Adds the kill in `incident`, if there is one and it is new, and writes the file.
    ///
    /// # Errors
    /// Any error of the disk. The kill is remembered all the same while this sidecar lives.
    pub fn add(&mut self, incident: &Incident) -> io::Result<()> {
        if self.take(incident, signalled(incident)) { self.write() } else { Ok(()) }
    }

    fn take(&mut self, incident: &Incident, at: Option<Moment>) -> bool {
        let Some(at) = at else { return false };
        let known = |kill: &Kill| kill.incident.as_ref() == Some(&incident.id);
        if self.document.kills.iter().any(known) {
            return false;
        }
        self.document.kills.push(Kill { incident: Some(incident.id.clone()), at });
        true
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

/// When the first signal of this incident was sent, which was charged to the budget. One that the
/// kernel refused was charged too.
fn signalled(incident: &Incident) -> Option<Moment> {
    first(incident, &[StepName::Signal, StepName::SignalRefused])
}

/// When a signal may have been sent without a record: the sidecar ended between the verdict and the
/// report of the signal.
fn untold(incident: &Incident) -> Option<Moment> {
    let kills = incident.mode == "enforce" || incident.reason == Reason::Requested;
    let told = first(incident, &[StepName::Withheld, StepName::Exited]).is_some();
    if incident.status != Status::Open || !kills || told || incident.reason == Reason::ProcessGone {
        return None;
    }
    first(incident, &[StepName::Verdict])
}

fn first(incident: &Incident, wanted: &[StepName]) -> Option<Moment> {
    let entry = incident.timeline.iter().find(|entry| wanted.contains(&entry.step))?;
    Some(Moment { boot: incident.boot, monotonic: entry.monotonic_ns.map(Monotonic), wall: entry.at })
}
