//! The orders that a person can give: pause, resume, kill, clear. The loop takes an order between
//! two observations. The answer waits for that, up to a limit.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::pause::Pause;
use crate::snapshot::TargetIdentity;
use crate::watch::control::{Cleared, Command, Control};
use crate::watch::hand::{KillAnswer, KillOrder};

use super::Sources;
use super::answer::{ClearedWork, Killed, Paused, Problem, Resumed};
use super::door::By;
use super::order::{self, Kill, Malformed, PauseOrder};

/// The loop answers between two observations, which are never more than a second apart.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// Time limit for storing a pause. It is in force whether it was stored or not; after this time the
/// answer says that it was not.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// The channel to the loop, once there is one.
#[derive(Debug, Default)]
pub struct Desk {
    control: OnceLock<Control>,
    /// Serializes orders about pauses, so that the stored pause is the one in force.
    pauses: Mutex<()>,
}

impl Desk {
    /// Connects the loop; from now on orders reach it.
    pub fn open(&self, control: Control) {
        // A sidecar has one watch loop in its life.
        let _ = self.control.set(control);
    }

    /// Sends the loop the command that `make` makes, and waits for its answer.
    pub(super) async fn tell<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let told = self.control.get().is_some_and(|control| control.tell(make(answer)));
        if !told {
            let why = "the watch loop takes no orders at this moment, and nothing was done; try again";
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
        }
        match timeout(ANSWERS_WITHIN, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => {
                let why =
                    "the watch loop was told and has not answered in time; check the status for the outcome";
                Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()))
            }
        }
    }
}

/// An order that is refused: the status code, and a sentence with the next step.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self(StatusCode::BAD_REQUEST, malformed.to_string())
    }
}

/// `POST /api/v1/pause`
pub(super) async fn pause(
    State(sources): State<Sources>,
    Extension(By(by)): Extension<By>,
    body: Bytes,
) -> Result<Json<Paused>, Refusal> {
    let PauseOrder { length, reason } = order::pause(&body)?;
    let since = crate::clock::now();
    let pause = Arc::new(Pause { since, until: since.plus(length), reason, by });
    let _one_by_one = sources.desk.pauses.lock().await;
    let before = sources.desk.tell(|answer| Command::Pause(Arc::clone(&pause), answer)).await?;
    let until = sources.board.wall(pause.until);
    let mut message = match before {
        Some(_) => format!("killing is paused until {until:.0}; this replaces an earlier pause"),
        None => format!("killing is paused until {until:.0}; watching continues"),
    };
    let kept = keep(&sources, Some(pause)).await;
    if !kept {
        message.push_str(". The evidence directory cannot store it: a restart of the sidecar would end it");
    }
    Ok(Json(Paused { message, paused_until: format!("{until:.6}"), survives_restart: kept }))
}

/// Has the journal store this pause, or remove it (`None`). Returns whether that reached the disk.
async fn keep(sources: &Sources, pause: Option<Arc<Pause>>) -> bool {
    let kept = sources.journal.keep_pause(pause);
    matches!(timeout(KEPT_WITHIN, kept).await, Ok(Ok(true)))
}

/// `POST /api/v1/resume`
pub(super) async fn resume(
    State(sources): State<Sources>,
    Extension(By(by)): Extension<By>,
    body: Bytes,
) -> Result<Json<Resumed>, Refusal> {
    order::nothing(&body)?;
    let _one_by_one = sources.desk.pauses.lock().await;
    let ended = sources.desk.tell(|answer| Command::Resume(by, answer)).await?;
    let forgotten = keep(&sources, None).await;
    let message = match (ended.is_some(), forgotten) {
        (true, true) => "killing is no longer paused",
        (true, false) => {
            "killing is no longer paused. The evidence directory cannot store that: after a restart the sidecar would pause again, \
             until the same time"
        }
        (false, _) => "killing was not paused",
    };
    Ok(Json(Resumed { message, was_paused: ended.is_some() }))
}

/// `POST /api/v1/clear`
pub(super) async fn clear(
    State(sources): State<Sources>,
    Extension(By(by)): Extension<By>,
    body: Bytes,
) -> Result<Json<ClearedWork>, Refusal> {
    let key = order::clear(&body)?;
    let cleared = sources.desk.tell(|answer| Command::Clear(key, answer)).await?;
    let Cleared { keys, kills_without_progress } = cleared;
    tracing::warn!(
        event = "cleared",
        by,
        key,
        cleared = ?keys,
        kills_without_progress,
        "{by} cleared work in a crash loop: {keys:?}, and {kills_without_progress} kills without progress"
    );
    let mut message = match (&keys[..], key) {
        ([], Some(key)) => format!("work {key} was not in a crash loop"),
        ([], None) => "no work was in a crash loop".to_owned(),
        (keys, _) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("work {} may lead to a kill again, like any other", keys.join(", "))
        }
    };
    if kills_without_progress > 0 {
        message += &format!("; {kills_without_progress} kills without progress are forgotten");
    }
    Ok(Json(ClearedWork { message, cleared: keys, kills_without_progress }))
}

/// `POST /api/v1/kill`
pub(super) async fn kill(
    State(sources): State<Sources>,
    Extension(By(by)): Extension<By>,
    body: Bytes,
) -> Result<Json<Killed>, Refusal> {
    let Kill { reason, incarnation } = order::kill(&body)?;
    let why = format!("{by} asked for the kill: {reason}");
    let order = Box::new(KillOrder { why, incarnation });
    match sources.desk.tell(|answer| Command::Kill(order, answer)).await? {
        KillAnswer::Sent { signal, target } => {
            Ok(killed(format!("{signal} was sent to process {}", target.pid), false, target))
        }
        KillAnswer::Begun(target) => Ok(killed(
            format!(
                "the kill of process {} has begun; kill.signals says when its first signal is due",
                target.pid
            ),
            false,
            target,
        )),
        KillAnswer::Already(target) => Ok(killed(
            format!("the kill of process {} is under way already; nothing more was done", target.pid),
            true,
            target,
        )),
        KillAnswer::NoTarget => Err(conflict(
            "no process is watched now, so there is none to kill: see the reason in the status".to_owned(),
        )),
        KillAnswer::Another(target) => Err(conflict(format!(
            "another incarnation is watched now: {} (process {}). Nothing was done",
            target.incarnation, target.pid
        ))),
        KillAnswer::Unproven { why, again, .. } => {
            let then = if again { "; it is retried, and sent once that is known" } else { "" };
            Err(conflict(format!("nothing was sent: {why}{then}")))
        }
        KillAnswer::Ended(target) => {
            Err(conflict(format!("process {} ended by itself in that moment", target.pid)))
        }
        KillAnswer::Refused { error, target } => Err(Refusal(
            StatusCode::BAD_GATEWAY,
            format!(
                "the kernel refused the signal to process {}: {error}. The sidecar needs the target's user, or CAP_KILL",
                target.pid
            ),
        )),
    }
}

fn killed(message: String, already: bool, target: TargetIdentity) -> Json<Killed> {
    Json(Killed { message, already, pid: target.pid, incarnation: target.incarnation })
}

/// Refuses any order at the public address.
pub(super) async fn never() -> Refusal {
    let why = "commands are never taken at the public address: use the unix socket of http.socket";
    Refusal(StatusCode::FORBIDDEN, why.to_owned())
}

const fn conflict(why: String) -> Refusal {
    Refusal(StatusCode::CONFLICT, why)
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
