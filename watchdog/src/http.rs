//! The sidecar's HTTP server.
//!
//! | path | gives | on `public` too |
//! | --- | --- | --- |
//! | `GET /` | these paths, as text | |
//! | `GET /livez` | 200; 503 while the watch loop says nothing | yes |
//! | `GET /readyz` | 200 once the watch loop has looked; 503 before, and while it says nothing | yes |
//! | `GET /shard/readyz` | 503 with the reason while the target is condemned, dying, dead, restarting or starting; else 200 | yes |
//! | `GET /metrics` | Prometheus' text format | yes |
//! | `GET /api/v1/status` | the verdict and all that it rests on | |
//! | `GET /api/v1/incidents` | the latest incidents, newest first | |
//! | `GET /api/v1/incidents/{id}` | one of them, whole | |
//! | `GET /api/v1/recording` | what was seen during the last minute, for `replay` and `suggest` | |
//!
//! It reads the board and nothing else, so that no flood of requests reaches the watch loop; of all requests for a recording one a
//! second does. Requests with a body are
//! refused: nothing here takes one.

pub mod api;
pub mod listen;
pub mod recording;

pub use shard_telemetry::http::{host, serve};

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;

use crate::incident::journal::Journal;
use crate::relay::board::Board;
use crate::telemetry::Telemetry;

use host::HostRule;
use recording::OnDemand;

/// What requests are answered from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The state of the watch.
    pub board: Arc<Board>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// The incidents.
    pub journal: Journal,
    /// The last minute.
    pub recordings: Arc<OnDemand>,
}

/// Probes and metrics only, for the address that everybody may reach.
pub fn public(sources: Sources) -> Router {
    guarded(probes(), sources, HostRule::AnyAddress)
}

/// Everything.
pub fn full(sources: Sources, hosts: HostRule) -> Router {
    let api = probes()
        .route("/", get(api::paths))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/incidents/{id}", get(api::incident))
        .route("/api/v1/recording", get(recording::recording));
    guarded(api, sources, hosts)
}

fn probes() -> Router<Sources> {
    Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/shard/readyz", get(api::shard_readyz))
        .route("/metrics", get(api::metrics))
}

fn guarded(router: Router<Sources>, sources: Sources, hosts: HostRule) -> Router {
    router
        .fallback(api::nothing_here)
        .with_state(sources)
        .layer(middleware::from_fn(serve::limit))
        .layer(middleware::from_fn_with_state(Arc::new(hosts), host::check))
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
