//! The JSON of those answers that have no type of their own elsewhere. Fields may be added, but no
//! existing field is removed or changes its meaning.

use serde::Serialize;

use crate::incident::Summary;
use crate::incident::near_miss::NearMiss;

/// `GET /api/v1/incidents`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct Incidents {
    /// The latest incidents, newest first.
    pub(super) incidents: Vec<Summary>,
}

/// `GET /api/v1/near-misses`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct NearMisses {
    /// The latest near misses, newest first.
    pub(super) near_misses: Vec<NearMiss>,
}

/// Why a request is refused or cannot be answered.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct Problem {
    /// What is wrong and what to do, as a sentence.
    pub(super) error: String,
}

/// `POST /api/v1/pause`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct Paused {
    /// What was done, as a sentence.
    pub(super) message: String,
    /// When the pause ends.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub(super) paused_until: String,
    /// Whether the next sidecar would go on with it.
    pub(super) survives_restart: bool,
}

/// `POST /api/v1/resume`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct Resumed {
    /// What was done, as a sentence.
    pub(super) message: &'static str,
    /// Whether there was a pause.
    pub(super) was_paused: bool,
}

/// `POST /api/v1/clear`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct ClearedWork {
    /// What was done, as a sentence.
    pub(super) message: String,
    /// Keys of the work that was in a crash loop.
    pub(super) cleared: Vec<u64>,
    /// Kills in a row that had brought no finished piece of work, and are forgotten.
    pub(super) kills_without_progress: u32,
}

/// `POST /api/v1/kill`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub(super) struct Killed {
    /// What was done, as a sentence.
    pub(super) message: String,
    /// Whether the kill was under way already.
    pub(super) already: bool,
    /// The process.
    pub(super) pid: i32,
    /// Its incarnation.
    pub(super) incarnation: u64,
}
