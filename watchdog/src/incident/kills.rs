//! What the kill budget has paid for, kept apart from the incidents: those are pruned, and a kill
//! must not be forgotten with one.

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
/// So many kills are remembered, the latest. A budget that allows more of them within its period is
/// none.
pub const MOST: usize = 64;

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Whose incident tells of it; `None` stands for kills that nobody remembers.
    pub incident: Option<IncidentId>,
    /// When.
    #[serde(flatten)]
    pub at: Moment,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Whether there were more before these.
    cut: bool,
    kills: Vec<Kill>,
}

/// All that are remembered.
#[derive(Debug)]
pub struct Kills {
    evidence: Place,
    document: Document,
}

impl Kills {
    /// None yet, in the file of this evidence directory.
    pub fn new(evidence: Place) -> Self {
        Self { evidence, document: Document::default() }
    }

    /// Reads the file, and adds what these incidents tell beside it.
    ///
    /// # Errors
    /// If the file is there and cannot be used. All counts as spent then, and the file is written
    /// anew.
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

    /// Nothing is known of what was before.
    pub fn forget(&mut self, now: Moment) {
        self.document = Document { cut: true, kills: vec![Kill { incident: None, at: now }] };
    }

    /// Adds the kill that `incident` tells of, if there is one and it is new, and writes the file.
    ///
    /// # Errors
    /// Whatever the disk says. The kill is remembered all the same, for as long as this sidecar
    /// lives.
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
            // Each was added after those before it.
            kills.drain(..more);
            self.document.cut = true;
        }
        small_file::write(&self.evidence, FILE, &self.document)
    }

    /// How long ago each was, as seen from `now`.
    pub fn past(&self, now: Moment) -> Past {
        let mut ages: Vec<_> = self.document.kills.iter().map(|kill| kill.at.age(&now)).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let more = ages.len().saturating_sub(MOST);
        ages.drain(..more);
        Past { ages, cut: self.document.cut || more > 0 }
    }
}

/// When the first signal of this incident went out, which the budget paid for. One that the kernel
/// refused was paid for too.
fn signalled(incident: &Incident) -> Option<Moment> {
    first(incident, &[StepName::Signal, StepName::SignalRefused])
}

/// When a signal may have gone out that was not told any more: the sidecar ended between the
/// verdict and the telling.
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
