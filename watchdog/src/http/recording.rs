//! `GET /api/v1/recording`: the last minute, for inspection before anything has happened.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::board::Board;
use crate::recorder::file;
use crate::watch::control::{Command, Control};

use super::Sources;

/// The watch loop copies up to 128 KiB for each answer, which is negligible at this rate. Requests
/// in between get the same recording.
const ONE_EACH: Duration = Duration::from_secs(1);
/// The loop answers between two observations, which are never more than a second apart.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

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
        Ok(Some(bytes)) => {
            let kind = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"recording\""),
            ];
            (kind, bytes).into_response()
        }
        Ok(None) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the watch loop does not answer; try again\n").into_response()
        }
    }
}
