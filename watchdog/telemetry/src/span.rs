//! A finished span with given ids and times: the SDK's own spans accept neither.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// The parts of a span. Events and links may be added to the result of [`Finished::into_data`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// The name, from a catalogue.
    pub name: &'static str,
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// The id of the span.
    pub span_id: SpanId,
    /// The parent span; `SpanId::INVALID` for a root.
    pub parent: SpanId,
    /// Whether the parent belongs to another process.
    pub remote: bool,
    /// Its role in a remote call.
    pub kind: SpanKind,
    /// When it began and ended.
    pub times: (SystemTime, SystemTime),
    /// Its attributes.
    pub attributes: Vec<KeyValue>,
    /// The status with which it ended.
    pub status: Status,
}

impl Finished {
    /// Converts the span for an exporter. `scope` names the code that reports it.
    pub fn into_data(self, scope: InstrumentationScope) -> SpanData {
        let Self { name, trace_id, span_id, parent, remote, kind, times, attributes, status } = self;
        SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind,
            name: Cow::Borrowed(name),
            start_time: times.0,
            end_time: times.1.max(times.0),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope,
        }
    }
}
