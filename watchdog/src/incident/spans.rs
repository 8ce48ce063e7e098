//! The trace of an incident: the root `incident`; below it `stall`, `evidence`, one `signal` each,
//! `exit`, `restart` and `recover`, with their actual start and end times.
//!
//! A span is sent as soon as it has ended and not before, so a trace grows while its incident
//! continues. The trace's ids are in the incident's document, so a sidecar that was restarted in
//! the middle continues the same trace. It sends again all spans that the document implies, because
//! it is unknown which of them the previous sidecar could still send; a span has the same id each
//! time.

use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, ContextGuard, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use shard_telemetry::span::Finished;

use crate::incident::timeline::{Entry, StepName};
use crate::incident::{self, Incident, IncidentTrace};

/// Generates the ids of a new trace.
pub fn new_trace() -> IncidentTrace {
    let ids = RandomIdGenerator::default();
    IncidentTrace { trace_id: ids.new_trace_id().to_string(), span_id: ids.new_span_id().to_string() }
}

/// Returns each span of one incident once.
#[derive(Debug, Default)]
pub struct Told {
    /// Not a count: a step that is reported late is inserted by its time.
    steps: Vec<(StepName, Timestamp)>,
    root: bool,
}

impl Told {
    /// The spans that have ended since the last call.
    pub fn finished(&mut self, incident: &Incident) -> Vec<SpanData> {
        let Some(trace) = Trace::of(incident) else { return Vec::new() };
        let mut spans = Vec::new();
        for (place, entry) in incident.timeline.iter().enumerate() {
            let step = (entry.step, entry.at);
            if !self.steps.contains(&step) {
                self.steps.push(step);
                let before = incident.timeline.get(..place).unwrap_or_default();
                spans.extend(trace.child(before, entry));
            }
        }
        if incident.status != incident::Status::Open && !self.root {
            self.root = true;
            spans.push(trace.root());
        }
        spans
    }
}

/// While the guard is held, what this thread logs belongs to the incident's root span.
pub fn inside(incident: &Incident) -> Option<ContextGuard> {
    let trace = Trace::of(incident)?;
    Some(Context::current().with_remote_span_context(trace.context(trace.root_id)).attach())
}

struct Trace<'a> {
    incident: &'a Incident,
    trace_id: TraceId,
    root_id: SpanId,
}

impl<'a> Trace<'a> {
    fn of(incident: &'a Incident) -> Option<Self> {
        let ids = incident.trace.as_ref()?;
        let trace_id = TraceId::from_hex(&ids.trace_id).ok().filter(|id| *id != TraceId::INVALID)?;
        let root_id = SpanId::from_hex(&ids.span_id).ok().filter(|id| *id != SpanId::INVALID)?;
        Some(Self { incident, trace_id, root_id })
    }

    /// The span that ends with `entry`, if there is one.
    fn child(&self, before: &[Entry], entry: &Entry) -> Option<SpanData> {
        let since = |steps: &[StepName]| before.iter().rev().find(|earlier| steps.contains(&earlier.step));
        let (name, begin) = match entry.step {
            // Reached again by the next sidecar: that is no second stall.
            StepName::Verdict if before.iter().any(|earlier| earlier.step == StepName::Verdict) => {
                return None;
            }
            StepName::Verdict => ("stall", since(&[StepName::LastProgress])),
            StepName::Evidence | StepName::NoEvidence => ("evidence", since(&[StepName::Verdict])),
            StepName::Signal | StepName::SignalRefused => {
                ("signal", since(&[StepName::Signal, StepName::SignalRefused, StepName::Verdict]))
            }
            StepName::Exited => (
                "exit",
                before.iter().find(|e| e.step == StepName::Signal).or_else(|| since(&[StepName::Verdict])),
            ),
            StepName::Restarted => ("restart", since(&[StepName::Exited])),
            StepName::Recovered => ("recover", since(&[StepName::Restarted])),
            _ => return None,
        };
        // Nobody knows how long that took.
        if [Some(entry), begin].into_iter().flatten().any(|end| end.monotonic_ns.is_none()) {
            return None;
        }
        let end = SystemTime::from(entry.at);
        let begin = begin.map_or(end, |begin| SystemTime::from(begin.at)).min(end);
        let mut attributes = vec![KeyValue::new("shard", self.incident.shard.clone())];
        attributes.extend(entry.detail.clone().map(|detail| KeyValue::new("detail", detail)));
        let failed = entry.step == StepName::SignalRefused;
        let status = if failed { Status::error("the kernel refused the signal") } else { Status::Unset };
        let earlier = before.iter().filter(|earlier| earlier.step == entry.step).count();
        let ids = (self.child_id(entry.step, earlier), self.root_id);
        Some(self.span(name, ids, (begin, end), attributes, status))
    }

    /// The id of the span that ends with a step of this kind, of which `earlier` came before. It is
    /// the same whichever sidecar sends the span, and however often. The root's id is random, so
    /// these are as good as random. By FNV-1a, which will not change in later versions.
    fn child_id(&self, step: StepName, earlier: usize) -> SpanId {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let root = self.root_id.to_bytes();
        let number = (earlier as u64).to_le_bytes();
        let bytes = root.iter().chain(step.label().as_bytes()).chain(&number);
        let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
        // No span has the id zero.
        SpanId::from(hash.max(1))
    }

    fn context(&self, id: SpanId) -> SpanContext {
        SpanContext::new(self.trace_id, id, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    fn root(&self) -> SpanData {
        let incident = self.incident;
        let times = incident.timeline.iter().map(|entry| SystemTime::from(entry.at));
        let begin = times.clone().min().unwrap_or_else(|| SystemTime::from(incident.opened_at));
        let end = incident.closed_at.map(SystemTime::from).into_iter().chain(times).max().unwrap_or(begin);
        let mut attributes = vec![
            KeyValue::new("shard", incident.shard.clone()),
            KeyValue::new("incident.id", incident.id.to_string()),
            KeyValue::new("incident.reason", incident.reason.label()),
            KeyValue::new("incident.status", incident.status.label()),
            KeyValue::new("incident.why", incident.why.clone()),
            KeyValue::new("watchdog.mode", incident.mode.clone()),
            KeyValue::new("process.pid", i64::from(incident.target.pid)),
        ];
        let mut links = Vec::new();
        if let Some(thread) = &incident.thread {
            attributes.push(KeyValue::new("thread.name", thread.name.clone()));
            attributes.push(KeyValue::new("thread.id", i64::from(thread.tid)));
            attributes.extend(thread.kind.map(|kind| KeyValue::new("stall.kind", kind.label())));
            // A value that exceeds an attribute's integer is no block's number.
            let number = |key: Option<u64>| key.and_then(|key| i64::try_from(key).ok());
            attributes.extend(number(thread.work_key).map(|key| KeyValue::new("work.key", key)));
            attributes.extend(number(thread.attempt).map(|attempt| KeyValue::new("work.attempt", attempt)));
            attributes.extend(thread.section.clone().map(|section| KeyValue::new("work.section", section)));
            links.extend(link(thread.trace_id.as_deref(), thread.span_id.as_deref()));
        }
        let ids = (self.root_id, SpanId::INVALID);
        let mut span =
            self.span("incident", ids, (begin, end), attributes, Status::error(incident.why.clone()));
        let told = |entry: &Entry| {
            let detail = entry.detail.clone().map(|detail| KeyValue::new("detail", detail));
            Event::new(entry.step.label(), SystemTime::from(entry.at), detail.into_iter().collect(), 0)
        };
        let mut events = SpanEvents::default();
        events.events = incident.timeline.iter().map(told).collect();
        span.events = events;
        let mut all = SpanLinks::default();
        all.links = links;
        span.links = all;
        span
    }

    fn span(
        &self,
        name: &'static str,
        (id, parent): (SpanId, SpanId),
        times: (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
        status: Status,
    ) -> SpanData {
        let scope =
            InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let finished = Finished {
            name,
            trace_id: self.trace_id,
            span_id: id,
            parent,
            remote: false,
            kind: SpanKind::Internal,
            times,
            attributes,
            status,
        };
        finished.into_data(scope.build())
    }
}

/// A link to the work that was in flight, if its thread published the trace to which that belongs.
fn link(trace_id: Option<&str>, span_id: Option<&str>) -> Option<Link> {
    let trace_id = TraceId::from_hex(trace_id?).ok().filter(|id| *id != TraceId::INVALID)?;
    let span_id = SpanId::from_hex(span_id?).ok().filter(|id| *id != SpanId::INVALID)?;
    let context = SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, TraceState::NONE);
    Some(Link::new(context, vec![KeyValue::new("link", "work in flight")], 0))
}

#[cfg(test)]
#[path = "spans/tests.rs"]
mod tests;
