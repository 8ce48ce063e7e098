//! The story of one fault, from last progress to recovery, as a document that people and scripts
//! read.
//!
//! The document is whole at every step: whoever is interrupted while writing the next one leaves
//! this one behind.

pub mod deaths;
pub mod folder;
pub mod id;
pub mod journal;
pub mod kills;
pub mod pause;
pub mod retention;
mod small_file;
pub mod spans;
pub mod timeline;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{BootId, Monotonic, WallAnchor};
use crate::event::{FaultyThread, Opening, Step};
use crate::probe::tracer::Tracer;
use crate::snapshot::TargetIdentity;
use crate::verdict::Reason;

use id::IncidentId;
use timeline::{Durations, Entry, StepName};

/// More steps than this come only from a loop gone wrong; the story is told by the first ones.
const MOST_STEPS: usize = 256;

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It goes on.
    Open,
    /// The new incarnation finished its first work.
    Recovered,
    /// It ended without recovery seen.
    Abandoned,
    /// The sidecar that told it ended first.
    Interrupted,
}

impl Status {
    /// The word in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Abandoned => "abandoned",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The process at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its pid as the sidecar saw it.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// The incarnation that its segment stated; zero without a segment.
    pub incarnation: u64,
}

impl From<TargetIdentity> for TargetRecord {
    fn from(target: TargetIdentity) -> Self {
        Self { pid: target.pid, start_time: target.start_time, incarnation: target.incarnation }
    }
}

/// `incident.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// Sorts by time; names the folder.
    pub id: IncidentId,
    /// Which shard.
    pub shard: String,
    /// Where it stands.
    pub status: Status,
    /// What for.
    pub reason: Reason,
    /// The sentence that a person reads.
    pub why: String,
    /// `observe` or `enforce`, at the verdict.
    pub mode: String,
    /// When the verdict fell.
    #[serde(with = "timeline::micros")]
    pub opened_at: Timestamp,
    /// When it stopped being open.
    #[serde(with = "timeline::maybe_micros", default)]
    pub closed_at: Option<Timestamp>,
    /// The process.
    pub target: TargetRecord,
    /// The thread at fault, if one is.
    pub thread: Option<FaultyThread>,
    /// In which boot of the machine the monotonic times mean something; absent in documents of
    /// versions that did not say.
    #[serde(default)]
    pub boot: Option<BootId>,
    /// Every observation that the verdict rests on.
    pub observations: Vec<String>,
    /// What the process said in its segment before, if anything.
    #[serde(default)]
    pub last_words: Option<String>,
    /// Who traced the thread at fault (else the main thread) when the verdict fell, if anybody did.
    #[serde(default)]
    pub tracer: Option<Tracer>,
    /// Every step, in the order of its time.
    pub timeline: Vec<Entry>,
    /// How long each part took, where both of its ends are known.
    pub durations: Durations,
    /// Its trace; absent in documents of versions that told none.
    #[serde(default)]
    pub trace: Option<IncidentTrace>,
}

/// Under which ids the spans of an incident are sent. Kept in its document, so that it is one trace
/// however often the sidecar is restarted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentTrace {
    /// 32 hex digits.
    pub trace_id: String,
    /// Of the root span: 16 hex digits.
    pub span_id: String,
}

impl Incident {
    /// The document of a new incident.
    pub fn open(opening: &Opening, shard: &str, mode: &str, anchor: &WallAnchor) -> Self {
        let opened_at = anchor.wall(opening.at);
        let mut incident = Self {
            id: IncidentId::new(opened_at, opening.incident),
            shard: shard.to_owned(),
            status: Status::Open,
            reason: opening.reason,
            why: opening.why.clone(),
            mode: mode.to_owned(),
            opened_at,
            closed_at: None,
            target: opening.target.into(),
            thread: opening.thread.clone(),
            boot: anchor.boot(),
            observations: opening.observations.clone(),
            last_words: opening.last_words.clone(),
            tracer: opening.tracer.clone(),
            timeline: Vec::new(),
            durations: Durations::default(),
            trace: Some(spans::new_trace()),
        };
        let threshold = opening.threshold.map(|threshold| format!("the threshold is {threshold:?}"));
        incident.push(anchor, opening.last_progress, StepName::LastProgress, None);
        incident.push(anchor, opening.seen, StepName::Seen, threshold);
        incident.push(anchor, opening.at, StepName::Verdict, Some(opening.why.clone()));
        incident
    }

    /// How long after the last progress `at` is, in milliseconds.
    pub fn since_last_progress(&self, at: Monotonic) -> Option<f64> {
        timeline::since_last_progress(&self.timeline, at)
    }

    /// Adds what happened next.
    pub fn step(&mut self, at: Monotonic, step: &Step, anchor: &WallAnchor) {
        let (name, detail) = timeline::tell(step);
        self.push(anchor, at, name, detail);
        let closed = match step {
            Step::Recovered { .. } => Status::Recovered,
            Step::Abandoned { .. } => Status::Abandoned,
            _ => return,
        };
        self.status = closed;
        self.closed_at = Some(anchor.wall(at));
    }

    /// Closes an incident that an earlier life of the sidecar left open: nobody saw how it went on.
    pub fn interrupt(&mut self, at: Timestamp) {
        self.timeline.push(Entry {
            at,
            // The clock of an earlier boot cannot be compared with ours.
            monotonic_ns: None,
            since_last_progress_ms: None,
            step: StepName::SidecarRestarted,
            detail: Some("the sidecar ended while this incident was open, and saw no more of it".to_owned()),
        });
        self.status = Status::Interrupted;
        self.closed_at = Some(at);
    }

    fn push(&mut self, anchor: &WallAnchor, at: Monotonic, step: StepName, detail: Option<String>) {
        if self.timeline.len() >= MOST_STEPS {
            return;
        }
        let entry = Entry::new(&self.timeline, anchor, at, step, detail);
        // A look tells its verdict first, and the death that it rests on is older.
        let place = self.timeline.partition_point(|earlier| earlier.monotonic_ns <= entry.monotonic_ns);
        self.timeline.insert(place, entry);
        self.durations = Durations::of(&self.timeline, self.reason);
    }
}

/// What a list of incidents shows of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: IncidentId,
    /// Which shard.
    pub shard: String,
    /// Where it stands.
    pub status: Status,
    /// What for.
    pub reason: Reason,
    /// The sentence that a person reads.
    pub why: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// When the verdict fell.
    #[serde(with = "timeline::micros")]
    pub opened_at: Timestamp,
    /// When it stopped being open.
    #[serde(with = "timeline::maybe_micros", default)]
    pub closed_at: Option<Timestamp>,
    /// The name of the thread at fault.
    pub thread: Option<String>,
    /// How long each part took.
    pub durations: Durations,
}

impl From<&Incident> for Summary {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id.clone(),
            shard: incident.shard.clone(),
            status: incident.status,
            reason: incident.reason,
            why: incident.why.clone(),
            mode: incident.mode.clone(),
            opened_at: incident.opened_at,
            closed_at: incident.closed_at,
            thread: incident.thread.as_ref().map(|thread| thread.name.clone()),
            durations: incident.durations,
        }
    }
}
