use super::*;

use std::time::Duration;

use crate::board::sample;
use crate::clock::Monotonic;
use crate::incident::journal::JournalConfig;
use crate::snapshot::TargetIdentity;
use crate::telemetry::dropped::Dropped;
use crate::verdict::{Reason, Withheld};

fn relay(directory: &std::path::Path) -> Relay {
    let board = sample::board();
    let telemetry = Arc::new(Telemetry::new(&board, None).unwrap());
    let config = JournalConfig {
        directory: crate::own_folder::Place::new(directory.to_owned(), Arc::default()),
        keep_incidents: 50,
        keep_bytes: 1 << 20,
    };
    Relay::new(board, telemetry, Journal::start(&config, Arc::new(Dropped::default()), None).unwrap(), None)
}

fn opened(number: u64) -> Event {
    let verdict = crate::clock::now();
    let at = Monotonic(verdict.0 - 60_000);
    Event::IncidentOpened(Box::new(Opening {
        incident: number,
        at: verdict,
        reason: Reason::ThreadGone,
        why: "thread exec-s0 ended".to_owned(),
        target: TargetIdentity { pid: 10, start_time: 20, incarnation: 30 },
        thread: None,
        last_progress: at,
        seen: at,
        threshold: None,
        observations: Vec::new(),
        last_words: None,
        tracer: None,
    }))
}

fn step(incident: u64, step: Step) -> Event {
    Event::IncidentStep { incident, at: crate::clock::now(), step }
}

fn line(page: &str, start: &str) -> String {
    page.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("{start} in\n{page}"))
        .to_owned()
}

#[test]
fn an_incident_is_told_in_metrics_and_journal_alike() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    let target = TargetIdentity { pid: 11, start_time: 21, incarnation: 31 };
    relay.pass_on(opened(1));
    relay.pass_on(step(1, Step::Signal { signal: "SIGABRT", error: None }));
    relay.pass_on(step(1, Step::Signal { signal: "SIGKILL", error: None }));
    relay.pass_on(step(1, Step::Exited { how: None, after_signal: None }));
    relay.pass_on(step(1, Step::Restarted { target, after: Duration::from_millis(40) }));
    relay.pass_on(step(1, Step::Recovered { work_key: Some(3) }));

    let page = relay.telemetry.page().unwrap();
    let kills = line(&page, r#"shard_watchdog_kills_total{reason="thread_gone""#);
    assert!(kills.ends_with(" 1"), "two signals are one kill: {kills}");
    assert!(line(&page, "shard_watchdog_restart_seconds_count").ends_with(" 1"));
    let detected =
        line(&page, r#"shard_watchdog_detection_seconds_bucket{reason="thread_gone",shard="7",le="0.0001""#);
    assert!(detected.ends_with(" 1"), "{detected}");

    let told = &relay.journal.latest()[0];
    assert_eq!(told.status, Status::Recovered);
    assert_eq!(told.mode, "enforce");
    let steps: Vec<_> = told.timeline.iter().map(|entry| entry.step.label()).collect();
    insta::assert_snapshot!(steps.join(" "), @"last_progress seen verdict signal signal exited restarted recovered");
    assert!(told.durations.fault_to_recovered_ms.is_some());
}

#[test]
fn a_withheld_kill_is_counted_by_what_withheld_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    relay.pass_on(opened(1));
    relay.pass_on(step(1, Step::Withheld(Withheld::Observe)));
    let page = relay.telemetry.page().unwrap();
    assert!(line(&page, r#"shard_watchdog_kills_withheld_total{reason="observe""#).ends_with(" 1"));
    assert!(line(&page, r#"shard_watchdog_kills_total{reason="thread_gone""#).ends_with(" 0"));
}

#[test]
fn a_step_of_an_incident_nobody_told_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    relay.pass_on(step(9, Step::NotDead));
    assert!(relay.journal.latest().is_empty());
}

#[test]
fn late_steps_of_an_earlier_incident_find_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    relay.pass_on(opened(1));
    relay.pass_on(opened(2));
    relay.pass_on(step(1, Step::ExitStatus { how: "killed by signal 9".to_owned() }));
    let told = relay.journal.latest().into_iter().find(|told| told.timeline.len() == 4);
    assert_eq!(told.unwrap().timeline[3].detail.as_deref(), Some("killed by signal 9"));
}

#[test]
fn silence_of_the_watch_ends_its_verdict() {
    let board = sample::board();
    let snapshot = sample::snapshot();
    let at = snapshot.at;
    board.set_snapshot(Arc::new(snapshot));
    assert_eq!(board.standing(at).verdict.label(), "healthy");
    let later = at.plus(crate::board::SILENT + Duration::from_secs(1));
    assert_eq!(board.standing(later).verdict.label(), "unguarded");
    assert_eq!(board.standing(later).reason, "the watch loop has reported nothing for 11 s");
}
