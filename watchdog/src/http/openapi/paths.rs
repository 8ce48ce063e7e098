//! One function for each path, which is never called: what stands above it says what the path
//! answers. A test compares them with the router.

#![expect(dead_code, reason = "only their attributes matter")]

use crate::board::history::HistoryJson;
use crate::http::answer::{ClearedWork, Incidents, Killed, NearMisses, Paused, Problem, Resumed};
use crate::http::order::{ClearBody, KillBody, PauseBody};
use crate::status_json::StatusJson;

#[utoipa::path(get, path = "/", tag = "sidecar", operation_id = "page",
    summary = "The status page, for clients that accept HTML; for others the paths, as text", responses(
    (status = 200, description = "the page, or the paths", content(
        (String = "text/html"), (String = "text/plain")))))]
pub(super) fn page() {}

#[utoipa::path(get, path = "/page.css", tag = "sidecar",
    summary = "The style of the status page", responses(
    (status = 200, description = "the style", body = String, content_type = "text/css")))]
pub(super) fn style() {}

#[utoipa::path(get, path = "/page.js", tag = "sidecar",
    summary = "The script of the status page", responses(
    (status = 200, description = "the script", body = String, content_type = "text/javascript")))]
pub(super) fn script() {}

#[utoipa::path(get, path = "/paths", tag = "sidecar",
    summary = "The paths, as text", responses((status = 200, description = "the paths", body = String)))]
pub(super) fn paths() {}

#[utoipa::path(get, path = "/livez", tag = "sidecar",
    summary = "Whether the sidecar itself works", responses(
    (status = 200, description = "it does", body = String),
    (status = 503, description = "the watch loop says nothing", body = String)))]
pub(super) fn livez() {}

#[utoipa::path(get, path = "/readyz", tag = "sidecar",
    summary = "Whether the sidecar has looked at its target", responses(
    (status = 200, description = "it has", body = String),
    (status = 503, description = "it has not, or the watch loop says nothing", body = String)))]
pub(super) fn readyz() {}

#[utoipa::path(get, path = "/shard/readyz", tag = "shard",
    summary = "Whether the shard may get work: for a readiness probe, never for a liveness probe", responses(
    (status = 200, description = "it may; the verdict and its reason", body = String),
    (status = 503, description = "it is condemned, dying, dead, restarting or starting; the reason", body = String)))]
pub(super) fn shard_readyz() {}

#[utoipa::path(get, path = "/metrics", tag = "sidecar",
    summary = "All metrics, in Prometheus' text format", responses(
    (status = 200, description = "the metrics", body = String),
    (status = 500, description = "they cannot be written as text", body = String)))]
pub(super) fn metrics() {}

#[utoipa::path(get, path = "/openapi.json", tag = "sidecar",
    summary = "This document", responses((status = 200, description = "this document", body = Object)))]
pub(super) fn openapi() {}

#[utoipa::path(get, path = "/api/v1/status", tag = "shard",
    summary = "The verdict and all that it rests on", responses(
    (status = 200, description = "the state of the watch", body = StatusJson)))]
pub(super) fn status() {}

#[utoipa::path(get, path = "/api/v1/history", tag = "shard",
    summary = "The last minute of each thread, one entry a second",
    params(("after" = Option<u64>, Query, description = "only entries above this number")),
    responses(
    (status = 200, description = "at most 60 entries of at most 64 threads", body = HistoryJson),
    (status = 400, description = "after is no number", body = Problem)))]
pub(super) fn history() {}

#[utoipa::path(get, path = "/api/v1/incidents", tag = "shard",
    summary = "The latest incidents, newest first", responses(
    (status = 200, description = "at most 50", body = Incidents)))]
pub(super) fn incidents() {}

#[utoipa::path(get, path = "/api/v1/near-misses", tag = "shard",
    summary = "Threads that were late, newest first, and how that ended", responses(
    (status = 200, description = "at most 50", body = NearMisses)))]
pub(super) fn near_misses() {}

#[utoipa::path(get, path = "/api/v1/incidents/{id}", tag = "shard",
    summary = "One incident, whole",
    params(("id" = String, Path, description = "the id of an incident", example = "20261122T221503500Z-7f3a")),
    responses(
    (status = 200, description = "the incident", body = ref("#/components/schemas/Incident")),
    (status = 404, description = "there is none with this id among the latest", body = Problem)))]
pub(super) fn incident() {}

#[utoipa::path(get, path = "/api/v1/incidents/{id}/{file}", tag = "shard",
    summary = "A file of an incident",
    description = "threads.json: what its threads were doing; stacks.txt: on which lines they stood, if there is a minidump; \
        recording: what was seen in the minute before it",
    params(
        ("id" = String, Path, description = "the id of an incident", example = "20261122T221503500Z-7f3a"),
        ("file" = String, Path, description = "threads.json, stacks.txt or recording", example = "threads.json")),
    responses(
    (status = 200, description = "the file", content(
        (Object = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
    (status = 404, description = "there is no such incident, or it has no such file", body = Problem),
    (status = 503, description = "another file is being read, or the disk does not answer; try again", body = String)))]
pub(super) fn incident_file() {}

#[utoipa::path(get, path = "/api/v1/events", tag = "shard",
    summary = "What happens from now on, as Server-Sent Events",
    description = "The name of an event says which schema its data has: verdict (VerdictTold), incident (IncidentTold), near_miss \
        (NearMissTold), thread (ThreadTold), pause (PauseTold), resume (ResumeTold), reload (Reload), missed (Missed). \
        A stream lasts five minutes at most.",
    params(("Last-Event-ID" = Option<String>, Header,
        description = "go on after the event with this id; without it, with what happens from now on")),
    responses(
    (status = 200, description = "a stream of events", content((String = "text/event-stream"))),
    (status = 503, description = "too many streams are open", body = Problem)))]
pub(super) fn events() {}

#[utoipa::path(get, path = "/api/v1/recording", tag = "shard",
    summary = "What was seen during the last minute, for replay and suggest", responses(
    (status = 200, description = "a recording", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 503, description = "the watch loop does not answer; try again", body = String)))]
pub(super) fn recording() {}

#[utoipa::path(post, path = "/api/v1/pause", tag = "orders", security((), ("token" = [])),
    summary = "Stop killing, not watching, for at most 24 hours", request_body = PauseBody, responses(
    (status = 200, description = "killing is paused", body = Paused),
    (status = 400, description = "the body is not of this form", body = Problem),
    (status = 403, description = "who asks may give no orders here", body = Problem),
    (status = 503, description = "the watch loop does not answer; see the status for the outcome", body = Problem)))]
pub(super) fn pause() {}

#[utoipa::path(post, path = "/api/v1/resume", tag = "orders", security((), ("token" = [])),
    summary = "End a pause before its time", responses(
    (status = 200, description = "killing is not paused", body = Resumed),
    (status = 400, description = "there is a body, other than {}", body = Problem),
    (status = 403, description = "who asks may give no orders here", body = Problem),
    (status = 503, description = "the watch loop does not answer; see the status for the outcome", body = Problem)))]
pub(super) fn resume() {}

#[utoipa::path(post, path = "/api/v1/clear", tag = "orders", security((), ("token" = [])),
    summary = "Allow kills again for work in a crash loop, or for all work, and forget kills without progress",
    request_body = ClearBody, responses(
    (status = 200, description = "what was cleared", body = ClearedWork),
    (status = 400, description = "the body is not of this form", body = Problem),
    (status = 403, description = "who asks may give no orders here", body = Problem),
    (status = 503, description = "the watch loop does not answer; see the status for the outcome", body = Problem)))]
pub(super) fn clear() {}

#[utoipa::path(post, path = "/api/v1/kill", tag = "orders", security((), ("token" = [])),
    summary = "Kill the process that is watched, through the same ladder as a verdict",
    request_body = KillBody, responses(
    (status = 200, description = "the kill has begun", body = Killed),
    (status = 400, description = "the body is not of this form", body = Problem),
    (status = 403, description = "who asks may give no orders here", body = Problem),
    (status = 409, description = "nothing was sent: there is no such process, or it is uncertain that it is the target", body = Problem),
    (status = 502, description = "the kernel refused the signal", body = Problem),
    (status = 503, description = "the watch loop does not answer; see the status for the outcome", body = Problem)))]
pub(super) fn kill() {}
