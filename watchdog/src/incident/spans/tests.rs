use std::time::Duration;

use super::*;
use crate::clock::{Monotonic, WallAnchor};
use crate::event::{FaultyThread, Opening, Step};
use crate::snapshot::TargetIdentity;
use crate::verdict::{Reason, StallKind};

const MS: u64 = 1_000_000;

fn target(pid: i32) -> TargetIdentity {
    TargetIdentity { pid, start_time: 20, incarnation: 30 }
}

fn stalled(anchor: &WallAnchor, begin: Monotonic) -> Incident {
    let thread = FaultyThread {
        name: "exec-s0".to_owned(),
        tid: 11,
        kind: Some(StallKind::Deadlock),
        work_key: Some(7),
        attempt: Some(1),
        section: Some("committing".to_owned()),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        span_id: Some("b7ad6b7169203331".to_owned()),
    };
    let at = |ms: u64| begin.plus(Duration::from_millis(ms));
    let opening = Opening {
        incident: 1,
        at: at(1_000),
        reason: Reason::Stalled,
        why: "no progress".to_owned(),
        target: target(10),
        thread: Some(thread),
        last_progress: begin,
        seen: at(0),
        threshold: Some(Duration::from_secs(1)),
        observations: Vec::new(),
        last_words: None,
        tracer: None,
    };
    Incident::open(&opening, "0", "enforce", anchor)
}

fn took(span: &SpanData) -> u128 {
    span.end_time.duration_since(span.start_time).expect("it ends after it began").as_millis()
}

#[test]
fn a_trace_has_every_part_once_with_its_true_times() {
    let (anchor, begin) = (WallAnchor::now(), crate::clock::now());
    let at = |ms: u64| Monotonic(begin.0 + ms * MS);
    let mut incident = stalled(&anchor, begin);
    let mut told = Told::default();
    let mut spans = told.finished(&incident);
    let steps = [
        (1_000, Step::Signal { signal: "SIGABRT", error: None }),
        (3_000, Step::Signal { signal: "SIGKILL", error: None }),
        (3_020, Step::Exited { how: None, after_signal: None }),
        (3_120, Step::Restarted { target: target(11), after: Duration::from_millis(100) }),
        (3_620, Step::Recovered { work_key: Some(7) }),
    ];
    for (ms, step) in &steps {
        incident.step(at(*ms), step, &anchor);
        spans.extend(told.finished(&incident));
    }
    assert!(told.finished(&incident).is_empty(), "nothing is told twice");
    let names: Vec<_> = spans.iter().map(|span| (span.name.as_ref(), took(span))).collect();
    let parts = [
        ("stall", 1_000),
        ("signal", 0),
        ("signal", 2_000),
        ("exit", 2_020),
        ("restart", 100),
        ("recover", 500),
        ("incident", 3_620),
    ];
    assert_eq!(names, parts);
    let root = spans.last().expect("the root");
    for child in spans.iter().take(parts.len() - 1) {
        assert_eq!(child.span_context.trace_id(), root.span_context.trace_id());
        assert_eq!(child.parent_span_id, root.span_context.span_id());
    }
    assert_eq!(root.parent_span_id, SpanId::INVALID);
    let link = root.links.first().expect("a link to the block in flight");
    assert_eq!(link.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert!(root.attributes.contains(&KeyValue::new("work.key", 7)));
}

#[test]
fn a_step_that_is_told_late_neither_hides_nor_repeats_another() {
    let (anchor, begin) = (WallAnchor::now(), crate::clock::now());
    let at = |ms: u64| Monotonic(begin.0 + ms * MS);
    let mut incident = stalled(&anchor, begin);
    let mut told = Told::default();
    let mut spans = told.finished(&incident);
    incident.step(at(3_000), &Step::Restarted { target: target(11), after: Duration::ZERO }, &anchor);
    spans.extend(told.finished(&incident));
    incident.step(at(2_000), &Step::Exited { how: None, after_signal: None }, &anchor);
    spans.extend(told.finished(&incident));
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["stall", "restart", "exit"]);
}

#[test]
fn an_incident_that_a_restart_interrupted_ends_in_the_same_trace() {
    let anchor = WallAnchor::now();
    let mut incident = stalled(&anchor, crate::clock::now());
    let ids = incident.trace.clone().expect("ids");
    let kept = serde_json::to_string(&incident).expect("a document");
    let before = Told::default().finished(&incident);
    incident = serde_json::from_str(&kept).expect("the same");
    incident.interrupt(jiff::Timestamp::now());
    let after = Told::default().finished(&incident);
    let [stall, root] = &after[..] else { panic!("all that was told, and the root: {after:?}") };
    assert_eq!(root.span_context.trace_id().to_string(), ids.trace_id);
    assert_eq!(root.span_context.span_id().to_string(), ids.span_id);
    assert_eq!(before.first().expect("a stall").span_context, stall.span_context, "twice the same span");
}

#[test]
fn spans_of_one_incident_have_ids_of_their_own() {
    let (anchor, begin) = (WallAnchor::now(), crate::clock::now());
    let mut incident = stalled(&anchor, begin);
    for (ms, signal) in [(2_000, "SIGABRT"), (2_001, "SIGTERM"), (2_002, "SIGKILL")] {
        incident.step(Monotonic(begin.0 + ms * MS), &Step::Signal { signal, error: None }, &anchor);
    }
    incident.step(Monotonic(begin.0 + 3_000 * MS), &Step::Recovered { work_key: None }, &anchor);
    let spans = Told::default().finished(&incident);
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span.span_context.span_id()).collect();
    assert_eq!(ids.len(), 6, "stall, three signals, recover, incident: {spans:?}");
}

#[test]
fn a_document_without_ids_or_with_nonsense_makes_no_trace() {
    let anchor = WallAnchor::now();
    let mut incident = stalled(&anchor, crate::clock::now());
    incident.trace = None;
    assert!(Told::default().finished(&incident).is_empty());
    incident.trace = Some(IncidentTrace { trace_id: "x".to_owned(), span_id: "0".repeat(16) });
    assert!(Told::default().finished(&incident).is_empty() && inside(&incident).is_none());
}
