//! `GET /api/v1/recording`: the last minute, for whoever wants to look at it before anything
//! happens.

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

/// The watch loop copies up to 128 KiB for each answer: so often that is nothing, whoever asks.
/// Those who ask in between get the same recording.
const ONE_EACH: Duration = Duration::from_secs(1);
/// It answers between two looks, which are never further apart than a second.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Asks the watch loop, on behalf of all who ask.
#[derive(Debug, Default)]
pub struct OnDemand {
    control: OnceLock<Control>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl OnDemand {
    /// From now on there is somebody to be asked.
    pub fn ask(&self, control: Control) {
        // There is one watch loop in the life of a sidecar.
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
    // Those who ask at the same time wait for the first of them.
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
