//! `GET /api/v1/events` of real sidecars: a fault from its beginning to recovery, clients that come
//! back, that never read, that are too many, and the end of the sidecar.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::pair::Pair;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::order_unanswered;
use shard_tests::sidecar::Settings;
use shard_tests::stream::{Stream, Told, open_unread};
use shard_tests::{api, wait};

/// `feed::STREAMS`
const STREAMS: usize = 8;

fn words<'a>(events: &'a [Told], event: &str, key: &str) -> Vec<&'a str> {
    let of_name = events.iter().filter(|told| told.event == event);
    of_name.filter_map(|told| told.data.pointer(key)?.as_str()).collect()
}

/// A target that is well, and its sidecar.
fn pair(settings: &Settings) -> Pair {
    let mut pair = Pair::configure_with(settings);
    pair.start_target(Command::new(binary("puppet")));
    pair.start_sidecar(Command::new(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
    pair
}

fn sidecar(pair: &mut Pair) -> &mut Process {
    pair.running.last_mut().expect("a sidecar")
}

#[test]
fn a_fault_is_told_step_by_step_until_the_shard_works_again() {
    let cluster = Cluster::start(&Plan { shards: 1, ..Plan::default() });
    let sidecar = &cluster.shards[0].sidecar;
    let stream = Stream::open(sidecar.http, None);
    let began = wait::until("the first id", || stream.events().into_iter().next());
    assert_eq!((began.event.as_str(), &began.data), ("", &Value::Null));
    cluster.inject(0, &["hook off", "arm panic after 3"]);
    stream.wait_for("incident", |data| data["status"] == "recovered");
    stream.wait_for("verdict", |data| data["verdict"] == "healthy");
    let events = stream.events();

    let verdicts = words(&events, "verdict", "/verdict");
    assert!(verdicts.contains(&"condemned") && verdicts.last() == Some(&"healthy"), "{verdicts:?}");
    let steps = words(&events, "incident", "/step/step");
    let told = sidecar.incident("recovered");
    let in_order = ["verdict", "signal", "exited", "restarted", "recovered"];
    let places: Vec<_> = in_order.iter().map(|step| steps.iter().position(|told| told == step)).collect();
    assert!(places.is_sorted() && places[0] == Some(0), "{steps:?}");
    let id = told["id"].as_str().unwrap();
    assert!(words(&events, "incident", "/id").iter().all(|told| *told == id), "{events:#?}");
    // Each step is as the document has it.
    let timeline = told["timeline"].as_array().unwrap();
    for step in events.iter().filter(|told| told.event == "incident").map(|told| &told.data["step"]) {
        assert!(timeline.contains(step), "{step:#} is not in {told:#}");
    }

    // From any place, the rest is the same.
    for (place, last) in events.iter().enumerate() {
        let again = Stream::open(sidecar.http, Some(&last.id));
        let rest = wait::until("what followed", || {
            Some(again.events()).filter(|events| events.len() >= stream.events().len() - place)
        });
        assert_eq!((rest[0].event.as_str(), &rest[0].id), ("", &last.id));
        let rest: Vec<_> = rest.iter().skip(1).take(events.len() - place - 1).collect();
        assert_eq!(rest, events.iter().skip(place + 1).collect::<Vec<_>>());
    }
    let lost = Stream::open(sidecar.http, Some("5e9-7"));
    let missed = lost.wait_for("missed", |data| data["missed"].is_null());
    assert_eq!(lost.events()[0], missed, "it comes first");
    wait::until("all that is held", || (lost.events().len() > events.len() - 1).then_some(()));
}

#[test]
fn a_pause_its_end_and_a_reload_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("w.sock");
    let append = format!("socket = {socket:?}\n");
    let mut pair = pair(&Settings { append, ..Settings::default() });
    let stream = Stream::open(pair.sidecar.http, None);
    let said = |arguments: &[&str]| {
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(arguments).arg("--socket").arg(&socket);
        assert!(Process::start("order", command).wait("an order").success());
    };
    said(&["pause", "--for", "1h", "--reason", "ticket 7"]);
    let pause = stream.wait_for("pause", |_| true);
    assert_eq!(pause.data["reason"], "ticket 7");
    let status = pair.sidecar.status().unwrap();
    assert_eq!(pause.data["paused_until"], status["paused_until"]);
    said(&["resume"]);
    assert_eq!(stream.wait_for("resume", |_| true).data["by"], pause.data["by"]);
    sidecar(&mut pair).signal(Signal::HUP);
    assert_eq!(stream.wait_for("reload", |_| true).data["in_force"], true);
    let config = std::fs::read_to_string(&pair.sidecar.config).unwrap();
    std::fs::write(&pair.sidecar.config, format!("{config}\nnonsense = 1\n")).unwrap();
    sidecar(&mut pair).signal(Signal::HUP);
    stream.wait_for("reload", |data| data["in_force"] == false);
}

#[test]
fn clients_that_never_read_and_too_many_disturb_nobody_and_end_with_the_sidecar() {
    let mut pair = pair(&Settings::default());
    let http = pair.sidecar.http;
    let stream = Stream::open(http, None);
    let mut deaf: Vec<_> = (1..STREAMS).map(|_| open_unread(http)).collect();
    let refused = api::get(http, "/api/v1/events").unwrap();
    assert_eq!(refused.code, 503, "{refused:?}");
    let why: Value = serde_json::from_str(&refused.body).unwrap();
    assert!(why["error"].as_str().unwrap().contains("GET /api/v1/status"), "{why}");
    // Who goes makes room, as soon as the sidecar notices.
    deaf.pop();
    deaf.push(open_unread(http));
    order_unanswered(pair.port, "lose");
    stream.wait_for("incident", |data| data["step"]["step"] == "exited");
    assert_eq!(api::get(http, "/livez").unwrap().code, 200);
    assert!(!stream.is_over());
    sidecar(&mut pair).signal(Signal::TERM);
    // A stream may last for five minutes.
    let ended =
        wait::within(Duration::from_secs(30), "the end of the sidecar", || sidecar(&mut pair).ended());
    assert!(ended.success(), "{ended}");
    wait::until("the end of the stream", || stream.is_over().then_some(()));
}
