use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use super::super::tests::{opened, opening, relay, step};
use super::*;
use crate::board::sample;
use crate::event::Event;
use crate::evidence::gatherer::Dump;
use crate::incident::Status;
use crate::incident::folder::STACKS;
use crate::incident::journal::{Journal, JournalConfig};
use crate::snapshot::TargetIdentity;
use crate::verdict::{Reason, Withheld};

const WITHIN: Duration = Duration::from_secs(60);
const TARGET: TargetIdentity = TargetIdentity { pid: 11, start_time: 21, incarnation: 31 };

/// A relay whose stacks are looked up by a script that hands over `text` and is about the thread
/// `tid`; and the answers, which are not passed on by themselves.
fn asking(directory: &std::path::Path, tid: i32) -> (Relay, mpsc::Receiver<Symbolized>) {
    asked_by(relay(directory), tid)
}

fn asked_by(relay: Relay, tid: i32) -> (Relay, mpsc::Receiver<Symbolized>) {
    let (deliver, delivered) = mpsc::channel();
    let command = move || {
        let script = format!(
            r#"cat >/dev/null; echo text; echo '{{"headline":"exec-s0 is in spin","tid":{tid},"own_frames":["spin"]}}' >&2"#
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    };
    let deliver = move |symbolized| drop(deliver.send(symbolized));
    let symbolizer = Symbolizer::start(relay.journal.clone(), WITHIN, command, deliver).unwrap();
    let place = Arc::new(OnceLock::new());
    place.set(symbolizer).unwrap();
    (relay.asking(place), delivered)
}

fn dumped(incident: u64) -> Event {
    let file = Arc::new(std::fs::File::from(
        rustix::fs::memfd_create("dump", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
    ));
    let dump = Dump { file, threads: 3, bytes: 10, stood_still: Duration::ZERO };
    Event::Dumped { incident, at: crate::clock::now(), dump: Ok(dump) }
}

fn stalled(number: u64) -> Event {
    let thread = Some(sample::faulty_thread(number));
    Event::IncidentOpened(Box::new(crate::event::Opening {
        reason: Reason::Stalled,
        thread,
        ..opening(number)
    }))
}

/// The steps of each incident, in an order that does not depend on their ids.
fn all_steps(relay: &Relay) -> String {
    let mut all: Vec<_> = relay.journal.latest().iter().map(|incident| steps(incident)).collect();
    all.sort();
    all.join("\n")
}

fn steps(incident: &Incident) -> String {
    incident.timeline.iter().map(|entry| entry.step.label()).collect::<Vec<_>>().join(" ")
}

#[test]
fn stacks_are_looked_up_after_the_signal_and_told_of_an_incident_that_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut relay, answers) = asking(folder.path(), sample::faulty_thread(1).tid);
    relay.pass_on(stalled(1));
    relay.pass_on(dumped(1));
    assert_eq!(relay.stacks.tickets, 0, "before the signal");
    relay.pass_on(step(1, Step::Signal { signal: "SIGKILL", error: None }));
    relay.pass_on(step(1, Step::Exited { how: None, after_signal: None }));
    relay.pass_on(step(1, Step::Restarted { target: TARGET, after: Duration::ZERO }));
    relay.pass_on(step(1, Step::Recovered { work_key: Some(3) }));
    assert_eq!(relay.stacks.tickets, 1);
    let closed = Arc::clone(&relay.journal.latest()[0]);
    let answer = answers.recv_timeout(WITHIN).unwrap();
    relay.pass_on(Event::Symbolized(Box::new(answer)));
    let told = Arc::clone(&relay.journal.latest()[0]);
    insta::assert_snapshot!(steps(&told), @"last_progress seen verdict dump signal exited restarted recovered stacks");
    assert_eq!(told.timeline.last().unwrap().detail.as_deref(), Some("exec-s0 is in spin"));
    assert_eq!((told.status, told.closed_at), (Status::Recovered, closed.closed_at));
    assert_eq!(told.own_frames, ["spin"]);
    let page = relay.telemetry.page().unwrap();
    let counted =
        page.lines().find(|line| line.starts_with(r#"shard_watchdog_stacks_total{outcome="written""#));
    assert!(counted.unwrap().ends_with(" 1"), "{counted:?}");
    assert!(relay.journal.flush(WITHIN));
    let incident = folder.path().join("incidents").join(told.id.as_str());
    assert_eq!(std::fs::read_to_string(incident.join(STACKS)).unwrap(), "text\n");
    let document = std::fs::read(incident.join("incident.json")).unwrap();
    let document: Incident = serde_json::from_slice(&document).unwrap();
    assert_eq!(steps(&document), steps(&told));
}

#[test]
fn where_nothing_is_killed_they_are_looked_up_at_once_and_another_threads_frames_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let (mut relay, answers) = asking(folder.path(), sample::faulty_thread(1).tid + 1);
    relay.pass_on(stalled(1));
    relay.pass_on(step(1, Step::Withheld(Withheld::Observe)));
    relay.pass_on(dumped(1));
    relay.pass_on(Event::Symbolized(Box::new(answers.recv_timeout(WITHIN).unwrap())));
    let told = &relay.journal.latest()[0];
    insta::assert_snapshot!(steps(told), @"last_progress seen verdict withheld dump stacks");
    assert!(told.own_frames.is_empty() && told.status == Status::Open);
}

#[test]
fn the_next_sidecar_looks_up_what_this_one_did_not() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut relay = relay(folder.path());
        for number in [1, 2] {
            relay.pass_on(opened(number));
            relay.pass_on(dumped(number));
        }
        relay.pass_on(step(1, Step::Abandoned { why: "for a test".to_owned() }));
        assert!(relay.journal.flush(WITHIN));
    }
    let (mut relay, answers) = asking(folder.path(), 1);
    assert!(relay.journal.flush(WITHIN));
    relay.pass_on(Event::Timings(Box::default()));
    relay.pass_on(Event::Symbolized(Box::new(answers.recv_timeout(WITHIN).unwrap())));
    // The one that goes on has not been killed yet.
    insta::assert_snapshot!(all_steps(&relay), @r"
    last_progress seen verdict dump abandoned stacks
    last_progress seen verdict dump sidecar_restarted
    ");
    relay.pass_on(Event::Adopted { at: crate::clock::now(), target: TARGET, restored: false });
    relay.pass_on(Event::Symbolized(Box::new(answers.recv_timeout(WITHIN).unwrap())));
    insta::assert_snapshot!(all_steps(&relay), @r"
    last_progress seen verdict dump abandoned stacks
    last_progress seen verdict dump sidecar_restarted exited restarted stacks
    ");
}

#[test]
fn an_incident_that_was_deleted_meanwhile_does_not_come_back_in_place_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(&folder.path().join("many"));
    // The disk keeps two; memory keeps more.
    let config = JournalConfig {
        directory: crate::own_folder::Place::new(folder.path().join("few"), Arc::default()),
        keep_incidents: 2,
        keep_bytes: 1 << 20,
    };
    relay.journal = Journal::start(&config, Arc::default(), None).unwrap();
    let (mut relay, answers) = asked_by(relay, sample::faulty_thread(1).tid);
    let mut answer = None;
    for number in 1..=3 {
        // Their ids are in the order of their milliseconds.
        std::thread::sleep(Duration::from_millis(2));
        relay.pass_on(stalled(number));
        if number == 2 {
            relay.pass_on(dumped(2));
        }
        relay.pass_on(step(number, Step::Abandoned { why: "for a test".to_owned() }));
        if number == 2 {
            answer = Some(answers.recv_timeout(WITHIN).unwrap());
        }
    }
    let kept = |relay: &Relay| {
        assert!(relay.journal.flush(WITHIN));
        let on_disk = |id: &IncidentId| folder.path().join("few/incidents").join(id.as_str()).exists();
        relay.journal.latest().iter().rev().map(|incident| on_disk(&incident.id)).collect::<Vec<_>>()
    };
    // The one in the middle is a repeat. With the frames of its thread it would not be.
    assert_eq!(kept(&relay), [true, false, true]);
    relay.pass_on(Event::Symbolized(Box::new(answer.unwrap())));
    assert_eq!(kept(&relay), [true, false, true]);
    assert_eq!(relay.journal.latest()[1].own_frames, ["spin"]);
}

#[test]
fn what_is_too_much_is_told_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path());
    let hangs = || {
        let mut command = Command::new("sleep");
        command.arg("20");
        command
    };
    let symbolizer = Symbolizer::start(relay.journal.clone(), Duration::from_secs(5), hangs, |_| {}).unwrap();
    let place = Arc::new(OnceLock::new());
    place.set(symbolizer).unwrap();
    let mut relay = relay.asking(place);
    for number in 1..=9 {
        relay.pass_on(opened(number));
        relay.pass_on(dumped(number));
        relay.pass_on(step(number, Step::Abandoned { why: "for a test".to_owned() }));
    }
    let told = all_steps(&relay);
    assert!(told.lines().any(|steps| steps.ends_with("abandoned no_stacks")), "{told}");
    let page = relay.telemetry.page().unwrap();
    let counted =
        page.lines().find(|line| line.starts_with(r#"shard_watchdog_stacks_total{outcome="dropped""#));
    assert!(!counted.unwrap().ends_with(" 0"), "{counted:?}");
}
