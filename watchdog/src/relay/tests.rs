use super::*;

use std::time::Duration;

use crate::board::sample;
use crate::clock::Monotonic;
use crate::event::LateThread;
use crate::evidence::thread::ThreadEvidence;
use crate::incident::journal::JournalConfig;
use crate::snapshot::TargetIdentity;
use crate::telemetry::dropped::Dropped;
use crate::verdict::{NearMissOutcome, Reason, Withheld};

pub(super) fn relay(directory: &std::path::Path) -> Relay {
    let board = sample::board();
    let telemetry = Arc::new(Telemetry::new(&board, None).unwrap());
    let config = JournalConfig {
        directory: crate::own_folder::Place::new(directory.to_owned(), Arc::default()),
        keep_incidents: 50,
        keep_bytes: 1 << 20,
    };
    Relay::new(board, telemetry, Journal::start(&config, Arc::new(Dropped::default()), None).unwrap(), None)
}

pub(super) fn opening(number: u64) -> Opening {
    let verdict = crate::clock::now();
    let at = Monotonic(verdict.0 - 60_000);
    Opening {
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
    }
}

pub(super) fn opened(number: u64) -> Event {
    Event::IncidentOpened(Box::new(opening(number)))
}

pub(super) fn step(incident: u64, step: Step) -> Event {
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

fn gathered(purpose: Purpose, evidence: Evidence) -> Event {
    let at = crate::clock::now();
    Event::Gathered(Gathered { purpose, at, at_fault: Some(7), evidence: Box::new(evidence) })
}

#[test]
fn evidence_is_a_step_and_a_file_of_its_incident() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    relay.pass_on(opened(1));
    let thread = ThreadEvidence { tid: 7, state: Some("running".to_owned()), ..ThreadEvidence::default() };
    let evidence = Evidence { took_ms: 1.25, threads: vec![thread], ..Evidence::default() };
    relay.pass_on(gathered(Purpose::Incident(1), evidence));
    let told = &relay.journal.latest()[0];
    let last = told.timeline.last().unwrap();
    assert_eq!(last.step.label(), "evidence");
    assert_eq!(last.detail.as_deref(), Some("1 thread in 1.2 ms; thread 7 runs"));
    assert!(relay.journal.flush(Duration::from_secs(60)));
    let path = folder.path().join("incidents").join(told.id.as_str()).join(THREADS);
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!((&file["incident"], &file["threads"][0]["tid"]), (&told.id.as_str().into(), &7.into()));
    // One of a process that was dead already is none.
    relay.pass_on(opened(2));
    relay.pass_on(gathered(Purpose::Incident(2), Evidence::default()));
    let told = &relay.journal.latest()[0];
    assert_eq!(told.timeline.last().map(|entry| entry.step.label()), Some("no_evidence"));
}

#[test]
fn what_evidence_would_lack_is_known_from_the_adoption_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    let missing = ["stack: not permitted. No", "syscall: not permitted. Grant", "fd: Input/output error"];
    let missing = missing.map(str::to_owned).to_vec();
    relay.pass_on(gathered(Purpose::Rehearsal, Evidence { missing, ..Evidence::default() }));
    assert_eq!(relay.board.evidence_lacks(), ["syscall: not permitted. Grant"]);
    relay.pass_on(gathered(Purpose::Rehearsal, Evidence::default()));
    assert!(relay.board.evidence_lacks().is_empty());
    assert!(relay.journal.latest().is_empty());
}

fn late(relay: &mut Relay, number: u64, evidence_holds: bool) {
    let thread = sample::faulty_thread(number);
    let (at, counted, stall_after) =
        (crate::clock::now(), Duration::from_millis(400), Duration::from_secs(1));
    relay.pass_on(Event::Late(Box::new(LateThread { number, at, thread, counted, stall_after })));
    let thread = ThreadEvidence { tid: 7, state: Some("running".to_owned()), ..ThreadEvidence::default() };
    let evidence = Evidence { threads: vec![thread], ..Evidence::default() };
    relay.pass_on(gathered(Purpose::NearMiss(number), evidence));
    let (outcome, lasted) = (NearMissOutcome::Recovered, Duration::from_millis(700));
    relay.pass_on(Event::LateOver { number, outcome, lasted, incident: None, evidence_holds });
}

#[test]
fn a_near_miss_is_told_once_it_is_over_and_not_with_what_a_thread_did_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    late(&mut relay, 1, true);
    late(&mut relay, 2, false);
    assert!(relay.journal.flush(Duration::from_secs(60)));
    let near_misses = relay.journal.near_misses();
    let told: Vec<_> = near_misses.iter().map(|near| (near.thread.work_key, near.guess.as_deref())).collect();
    assert_eq!(told, [(Some(2), None), (Some(1), Some("thread 7 runs"))]);
    assert!(near_misses[0].evidence.is_none() && near_misses[1].evidence.is_some());
    assert_eq!(near_misses[1].lasted_seconds, 0.7);
    let page = relay.telemetry.page().unwrap();
    let counted = line(&page, r#"shard_watchdog_near_misses_total{outcome="recovered""#);
    assert!(counted.ends_with(" 2"), "{counted}");
    // They are the next sidecar's, too.
    let next = self::relay(folder.path());
    assert!(next.journal.flush(Duration::from_secs(60)));
    assert_eq!(next.journal.near_misses().len(), 2);
}

#[test]
fn the_end_of_a_near_miss_that_nobody_told_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    let over = |number| Event::LateOver {
        number,
        outcome: NearMissOutcome::Ended,
        lasted: Duration::ZERO,
        incident: None,
        evidence_holds: false,
    };
    relay.pass_on(over(5));
    relay.pass_on(gathered(Purpose::NearMiss(5), Evidence::default()));
    assert!(relay.journal.flush(Duration::from_secs(60)));
    assert!(relay.journal.near_misses().is_empty());
}
