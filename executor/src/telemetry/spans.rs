//! Spans of blocks and their parts, through the coordinator and its shards.
//!
//! Wall time is read once, when a span begins; its duration comes from the monotonic clock.

use std::time::{Instant, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use shard_heartbeat::TraceContext;
use shard_telemetry::otlp::Spans;
use shard_telemetry::span::Finished;

use super::sampler::Sampler;

/// The flag "sampled" of a W3C trace context.
const SAMPLED: u8 = 1;

/// Begins and sends spans; without a collector it does neither.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Tells>);

#[derive(Clone, Debug)]
struct Tells {
    spans: Spans,
    scope: InstrumentationScope,
    shard: KeyValue,
    sampler: Sampler,
}

/// A span that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    trace_id: TraceId,
    span_id: SpanId,
    parent: SpanId,
    remote: bool,
    kind: Kind,
    began: Instant,
    at: SystemTime,
}

/// The side of a message that a span is on.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Internal,
    /// The span waits for an answer of another process.
    Client,
    /// The span handles a request of another process.
    Server,
}

impl Open {
    fn new(trace_id: TraceId, parent: SpanId, kind: Kind) -> Self {
        let span_id = RandomIdGenerator::default().new_span_id();
        let remote = matches!(kind, Kind::Server);
        Self { trace_id, span_id, parent, remote, kind, began: Instant::now(), at: SystemTime::now() }
    }

    /// The span's context for the heartbeat.
    pub fn context(&self) -> TraceContext {
        TraceContext { trace_id: self.trace_id.to_bytes(), span_id: self.span_id.to_bytes(), flags: SAMPLED }
    }

    /// The span's context for a message: 16 bytes of trace id, 8 of span id, 1 of flags.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        bytes.extend(self.trace_id.to_bytes());
        bytes.extend(self.span_id.to_bytes());
        bytes.push(SAMPLED);
        bytes
    }
}

impl Tracer {
    /// Sends spans of `shard` to `spans`; of the traces that begin here, only those that `sampler`
    /// takes.
    pub(super) fn new(spans: Spans, shard: &str, sampler: Sampler) -> Self {
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"));
        let scope = scope.with_version(env!("CARGO_PKG_VERSION")).build();
        Self(Some(Tells { spans, scope, shard: KeyValue::new("shard", shard.to_owned()), sampler }))
    }

    /// Begins a trace, if it is sampled.
    pub fn root(&self) -> Option<Open> {
        let tells = self.0.as_ref()?;
        let id = RandomIdGenerator::default().new_trace_id();
        tells.sampler.takes(id).then(|| Open::new(id, SpanId::INVALID, Kind::Internal))
    }

    /// Begins a span under `parent`.
    pub fn child(&self, parent: Option<&Open>) -> Option<Open> {
        self.0.as_ref()?;
        parent.map(|parent| Open::new(parent.trace_id, parent.span_id, Kind::Internal))
    }

    /// Begins a span under `parent` that another process continues.
    pub fn asks(&self, parent: Option<&Open>) -> Option<Open> {
        self.child(parent).map(|open| Open { kind: Kind::Client, ..open })
    }

    /// Begins a span under one of another process, if that one is sampled.
    pub fn continued(&self, from: TraceContext) -> Option<Open> {
        self.0.as_ref()?;
        let trace_id = TraceId::from_bytes(from.trace_id);
        let parent = SpanId::from_bytes(from.span_id);
        let told = from.flags & SAMPLED != 0 && trace_id != TraceId::INVALID && parent != SpanId::INVALID;
        told.then(|| Open::new(trace_id, parent, Kind::Server))
    }

    /// Ends a span, with the reason if it failed.
    pub fn end(
        &self,
        open: Option<Open>,
        name: &'static str,
        attributes: Vec<KeyValue>,
        failed: Option<String>,
    ) {
        let (Some(tells), Some(open)) = (&self.0, open) else { return };
        let mut all = attributes;
        all.push(tells.shard.clone());
        let finished = Finished {
            name,
            trace_id: open.trace_id,
            span_id: open.span_id,
            parent: open.parent,
            remote: open.remote,
            kind: match open.kind {
                Kind::Internal => SpanKind::Internal,
                Kind::Client => SpanKind::Client,
                Kind::Server => SpanKind::Server,
            },
            times: (open.at, open.at + open.began.elapsed()),
            attributes: all,
            status: failed.map_or(Status::Unset, Status::error),
        };
        tells.spans.send([finished.into_data(tells.scope.clone())]);
    }
}

/// A numeric attribute; omitted if the value is larger than a span can hold.
pub fn number(key: &'static str, value: u64) -> Option<KeyValue> {
    i64::try_from(value).ok().map(|value| KeyValue::new(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_nothing_is_begun() {
        let tracer = Tracer::default();
        assert!(tracer.root().is_none());
        let given = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: SAMPLED };
        assert!(tracer.continued(given).is_none());
    }

    #[test]
    fn what_goes_with_a_message_is_what_goes_into_the_heartbeat() {
        let open = Open::new(TraceId::from_bytes([7; 16]), SpanId::INVALID, Kind::Client);
        let context = open.context();
        let wire = open.to_wire();
        assert_eq!((&wire[..16], &wire[16..24], wire[24]), (&context.trace_id[..], &context.span_id[..], 1));
    }
}
