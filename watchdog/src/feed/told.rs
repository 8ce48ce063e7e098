//! The JSON of each event. Fields may be added, but no existing field is removed or changes its
//! meaning.

use jiff::Timestamp;
use serde::Serialize;

use crate::incident::id::IncidentId;
use crate::incident::timeline::{Entry, micros};
use crate::incident::{Incident, Summary};
use crate::status_json::NearMissJson;
use crate::verdict::{Health, Unobserved, Verdict};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The verdict changed.
    Verdict,
    /// An incident was opened, has a further step, or was closed.
    Incident,
    /// A near miss is over.
    NearMiss,
    /// The health of a thread changed.
    Thread,
    /// Killing was paused.
    Pause,
    /// Killing is no longer paused.
    Resume,
    /// The config was to be reloaded.
    Reload,
    /// A listener that came back has missed events.
    Missed,
}

impl Kind {
    /// Every value.
    pub const ALL: &'static [Self] = &[
        Self::Verdict,
        Self::Incident,
        Self::NearMiss,
        Self::Thread,
        Self::Pause,
        Self::Resume,
        Self::Reload,
        Self::Missed,
    ];

    /// The name of the event.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Incident => "incident",
            Self::NearMiss => "near_miss",
            Self::Thread => "thread",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reload => "reload",
            Self::Missed => "missed",
        }
    }
}

/// `verdict`: the verdict changed.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VerdictTold {
    /// The verdict from now on.
    pub verdict: Verdict,
    /// The reason for the verdict, as a sentence.
    pub reason: String,
    /// The time since which it holds.
    #[serde(with = "micros")]
    pub since: Timestamp,
}

/// `incident`: an incident was opened, has a further step, or was closed.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct IncidentTold {
    /// The incident, as in the list of all.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its newest step; null if it has so many that this one is not kept.
    pub step: Option<Entry>,
}

impl IncidentTold {
    /// Tells of that step of an incident.
    pub(super) fn of(incident: &Incident, is_it: impl Fn(&Entry) -> bool) -> Self {
        let step = incident.timeline.iter().rfind(|entry| is_it(entry)).cloned();
        Self { summary: Summary::from(incident), step }
    }
}

/// `near_miss`: a thread at work made no progress for `warn_after`, and that is over.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NearMissTold {
    /// Its id in the list of all.
    pub id: IncidentId,
    /// The rest, as in the status.
    #[serde(flatten)]
    pub near_miss: NearMissJson,
    /// The incident that it became.
    pub incident: Option<IncidentId>,
}

/// `thread`: the health of a thread changed. Whether a thread that is well is idle or at work is
/// not told.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ThreadTold {
    /// When that was seen.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// Registered name, or the glob of a rule that no thread ever matched.
    pub name: String,
    /// Thread id as the sidecar sees it.
    pub tid: Option<i32>,
    /// The health of the thread according to the watchdog.
    pub health: Health,
    /// For a stall, how the thread is stuck; for an excuse, why it is excused.
    pub kind: Option<String>,
    /// Why the watchdog cannot observe the thread, if so; `health` is then the last known state.
    pub unobserved: Option<Unobserved>,
    /// The key of the work in progress.
    pub work_key: Option<u64>,
}

/// `pause`: killing was paused, or a pause from an earlier run of the sidecar goes on.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PauseTold {
    /// When it ends.
    #[serde(with = "micros")]
    pub paused_until: Timestamp,
    /// The reason, in the words of the person who ordered it.
    pub reason: String,
    /// Who ordered it, as far as it is known.
    pub by: String,
}

/// `resume`: killing is no longer paused.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ResumeTold {
    /// When that was.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// Who ended the pause; null if its time was over.
    pub by: Option<String>,
}

/// `reload`: SIGHUP asked for the config to be read again.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Reload {
    /// When that was.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// Whether the new config is in force. If not, the log says why, and the old one is.
    pub in_force: bool,
    /// `observe` or `enforce`, as it is in force now.
    pub mode: String,
}

/// `missed`: always the first event of a stream, if it is there.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Missed {
    /// How many events came after the one with `Last-Event-ID` and are no longer held; null where
    /// that cannot be known, because the id is not one of this run of the sidecar.
    pub missed: Option<u64>,
    /// What to do, as a sentence.
    pub why: &'static str,
}

impl Missed {
    pub(super) const fn some(events: u64) -> Self {
        let why = "those are no longer held; GET /api/v1/status and /api/v1/incidents tell what is so now";
        Self { missed: Some(events), why }
    }

    pub(super) const fn unknown() -> Self {
        let why = "the id is not one of this run of the sidecar; all events of this run that are held follow, and GET \
                   /api/v1/status and /api/v1/incidents tell what is so now";
        Self { missed: None, why }
    }
}
