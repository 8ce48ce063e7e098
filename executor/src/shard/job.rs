//! What the network side hands to the executor thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_heartbeat::TraceContext;

use super::session::Session;
use crate::net::{self, wire};

/// A part to execute.
pub(super) struct Job {
    pub(super) tag: wire::Tag,
    pub(super) session: Arc<Session>,
    /// When its result becomes useless.
    pub(super) until: Instant,
    /// How long each state request may take.
    pub(super) state_deadline: Duration,
    pub(super) trace: TraceContext,
    pub(super) work: Arc<net::Work>,
}

/// An answer to a state request, not yet checked.
pub(super) struct StateReply {
    pub(super) tag: wire::Tag,
    pub(super) id: u64,
    pub(super) values: Vec<wire::StateValue>,
}
