#![expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]

use super::*;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;

use clap::Parser;
use shard_watchdog::config::Links;
use shard_watchdog::status_json::{ChannelJson, DeadlineJson, ExcuseJson, ThreadJson};
use shard_watchdog::verdict::{ExcuseKind, Health};

fn status(verdict: Verdict) -> StatusJson {
    let thread = ThreadJson {
        name: "exec-s0".to_owned(),
        tid: Some(4_711),
        health: Health::Late,
        unobserved: None,
        kind: None,
        excuse_over_cap: false,
        excuses: vec![
            ExcuseJson {
                kind: ExcuseKind::Starved,
                running: false,
                seconds: 1.5,
                at_most_seconds: Some(600.0),
            },
            ExcuseJson {
                kind: ExcuseKind::ObserverLate,
                running: false,
                seconds: 0.25,
                at_most_seconds: None,
            },
        ],
        heartbeat_age_seconds: Some(2.5),
        work_key: Some(19_426_587),
        attempt: Some(2),
        section: None,
        work_age_seconds: Some(3.25),
        counted_seconds: 2.5,
        stall_after_seconds: 5.0,
        rule_stall_after_seconds: None,
        section_stall_after_seconds: None,
        idle_counted_seconds: None,
        idle_at_most_seconds: None,
        silent_seconds: None,
    };
    let missing = ThreadJson {
        name: "net-*".to_owned(),
        tid: None,
        health: Health::Gone,
        unobserved: None,
        excuses: Vec::new(),
        heartbeat_age_seconds: None,
        work_key: None,
        attempt: None,
        work_age_seconds: None,
        counted_seconds: 0.0,
        ..thread.clone()
    };
    StatusJson {
        shard: "0".to_owned(),
        verdict,
        reason: "thread exec-s0 has made no progress for 2.5 s".to_owned(),
        since: "2026-11-22T22:15:03.25Z".parse().unwrap(),
        pid: Some(4_700),
        incarnation: Some(3),
        restored: false,
        threads: vec![thread, missing],
        channels: vec![ChannelJson {
            name: "commands".to_owned(),
            depth: 2,
            age_seconds: 0.25,
            sent: 12,
            received: 10,
            max_age_seconds: None,
            counted_seconds: None,
            late: false,
        }],
        kills_left: Some(3),
        next_kill_in_seconds: None,
        paused_until: None,
        paused_reason: None,
        paused_by: None,
        mode: "observe".to_owned(),
        kill_by: "signal".to_owned(),
        excuse: None,
        excused_seconds: BTreeMap::from([("stopped".to_owned(), 75.0)]),
        thread_events: Some("pidfd".to_owned()),
        listeners: Vec::new(),
        evidence_trouble: None,
        last_near_miss: None,
        evidence_lacks: Vec::new(),
        shadow: None,
        held: false,
        crash_loop_keys: Vec::new(),
        spared: false,
        kills_without_progress: 0,
        braked: false,
        deadlines: vec![DeadlineJson {
            what: "stopped".to_owned(),
            seconds: 12.0,
            at_most_seconds: 60.0,
            kills: true,
        }],
        no_kill: Vec::new(),
        heartbeat_out: None,
        recorder: None,
        telemetry_dropped: BTreeMap::from([("logs".to_owned(), 0)]),
        links: Links::default(),
        version: "0.1.0".to_owned(),
    }
}

fn now() -> Timestamp {
    "2026-11-22T22:17:08.25Z".parse().unwrap()
}

#[test]
fn a_person_reads_verdict_reason_threads_and_channels() {
    insta::assert_snapshot!(told(&status(Verdict::Degraded), now(), false), @r"
    shard 0: degraded
      why     thread exec-s0 has made no progress for 2.5 s
      since   2026-11-22T22:15:03.250Z (2 min 5 s ago)
      target  pid 4700, incarnation 3
      kills   mode observe, 3 left in the budget

    THREAD   TID   HEALTH  LAST BEAT  WORK                  FOR
    exec-s0  4711  late    2.50 s     19426587 (attempt 2)  3.25 s
    net-*    -     gone    -          -                     -

    CHANNEL   WAITING  OLDEST  SENT  RECEIVED
    commands  2        0.25 s  12    10
    ");
}

#[test]
fn explain_tells_what_stands_between_the_target_and_a_kill() {
    insta::assert_snapshot!(explain::explained(&status(Verdict::Condemned)).trim_start(), @r#"
    THREAD   COUNTED  THRESHOLD  USED  REMARK
    exec-s0  2.50 s   5.00 s     50 %  past warn_after
    net-*    0.00 s   5.00 s     0 %   no thread of this name is there

    OF           EXCUSE         LASTED  CAP     NOW
    exec-s0      starved        1.50 s  10 min  over
    exec-s0      observer_late  0.25 s  none    over
    the process  stopped        12 s    1 min   runs, then it is condemned

    excused so far: stopped 1 min 15 s

    the end of a thread is seen by an event, at once

    why no kill:
      observe: kill.mode is "observe": it reports what it would do; kills are switched on with "enforce"
    "#);
}

#[test]
fn explain_shows_the_threshold_in_force_and_why_it_is_not_that_of_the_rule() {
    let mut status = status(Verdict::Degraded);
    status.threads.truncate(1);
    (status.threads[0].stall_after_seconds, status.threads[0].rule_stall_after_seconds) = (2.6, Some(5.0));
    let text = explain::explained(&status);
    let row = text.lines().find(|line| line.starts_with("exec-s0")).unwrap();
    insta::assert_snapshot!(row, @"exec-s0  2.50 s   2.60 s     96 %  past warn_after; its work has a deadline of its own, its rule allows 5.00 s");
    status.threads[0].stall_after_seconds = 30.0;
    let text = explain::explained(&status);
    let row = text.lines().find(|line| line.starts_with("exec-s0")).unwrap();
    insta::assert_snapshot!(row, @"exec-s0  2.50 s   30 s       8 %   past warn_after; this is its first piece of work, its rule allows 5.00 s for later ones");
}

#[test]
fn explain_names_the_section_and_its_threshold() {
    let mut status = status(Verdict::Degraded);
    status.threads.truncate(1);
    let thread = &mut status.threads[0];
    thread.section = Some("committing".to_owned());
    (thread.stall_after_seconds, thread.rule_stall_after_seconds) = (30.0, Some(5.0));
    thread.section_stall_after_seconds = Some(30.0);
    let row = |status: &StatusJson| {
        explain::explained(status).lines().find(|line| line.starts_with("exec-s0")).unwrap().to_owned()
    };
    insta::assert_snapshot!(row(&status), @"exec-s0  2.50 s   30 s       8 %   past warn_after; its section committing is allowed 30 s, its rule allows 5.00 s otherwise");
    status.threads[0].stall_after_seconds = 10.0;
    insta::assert_snapshot!(row(&status), @"exec-s0  2.50 s   10 s       25 %  past warn_after; its section committing is allowed 30 s, its rule allows 5.00 s otherwise; its work has a deadline of its own, its section allows 30 s");
    let thread = &mut status.threads[0];
    (thread.stall_after_seconds, thread.rule_stall_after_seconds) = (5.0, None);
    thread.section_stall_after_seconds = None;
    insta::assert_snapshot!(row(&status), @"exec-s0  2.50 s   5.00 s     50 %  past warn_after; in its section committing");
    let table = told(&status, now(), false);
    assert!(table.contains("19426587 (attempt 2) (committing)"), "{table}");
}

#[test]
fn colours_only_when_asked_and_hostile_names_move_no_cursor() {
    let mut hostile = status(Verdict::Dead);
    hostile.threads[0].name = "\u{1b}[2Jx".to_owned();
    hostile.reason = "a\r\nb".to_owned();
    let text = told(&hostile, now(), false);
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text}");
    assert!(told(&hostile, now(), true).contains("\x1b[1;31mdead\x1b[0m"));
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let codes: Vec<String> =
        Verdict::ALL.iter().map(|verdict| format!("{verdict} {}", exit_code(*verdict))).collect();
    insta::assert_snapshot!(codes.join("\n"), @r"
    unguarded 2
    starting 1
    healthy 0
    degraded 1
    excused 0
    condemned 2
    dying 2
    dead 2
    restarting 1
    crash_loop 2
    ");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn endpoint(url: &str) -> Endpoint {
    Line::try_parse_from(["status", "--url", url]).unwrap().args.address.endpoint().unwrap()
}

/// Answers one request with `answer`.
fn server(answer: String) -> (Endpoint, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4_096]);
        let head = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        write!(stream, "HTTP/1.1 200 OK\r\n{head}{answer}").unwrap();
    });
    (endpoint(&url), served)
}

#[test]
fn an_answer_is_understood_and_passed_on_as_it_came() {
    let body = serde_json::to_string(&status(Verdict::Healthy)).unwrap();
    // A newer sidecar may report more fields.
    let body = body.replacen('{', "{\"news\":1,", 1);
    let (endpoint, served) = server(body.clone());
    let (raw, understood) = ask(&endpoint).unwrap();
    served.join().unwrap();
    assert_eq!((raw, understood), (body, status(Verdict::Healthy)));
}

#[test]
fn nobody_there_ends_with_the_next_step() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let why = ask(&endpoint(&url)).unwrap_err();
    assert!(why.starts_with(&format!("{url} cannot be reached")), "{why}");
    assert!(why.contains("--url"), "{why}");
}

#[test]
fn something_else_at_the_address_is_said_so() {
    let (endpoint, served) = server("{\"hello\":1}".to_owned());
    let why = ask(&endpoint).unwrap_err();
    served.join().unwrap();
    assert!(why.contains("something other than a status"), "{why}");
}

#[test]
fn a_bad_url_is_refused_by_the_command_line() {
    let error = Line::try_parse_from(["status", "--url", "9611"]).unwrap_err().to_string();
    assert!(error.contains("say http://HOST:PORT or unix:/PATH.sock"), "{error}");
}
