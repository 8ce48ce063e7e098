//! The record of one fault, from last progress to recovery, as a document for people and scripts.
//!
//! The document is complete at every step: a sidecar that is interrupted while it writes the next
//! one leaves the previous one behind.

pub mod deaths;
pub mod folder;
pub mod id;
pub mod journal;
pub mod kills;
pub mod near_miss;
pub mod pause;
pub mod retention;
#[cfg(feature = "schema")]
pub mod schema;
mod small_file;
pub mod spans;
pub mod timeline;
mod unharmed;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{BootId, Monotonic, WallAnchor};
use crate::event::{FaultyThread, Opening, Step};
use crate::judge::words::Rounded;
use crate::probe::tracer::Tracer;
use crate::snapshot::TargetIdentity;
use crate::verdict::{Reason, StallKind};

use id::IncidentId;
use retention::Fingerprint;
use timeline::{Durations, Entry, StepName};

/// More steps than this come only from a runaway loop; the first ones suffice to explain the
/// incident.
const MOST_STEPS: usize = 256;

/// The state of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The incident continues.
    Open,
    /// The new incarnation finished its first work.
    Recovered,
    /// The incident ended without an observed recovery.
    Abandoned,
    /// The sidecar that recorded it ended first, and the next one could not go on with it: the
    /// machine had been restarted, or a later incident was open too.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetRecord {
    /// The pid as the sidecar saw it.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Incident {
    /// Sorts by time; also the name of the folder.
    #[cfg_attr(feature = "schema", schemars(with = "schema::Id"))]
    pub id: IncidentId,
    /// The name of the shard.
    pub shard: String,
    /// The state of the incident.
    pub status: Status,
    /// The reason for the verdict.
    pub reason: Reason,
    /// The explanation for a person, as a sentence.
    pub why: String,
    /// `observe` or `enforce`, at the verdict: the last one, if it was reached again.
    pub mode: String,
    /// When the verdict was reached.
    #[serde(with = "timeline::micros")]
    #[cfg_attr(feature = "schema", schemars(with = "schema::Instant"))]
    pub opened_at: Timestamp,
    /// When it stopped being open.
    #[serde(with = "timeline::maybe_micros", default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Instant>"))]
    pub closed_at: Option<Timestamp>,
    /// The process at fault.
    pub target: TargetRecord,
    /// The thread at fault, if there is one.
    pub thread: Option<FaultyThread>,
    /// The boot of the machine to which the monotonic times belong; absent in documents of versions
    /// that did not record it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::Boot>"))]
    pub boot: Option<BootId>,
    /// Every observation that the verdict rests on.
    pub observations: Vec<String>,
    /// The last message of the process in its segment, if any.
    #[serde(default)]
    pub last_words: Option<String>,
    /// The process that traced the thread at fault (else the main thread) at the verdict, if any.
    #[serde(default)]
    pub tracer: Option<Tracer>,
    /// The functions of the program's own code in which the thread at fault stood, the innermost
    /// first, three at most, without what changes from build to build. Empty if the stacks of its
    /// minidump are not known.
    #[serde(default)]
    pub own_frames: Vec<String>,
    /// Every step, in the order of its time.
    pub timeline: Vec<Entry>,
    /// How long each part took, where both of its ends are known.
    pub durations: Durations,
    /// The trace of the incident; absent in documents of versions that sent none.
    #[serde(default)]
    pub trace: Option<IncidentTrace>,
}

/// The ids of an incident's spans. Stored in its document, so that it remains one trace however
/// often the sidecar is restarted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IncidentTrace {
    /// 32 hex digits.
    pub trace_id: String,
    /// The id of the root span: 16 hex digits.
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
            own_frames: Vec::new(),
            timeline: Vec::new(),
            durations: Durations::default(),
            trace: Some(spans::new_trace()),
        };
        let threshold = opening.threshold.map(|threshold| format!("the threshold is {}", Rounded(threshold)));
        incident.push(anchor, opening.last_progress, StepName::LastProgress, None);
        incident.push(anchor, opening.seen, StepName::Seen, threshold);
        incident.push(anchor, opening.at, StepName::Verdict, Some(opening.why.clone()));
        incident
    }

    /// Milliseconds from the last progress to `at`.
    pub fn since_last_progress(&self, at: Monotonic) -> Option<f64> {
        timeline::since_last_progress(&self.timeline, at)
    }

    /// Adds a step.
    pub fn step(&mut self, at: Monotonic, step: &Step, anchor: &WallAnchor) {
        let (name, detail) = timeline::tell(step);
        self.push(anchor, at, name, detail);
        self.close(at, step, anchor);
    }

    /// Adds a step that was found at `at` and happened at an unknown time before, while no sidecar
    /// watched. No duration is derived from it.
    pub fn found(&mut self, at: Monotonic, step: &Step, anchor: &WallAnchor) {
        let (step_name, detail) = timeline::tell(step);
        if self.timeline.len() < MOST_STEPS {
            self.timeline.push(Entry::found(anchor.wall(at), step_name, detail));
            self.durations = Durations::of(&self.timeline, self.reason);
        }
        self.close(at, step, anchor);
    }

    fn close(&mut self, at: Monotonic, step: &Step, anchor: &WallAnchor) {
        self.status = match step {
            Step::Recovered { .. } => Status::Recovered,
            Step::Abandoned { .. } => Status::Abandoned,
            _ => return,
        };
        self.closed_at = Some(anchor.wall(at));
    }

    /// Whether a sidecar that starts in this boot can go on with it: only then do its times and its
    /// target mean anything.
    pub fn goes_on_in(&self, boot: Option<BootId>) -> bool {
        self.status == Status::Open && boot.is_some() && self.boot == boot
    }

    /// Whether it has a minidump of this boot whose stacks were not looked up. Later, the programs
    /// may have been replaced.
    pub fn lacks_stacks_in(&self, boot: Option<BootId>) -> bool {
        let mut steps = self.timeline.iter().rev().map(|entry| entry.step);
        let last = steps.find(|step| matches!(step, StepName::Dump | StepName::Stacks | StepName::NoStacks));
        last == Some(StepName::Dump) && boot.is_some() && self.boot == boot
    }

    /// Goes on with an incident that an earlier run of the sidecar left open.
    pub fn go_on(&mut self, at: Monotonic, anchor: &WallAnchor) {
        // A sidecar that is restarted again and again must not fill the timeline with that.
        if self.timeline.last().is_none_or(|last| last.step != StepName::SidecarRestarted) {
            let detail = "the sidecar ended while this incident was open; another one goes on with it";
            self.push(anchor, at, StepName::SidecarRestarted, Some(detail.to_owned()));
        }
    }

    /// The target is condemned again, for the same reason, by the sidecar that goes on with this.
    pub fn condemned_again(&mut self, opening: &Opening, mode: &str, anchor: &WallAnchor) {
        mode.clone_into(&mut self.mode);
        let why = format!("again, by the next sidecar: {}", opening.why);
        self.push(anchor, opening.at, StepName::Verdict, Some(why));
    }

    /// Its steps, apart by the sidecars that reported them.
    pub fn lives(&self) -> impl Iterator<Item = &[Entry]> {
        self.timeline.split(|entry| entry.step == StepName::SidecarRestarted)
    }

    /// Closes an incident that an earlier run of the sidecar left open: how it continued is
    /// unknown.
    pub fn interrupt(&mut self, at: Timestamp) {
        self.timeline.push(Entry {
            at,
            // The clock of an earlier boot is not comparable with this one.
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
        // An observation reports its verdict first, but the death on which that rests is older.
        let place = self.timeline.partition_point(|earlier| earlier.monotonic_ns <= entry.monotonic_ns);
        self.timeline.insert(place, entry);
        self.durations = Durations::of(&self.timeline, self.reason);
    }
}

/// The fields of an incident in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Summary {
    /// The id of the incident.
    pub id: IncidentId,
    /// The name of the shard.
    pub shard: String,
    /// The state of the incident.
    pub status: Status,
    /// The reason for the verdict.
    pub reason: Reason,
    /// The explanation for a person, as a sentence.
    pub why: String,
    /// `observe` or `enforce`, at the verdict.
    pub mode: String,
    /// When the verdict was reached.
    #[serde(with = "timeline::micros")]
    pub opened_at: Timestamp,
    /// When it stopped being open.
    #[serde(with = "timeline::maybe_micros", default)]
    pub closed_at: Option<Timestamp>,
    /// The name of the thread at fault.
    pub thread: Option<String>,
    /// How it stands still, for a stall.
    #[serde(default)]
    pub kind: Option<StallKind>,
    /// Key of the work of that thread.
    #[serde(default)]
    pub work_key: Option<u64>,
    /// Incidents with the same one are alike: they have the same reason, kind of stall, thread, and
    /// functions in which it stood.
    #[serde(default)]
    pub fingerprint: String,
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
            kind: incident.thread.as_ref().and_then(|thread| thread.kind),
            work_key: incident.thread.as_ref().and_then(|thread| thread.work_key),
            fingerprint: Fingerprint::of(incident).to_string(),
            durations: incident.durations,
        }
    }
}
