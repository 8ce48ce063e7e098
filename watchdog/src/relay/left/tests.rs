use super::super::tests::{opened, opening, relay, step};
use super::*;

use std::path::Path;

use crate::board::sample;
use crate::event::Event;
use crate::verdict::StallKind;

const LONG: Duration = Duration::from_secs(20);

/// The process of `opening`.
const FIRST: TargetIdentity = TargetIdentity { pid: 10, start_time: 20, incarnation: 30 };

const SIGKILL: Step = Step::Signal { signal: "SIGKILL", error: None };

/// A process that starts now.
fn successor() -> TargetIdentity {
    let ticks = crate::clock::since_boot().unwrap().as_millis() / 10;
    TargetIdentity { pid: 11, start_time: u64::try_from(ticks).unwrap() + 1, incarnation: 31 }
}

fn adopted(target: TargetIdentity) -> Event {
    Event::Adopted { at: crate::clock::now(), target, restored: false }
}

fn snapshot(target: TargetIdentity, first_finished: Option<Option<u64>>) -> Event {
    let at = crate::clock::now();
    Event::Snapshot(Box::new(Snapshot { at, target: Some(target), first_finished, ..sample::snapshot() }))
}

fn gone(number: u64, target: TargetIdentity) -> Event {
    Event::IncidentOpened(Box::new(Opening { reason: Reason::ProcessGone, target, ..opening(number) }))
}

/// A sidecar that ended after these events; and the one after it, with its journal read.
fn next(folder: &Path, events: Vec<Event>) -> Relay {
    let mut first = relay(folder);
    events.into_iter().for_each(|event| first.pass_on(event));
    assert!(first.journal.flush(LONG));
    drop(first);
    let next = relay(folder);
    assert!(next.journal.flush(LONG));
    next
}

/// The steps of the only incident since the restart, and its state.
fn story(relay: &Relay) -> String {
    let all = relay.journal.latest();
    assert_eq!(all.len(), 1, "{all:#?}");
    let life = all[0].lives().last().unwrap();
    let steps: Vec<_> = life
        .iter()
        .map(|entry| {
            let known = if entry.monotonic_ns.is_some() { "" } else { "?" };
            format!("{}{known} ", entry.step.label())
        })
        .collect();
    format!("{}: {}", steps.concat(), all[0].status.label())
}

#[test]
fn a_restart_after_the_signal_ends_with_the_successors_first_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = next(folder.path(), vec![opened(1), step(1, SIGKILL)]);
    let before = relay.journal.latest()[0].clone();
    relay.pass_on(snapshot(FIRST, None));
    assert_eq!(story(&relay), ": open");
    std::thread::sleep(Duration::from_millis(30));
    let target = successor();
    std::thread::sleep(Duration::from_millis(30));
    for event in [adopted(target), snapshot(target, None), snapshot(target, Some(Some(7)))] {
        relay.pass_on(event);
    }
    assert_eq!(story(&relay), "exited? restarted recovered : recovered");
    let after = &relay.journal.latest()[0];
    assert_eq!((&after.id, &after.trace), (&before.id, &before.trace));
    assert_eq!((after.durations.signal_to_dead_us, after.durations.dead_to_restarted_ms), (None, None));
    assert!(after.durations.fault_to_recovered_ms.is_some() && after.closed_at.is_some());
    // It is over: what comes next is another one.
    relay.pass_on(gone(1, target));
    assert_eq!(relay.journal.latest().len(), 2);
}

#[test]
fn of_a_successor_that_was_there_before_no_time_is_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = next(folder.path(), vec![opened(1), step(1, SIGKILL)]);
    let target = TargetIdentity { pid: 11, start_time: 1, incarnation: 31 };
    relay.pass_on(adopted(target));
    relay.pass_on(snapshot(target, Some(None)));
    assert_eq!(story(&relay), "exited? restarted? recovered? : recovered");
    let durations = relay.journal.latest()[0].durations;
    assert_eq!((durations.restarted_to_recovered_ms, durations.fault_to_recovered_ms), (None, None));
    assert!(durations.verdict_to_signal_us.is_some());
}

#[test]
fn a_successor_that_was_known_is_no_second_restart() {
    let folder = tempfile::tempdir().unwrap();
    let target = successor();
    let events = vec![
        opened(1),
        step(1, SIGKILL),
        step(1, Step::Exited { how: None, after_signal: None }),
        step(1, Step::Restarted { target, after: Duration::ZERO }),
    ];
    let mut relay = next(folder.path(), events);
    relay.pass_on(adopted(target));
    relay.pass_on(snapshot(target, Some(Some(7))));
    assert_eq!(story(&relay), "recovered? : recovered");
}

#[test]
fn the_same_verdict_again_is_the_same_incident() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = next(folder.path(), vec![opened(1)]);
    relay.pass_on(adopted(FIRST));
    relay.pass_on(opened(1));
    relay.pass_on(step(1, SIGKILL));
    relay.pass_on(step(1, Step::Exited { how: None, after_signal: None }));
    assert_eq!(story(&relay), "verdict signal exited : open");
    let page = relay.telemetry.page().unwrap();
    let kills =
        page.lines().find(|line| line.starts_with("shard_watchdog_kills_total{reason=\"thread_gone\""));
    assert!(kills.unwrap().ends_with(" 1"), "{kills:?}");
    let detected = page.lines().find(|line| line.starts_with("shard_watchdog_detection_seconds_count{"));
    assert!(detected.is_none_or(|line| line.ends_with(" 0")), "it was not detected again: {detected:?}");
    relay.pass_on(step(1, Step::Restarted { target: successor(), after: Duration::ZERO }));
    relay.pass_on(step(1, Step::Recovered { work_key: None }));
    assert_eq!(story(&relay), "verdict signal exited restarted recovered : recovered");
}

#[test]
fn the_death_of_its_process_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = next(folder.path(), vec![opened(1), step(1, SIGKILL)]);
    relay.pass_on(adopted(FIRST));
    relay.pass_on(gone(1, FIRST));
    relay.pass_on(step(1, Step::Exited { how: None, after_signal: None }));
    assert_eq!(story(&relay), "exited : open");
    assert!(relay.journal.latest()[0].durations.signal_to_dead_us.is_some(), "it was seen to die");
}

#[test]
fn a_person_who_asks_for_its_kill_adds_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = next(folder.path(), vec![opened(1)]);
    relay.pass_on(adopted(FIRST));
    relay.pass_on(Event::IncidentOpened(Box::new(Opening { reason: Reason::Requested, ..opening(1) })));
    assert_eq!(story(&relay), "requested : open");
}

#[test]
fn another_fault_is_another_incident() {
    for other in [
        gone(1, successor()),
        Event::IncidentOpened(Box::new(Opening { reason: Reason::Stalled, ..opening(1) })),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut relay = next(folder.path(), vec![opened(1)]);
        relay.pass_on(other);
        let all = relay.journal.latest();
        let mut states: Vec<_> = all.iter().map(|one| (one.reason.label(), one.status.label())).collect();
        states.sort_unstable();
        assert!(states.contains(&("thread_gone", "abandoned")), "{states:?}");
        assert_eq!((states.len(), states.iter().filter(|(_, status)| *status == "open").count()), (2, 1));
    }
}

#[test]
fn a_thread_that_goes_on_ends_its_stall() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample::snapshot();
    let status = sample.threads.iter().find(|thread| thread.health == Health::Working).unwrap();
    let thread = FaultyThread {
        name: status.name.clone(),
        tid: status.tid.unwrap(),
        kind: Some(StallKind::Deadlock),
        work_key: None,
        attempt: None,
        section: None,
        trace_id: None,
        span_id: None,
    };
    let stalled = Opening { reason: Reason::Stalled, thread: Some(thread), ..opening(1) };
    let mut relay = next(folder.path(), vec![Event::IncidentOpened(Box::new(stalled))]);
    relay.pass_on(adopted(FIRST));
    let mut seen = Snapshot { at: crate::clock::now(), target: Some(FIRST), ..sample };
    seen.threads.iter_mut().for_each(|thread| thread.beats = 0);
    relay.pass_on(Event::Snapshot(Box::new(seen.clone())));
    assert_eq!(story(&relay), ": open", "healthy so far only because nothing has lasted long enough");
    seen.threads.iter_mut().for_each(|thread| thread.beats = 2);
    relay.pass_on(Event::Snapshot(Box::new(seen)));
    assert_eq!(story(&relay), "abandoned : abandoned");
}
