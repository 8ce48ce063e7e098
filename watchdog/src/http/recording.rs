//! Recordings: `GET /api/v1/recording` gives the last minute, for inspection before anything has
//! happened, and `GET /api/v1/incidents/{id}/recording` the minute before an incident. The other
//! files of an incident are served in the same way.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::board::Board;
use crate::incident::folder::{DOCUMENT, DUMP, FILES, RECORDING, STACKS, THREADS};
use crate::incident::id::IncidentId;
use crate::recorder::file;
use crate::watch::control::{Command, Control};

use super::{Sources, api};

/// The watch loop copies up to 128 KiB for each answer, which is negligible at this rate. Requests
/// in between get the same recording.
const ONE_EACH: Duration = Duration::from_secs(1);
/// The loop answers between two observations, which are never more than a second apart.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// A disk that takes longer has stopped; the client may ask again.
const DISK_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Requests a recording from the watch loop, once for all clients.
#[derive(Debug, Default)]
pub struct OnDemand {
    control: OnceLock<Control>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl OnDemand {
    /// Connects the loop; from now on recordings can be requested from it.
    pub fn ask(&self, control: Control) {
        // A sidecar has one watch loop in its life.
        let _ = self.control.set(control);
    }

    /// The recording, at most a second old; `None` if the watch loop does not answer.
    async fn get(&self, board: &Board) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((_, bytes)) = last.as_ref().filter(|(at, _)| at.elapsed() < ONE_EACH) {
            return Some(bytes.clone());
        }
        *last = None;
        let (answer, answered) = oneshot::channel();
        if !self.control.get()?.tell(Command::Recording(answer)) {
            return None;
        }
        let excerpt = timeout(ANSWERS_WITHIN, answered).await.ok()?.ok()?;
        let bytes = Bytes::from(file::write(&excerpt, board.shard(), board.anchor()));
        *last = Some((Instant::now(), bytes.clone()));
        Some(bytes)
    }
}

/// `GET /api/v1/recording`
pub(super) async fn recording(State(sources): State<Sources>) -> Response {
    // Simultaneous requests wait for the first of them.
    match timeout(ANSWERS_WITHIN, sources.recordings.get(&sources.board)).await {
        Ok(Some(bytes)) => as_file(bytes, RECORDING),
        Ok(None) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the watch loop does not answer; try again\n").into_response()
        }
    }
}

/// `GET /api/v1/incidents/{id}/{file}`: every file but the document, which has a path of its own,
/// and the dump, which would need too much of the sidecar's memory.
pub(super) async fn of_incident(
    State(sources): State<Sources>,
    Path((id, file)): Path<(String, String)>,
) -> Response {
    let Some(name) = FILES.iter().find(|name| **name == file && !matches!(**name, DOCUMENT | DUMP)) else {
        return api::no_such_incident();
    };
    let Some(id) = IncidentId::parse(&id) else { return api::no_such_incident() };
    let Some(answered) = sources.journal.file(id, file) else {
        return busy("another file is being read; try again\n");
    };
    match timeout(DISK_ANSWERS_WITHIN, answered).await {
        Ok(Ok(Ok(Some(bytes)))) => as_file(bytes.into(), name),
        Ok(Ok(Ok(None))) => api::no_such_incident(),
        Ok(Ok(Err(error))) => busy(&format!("{name} cannot be read: {error}\n")),
        Ok(Err(_)) | Err(_) => busy("the disk does not answer; try again\n"),
    }
}

fn busy(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why.to_owned()).into_response()
}

fn as_file(bytes: Bytes, name: &str) -> Response {
    let kind = match name {
        THREADS => "application/json",
        STACKS => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let kind = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (kind, bytes).into_response()
}
