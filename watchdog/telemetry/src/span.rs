//! A finished span, from ids and times that somebody else chose: the SDK's own spans can be given
//! neither.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// What a span is made of. Events and links may be added to what [`Finished::into_data`] gives.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its name, from a catalogue.
    pub name: &'static str,
    /// The trace.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span above it; `SpanId::INVALID` for a root.
    pub parent: SpanId,
    /// Whether the span above it is of another process.
    pub remote: bool,
    /// Its part in a conversation.
    pub kind: SpanKind,
    /// When it began and ended.
    pub times: (SystemTime, SystemTime),
    /// What there is to know.
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    pub status: Status,
}

impl Finished {
    /// For an exporter. `scope` is who tells it.
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
