//! The answer of each path.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::incident::id::IncidentId;
use crate::incident::{Incident, Summary};
use crate::status_json::{NearMissJson, StatusJson};
use crate::telemetry::prometheus::CONTENT_TYPE;
use crate::verdict::Verdict;

use super::Sources;
use super::answer::{Incidents, NearMisses, Problem};

/// What a client without HTML gets.
pub(super) const PATHS: &str = r#"shard-watchdog

GET /                        the status page for a browser; these paths for others, as GET /paths
GET /livez                   whether the sidecar itself works
GET /readyz                  whether it has looked at its target
GET /shard/readyz            whether the shard may get work: a readiness probe, never a liveness probe
GET /metrics                 Prometheus text format
GET /openapi.json            these paths, bodies and answers as OpenAPI 3.1
GET /api/v1/status           the verdict and all that it rests on
GET /api/v1/history          the last minute of each thread, one entry a second: ?after=ENTRY for newer ones only
GET /api/v1/incidents        the latest incidents
GET /api/v1/near-misses      threads that were late, and how that ended
GET /api/v1/incidents/{id}   one of them
GET /api/v1/incidents/{id}/threads.json   what its threads were doing
GET /api/v1/incidents/{id}/stacks.txt   on which lines they stood, if there is a minidump
GET /api/v1/incidents/{id}/recording   what was seen in the minute before it
GET /api/v1/events           what happens from now on, as Server-Sent Events
GET /api/v1/recording        what was seen during the last minute (shard-watchdog record, replay, suggest)
POST /api/v1/pause           stop killing, not watching: {"for": "10m", "reason": "…"}
POST /api/v1/resume          end that before its time
POST /api/v1/clear           end a crash loop: {"key": 123}, or of all work
POST /api/v1/kill            a person's own kill: {"reason": "…"}

POST is taken over the unix socket (http.socket) from the sidecar's own user and root, here with the token of http.token_file.
"#;

/// `GET /livez`
pub(super) async fn livez(State(sources): State<Sources>) -> Response {
    match sources.board.silent_for(crate::clock::now()) {
        None => "ok\n".into_response(),
        Some(silence) => silent(silence.as_secs()),
    }
}

/// `GET /readyz`
pub(super) async fn readyz(State(sources): State<Sources>) -> Response {
    if let Some(silence) = sources.board.silent_for(crate::clock::now()) {
        return silent(silence.as_secs());
    }
    match sources.board.snapshot() {
        Some(_) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the watch loop has not observed yet\n").into_response(),
    }
}

fn silent(seconds: u64) -> Response {
    let text = format!("the watch loop has reported nothing for {seconds} s\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// `GET /shard/readyz`
pub(super) async fn shard_readyz(State(sources): State<Sources>) -> Response {
    let standing = sources.board.standing(crate::clock::now());
    // A spared shard is not killed, but is condemned all the same.
    let spared = sources.board.snapshot().is_some_and(|snapshot| snapshot.spared);
    let code = match standing.verdict {
        Verdict::Condemned | Verdict::Dying | Verdict::Dead | Verdict::Restarting | Verdict::Starting => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Verdict::CrashLoop if spared => StatusCode::SERVICE_UNAVAILABLE,
        Verdict::Unguarded | Verdict::Healthy | Verdict::Degraded | Verdict::Excused | Verdict::CrashLoop => {
            StatusCode::OK
        }
    };
    (code, format!("{}: {}\n", standing.verdict, standing.reason)).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(sources): State<Sources>) -> Response {
    match sources.telemetry.page() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `GET /api/v1/status`
pub(super) async fn status(State(sources): State<Sources>) -> Json<StatusJson> {
    let mut status = StatusJson::of(&sources.board, crate::clock::now());
    status.evidence_trouble = sources.journal.trouble();
    status.last_near_miss = sources.journal.last_near_miss().as_ref().map(NearMissJson::from);
    Json(status)
}

/// `GET /api/v1/history`
pub(super) async fn history(State(sources): State<Sources>, uri: Uri) -> Response {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let after = pairs.find(|(name, _)| *name == "after").map(|(_, after)| after.parse().ok());
    if after == Some(None) {
        let error = "after is the number of an entry, such as ?after=60".to_owned();
        return (StatusCode::BAD_REQUEST, Json(Problem { error })).into_response();
    }
    Json(sources.board.history().json(after.flatten())).into_response()
}

/// `GET /api/v1/incidents`
pub(super) async fn incidents(State(sources): State<Sources>) -> Json<Incidents> {
    let latest = sources.journal.latest();
    Json(Incidents { incidents: latest.iter().map(|incident| Summary::from(&**incident)).collect() })
}

/// `GET /api/v1/near-misses`
pub(super) async fn near_misses(State(sources): State<Sources>) -> Json<NearMisses> {
    Json(NearMisses { near_misses: sources.journal.near_misses() })
}

/// `GET /api/v1/incidents/{id}`
pub(super) async fn incident(State(sources): State<Sources>, Path(id): Path<String>) -> Response {
    let found = IncidentId::parse(&id).and_then(|id| sources.journal.get(&id));
    match found {
        Some(incident) => Json::<&Incident>(&incident).into_response(),
        None => no_such_incident(),
    }
}

/// The answer to a question for an incident that is not known.
pub(super) fn no_such_incident() -> Response {
    let error = "no such incident among the latest; GET /api/v1/incidents lists them".to_owned();
    (StatusCode::NOT_FOUND, Json(Problem { error })).into_response()
}

/// Every other path.
pub(super) async fn nothing_here() -> Response {
    (StatusCode::NOT_FOUND, "nothing here; GET / lists the paths\n").into_response()
}
