//! The sidecar's HTTP server.
//!
//! | path | gives | on `public` too |
//! | --- | --- | --- |
//! | `GET /` | the status page; for clients that do not accept HTML these paths, as text | |
//! | `GET /page.css`, `/page.js` | the parts of that page | |
//! | `GET /paths` | these paths, as text, for every client | |
//! | `GET /livez` | 200; 503 while the watch loop says nothing | yes |
//! | `GET /readyz` | 200 once the watch loop has looked; 503 before, and while it says nothing | yes |
//! | `GET /shard/readyz` | 503 with the reason while the target is condemned, dying, dead, restarting or starting; else 200 | yes |
//! | `GET /metrics` | Prometheus' text format | yes |
//! | `GET /openapi.json` | all of this as OpenAPI 3.1: `docs/openapi.json` | |
//! | `GET /api/v1/status` | the verdict and all that it rests on | |
//! | `GET /api/v1/history` | the last minute of each thread, one entry a second; `?after=N`: entries above number N | |
//! | `GET /api/v1/incidents` | the latest incidents, newest first | |
//! | `GET /api/v1/near-misses` | threads that were late, newest first | |
//! | `GET /api/v1/incidents/{id}` | one of them, whole | |
//! | `GET /api/v1/incidents/{id}/threads.json` | what its threads were doing | |
//! | `GET /api/v1/incidents/{id}/stacks.txt` | on which lines they stood, if there is a minidump | |
//! | `GET /api/v1/incidents/{id}/recording` | what was seen in the minute before it | |
//! | `GET /api/v1/events` | what happens from now on, as Server-Sent Events (docs/api.md) | |
//! | `GET /api/v1/recording` | what was seen during the last minute, for `replay` and `suggest` | |
//! | `POST /api/v1/pause` | stops killing, not watching: `{"for": "10m", "reason": "…"}` | |
//! | `POST /api/v1/resume` | ends that before its time | |
//! | `POST /api/v1/clear` | ends a crash loop: `{"key": 123}`, or of all work | |
//! | `POST /api/v1/kill` | a person's own kill: `{"reason": "…"}`, with `"incarnation"` of that one only | |
//!
//! Requests read only the board, so no flood of them reaches the watch loop. Files of incidents are
//! read from the disk, one at a time, by the journal's thread. What reaches the loop are
//! recordings, of which at most one request a second reaches the loop, and commands, which few may
//! give: the sidecar's own user and root over the unix socket, and holders of the token. All other
//! requests with a body are refused.

mod answer;
pub mod api;
pub mod command;
pub mod door;
mod events;
pub mod listen;
pub mod openapi;
pub mod order;
mod page;
pub mod recording;
pub mod token;

pub use shard_telemetry::http::{host, serve};

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::board::Board;
use crate::feed::Feed;
use crate::incident::journal::Journal;
use crate::telemetry::Telemetry;

use command::Desk;
use door::Door;
use host::HostRule;
use recording::OnDemand;

/// The data from which requests are answered.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The state of the watch.
    pub board: Arc<Board>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// The incidents.
    pub journal: Journal,
    /// Recordings of the last minute.
    pub recordings: Arc<OnDemand>,
    /// The channel for orders to the loop.
    pub desk: Arc<Desk>,
    /// What happens.
    pub feed: Arc<Feed>,
}

/// Probes and metrics only, for the address that everybody may reach.
pub fn public(sources: Sources, hosts: HostRule) -> Router {
    let never = post(command::never).fallback(api::nothing_here);
    let no_commands = Router::new().route("/api/v1/{order}", never);
    guarded(probes(), no_commands, sources, hosts)
}

/// All paths.
pub fn full(sources: Sources, hosts: HostRule, door: Door) -> Router {
    let api = probes()
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/paths", get(page::paths))
        .route("/openapi.json", get(openapi::openapi))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/history", get(api::history))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/near-misses", get(api::near_misses))
        .route("/api/v1/incidents/{id}", get(api::incident))
        .route("/api/v1/incidents/{id}/{file}", get(recording::of_incident))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/recording", get(recording::recording));
    let commands = Router::new()
        .route("/api/v1/pause", post(command::pause))
        .route("/api/v1/resume", post(command::resume))
        .route("/api/v1/clear", post(command::clear))
        .route("/api/v1/kill", post(command::kill))
        .layer(middleware::from_fn(serve::limit_with_body))
        // The outer layer: it refuses the unauthorized before their order is read.
        .layer(middleware::from_fn_with_state(door, door::check));
    guarded(api, commands, sources, hosts)
}

fn probes() -> Router<Sources> {
    Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/shard/readyz", get(api::shard_readyz))
        .route("/metrics", get(api::metrics))
}

fn guarded(router: Router<Sources>, commands: Router<Sources>, sources: Sources, hosts: HostRule) -> Router {
    router
        .fallback(api::nothing_here)
        .layer(middleware::from_fn(serve::limit))
        .merge(commands)
        .layer(middleware::map_response(page::confine))
        .with_state(sources)
        .layer(middleware::from_fn_with_state(Arc::new(hosts), host::check))
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
