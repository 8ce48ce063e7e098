use super::*;

use std::time::Instant;

use crate::board::sample;
use crate::client::{self, Endpoint};
use crate::event::{Event, Opening, Step};
use crate::snapshot::TargetIdentity;
use crate::status_json::StatusJson;
use crate::verdict::{Reason, Verdict};

const LONG: Duration = Duration::from_secs(20);

struct Running {
    surface: SurfaceHandle,
    events: mpsc::Sender<Event>,
    folder: tempfile::TempDir,
}

fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = sample::config(folder.path());
    config.http.listen = Some("127.0.0.1:0".parse().unwrap());
    config.http.public = Some("127.0.0.1:0".parse().unwrap());
    config.http.socket = Some(folder.path().join("w.sock"));
    let (events, receiver) = mpsc::channel(64);
    let surface =
        start_without_log(&config, receiver, WallAnchor::now(), Arc::default(), None, Arc::default())
            .unwrap();
    Running { surface, events, folder }
}

impl Running {
    fn tell(&self, verdict: Verdict) {
        let mut snapshot = sample::snapshot();
        snapshot.verdict = verdict;
        let at = snapshot.at;
        self.events.try_send(Event::Snapshot(Box::new(snapshot))).unwrap();
        let began = Instant::now();
        while self.surface.board.snapshot().is_none_or(|held| held.at != at) {
            assert!(began.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn listen(&self) -> Endpoint {
        format!("http://{}", self.surface.addresses().listen.unwrap()).parse().unwrap()
    }

    fn public(&self) -> Endpoint {
        format!("http://{}", self.surface.addresses().public.unwrap()).parse().unwrap()
    }

    fn socket(&self) -> Endpoint {
        Endpoint::Unix(self.folder.path().join("w.sock"))
    }
}

fn code(endpoint: &Endpoint, path: &str) -> u16 {
    client::get(endpoint, path, LONG).unwrap().status.as_u16()
}

#[test]
fn status_is_the_same_over_tcp_and_socket() {
    let running = running();
    running.tell(Verdict::Healthy);
    for endpoint in [running.listen(), running.socket()] {
        let answer = client::get(&endpoint, "/api/v1/status", LONG).unwrap();
        assert_eq!(answer.status.as_u16(), 200);
        let status: StatusJson = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((status.shard.as_str(), status.pid), ("7", Some(10)));
        assert_eq!(status.threads.len(), 2);
    }
}

#[test]
fn the_public_address_gives_probes_and_metrics_only() {
    let running = running();
    running.tell(Verdict::Healthy);
    for path in ["/livez", "/readyz", "/shard/readyz", "/metrics"] {
        assert_eq!(code(&running.public(), path), 200, "{path}");
        assert_eq!(code(&running.listen(), path), 200, "{path}");
    }
    assert_eq!(code(&running.public(), "/api/v1/events"), 404);
    for path in ["/", "/page.js", "/paths", "/api/v1/status", "/api/v1/history", "/api/v1/incidents"] {
        assert_eq!(code(&running.public(), path), 404, "{path}");
        assert_eq!(code(&running.listen(), path), 200, "{path}");
    }
}

#[test]
fn the_shard_is_ready_unless_it_is_lost_or_coming_back() {
    let running = running();
    for verdict in Verdict::ALL {
        running.tell(*verdict);
        let lost = ["condemned", "dying", "dead", "restarting", "starting"].contains(&verdict.label());
        let answer = client::get(&running.listen(), "/shard/readyz", LONG).unwrap();
        assert_eq!(answer.status.as_u16(), if lost { 503 } else { 200 }, "{verdict}");
        assert!(answer.body.starts_with(format!("{verdict}: ").as_bytes()));
    }
}

#[test]
fn the_sidecar_is_not_ready_before_its_first_look() {
    let running = running();
    assert_eq!(code(&running.listen(), "/readyz"), 503);
    assert_eq!(code(&running.listen(), "/livez"), 200);
    running.tell(Verdict::Unguarded);
    assert_eq!(code(&running.listen(), "/readyz"), 200);
}

#[test]
fn an_incident_is_listed_shown_and_on_the_disk_when_shutdown_returns() {
    let running = running();
    let at = crate::clock::now();
    let target = TargetIdentity { pid: 10, start_time: 20, incarnation: 30 };
    let opening = Opening {
        incident: 1,
        at,
        reason: Reason::ThreadGone,
        why: "thread exec-s0 ended".to_owned(),
        target,
        thread: None,
        last_progress: at,
        seen: at,
        threshold: None,
        observations: Vec::new(),
        last_words: None,
        tracer: None,
    };
    running.events.try_send(Event::IncidentOpened(Box::new(opening))).unwrap();
    let began = Instant::now();
    let id = loop {
        let answer = client::get(&running.listen(), "/api/v1/incidents", LONG).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        if let Some(id) = list["incidents"][0]["id"].as_str() {
            break id.to_owned();
        }
        assert!(began.elapsed() < LONG);
    };
    assert_eq!(code(&running.listen(), &format!("/api/v1/incidents/{id}")), 200);
    for other in ["20200101T000000000Z-0000", "..", "%2e%2e%2fetc"] {
        assert_eq!(code(&running.listen(), &format!("/api/v1/incidents/{other}")), 404, "{other}");
    }

    // The last event, just before the loop ends.
    let step = Step::Signal { signal: "SIGKILL", error: None };
    running.events.try_send(Event::IncidentStep { incident: 1, at, step }).unwrap();
    drop(running.events);
    running.surface.shutdown(LONG);
    let path = running.folder.path().join("evidence/incidents").join(id).join("incident.json");
    assert!(std::fs::read_to_string(path).unwrap().contains("SIGKILL"));
    assert!(!running.folder.path().join("w.sock").exists());
}

fn board(endpoint: &Endpoint) -> StatusJson {
    serde_json::from_slice(&client::get(endpoint, "/api/v1/status", LONG).unwrap().body).unwrap()
}

/// A port that is in use costs that port and nothing else; once it is free it is bound.
#[test]
fn an_address_that_is_taken_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = sample::config(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    config.http.listen = Some(address);
    config.http.socket = Some(folder.path().join("w.sock"));
    config.http.public = Some("127.0.0.1:0".parse().unwrap());
    std::fs::write(folder.path().join("w.sock"), "in the way").unwrap();
    let (events, receiver) = mpsc::channel(64);
    let surface =
        start_without_log(&config, receiver, WallAnchor::now(), Arc::default(), None, Arc::default())
            .unwrap();
    let public = surface.addresses().public.unwrap();
    let metrics = || {
        let endpoint: Endpoint = format!("http://{public}").parse().unwrap();
        String::from_utf8(client::get(&endpoint, "/metrics", LONG).unwrap().body.to_vec()).unwrap()
    };
    let told = metrics();
    for (listener, there) in [("listen", 0), ("public", 1), ("socket", 0)] {
        let line = |line: &&str| {
            line.starts_with("shard_watchdog_http_listening{") && line.contains(&format!("\"{listener}\""))
        };
        let line = told.lines().find(line).unwrap();
        assert!(line.ends_with(&format!("}} {there}")), "{line}");
    }
    std::fs::remove_file(folder.path().join("w.sock")).unwrap();
    let began = Instant::now();
    while !folder.path().join("w.sock").exists() {
        assert!(began.elapsed() < LONG * 3);
        std::thread::sleep(Duration::from_millis(5));
    }
    let socket = Endpoint::Unix(folder.path().join("w.sock"));
    let listeners = board(&socket).listeners;
    let names: Vec<_> = listeners.iter().map(|l| (l.name.as_str(), l.listening)).collect();
    assert_eq!(names, [("listen", false), ("public", true), ("socket", true)]);
    assert!(listeners[0].trouble.as_deref().unwrap().contains("is in use"), "{listeners:?}");
    drop(taken);
    let began = Instant::now();
    while surface.addresses().listen != Some(address) {
        assert!(began.elapsed() < LONG * 3);
        std::thread::sleep(Duration::from_millis(5));
    }
    let listen: Endpoint = format!("http://{address}").parse().unwrap();
    assert!(board(&listen).listeners.iter().all(|listener| listener.listening));
    // The shutdown waits for the loop's last events.
    drop(events);
    surface.shutdown(LONG);
    assert!(!folder.path().join("w.sock").exists());
}

/// Evidence where the target may write is refused once the target is known, and the watch
/// continues.
#[test]
fn evidence_that_the_target_could_forge_is_refused_and_told() {
    use crate::own_folder::target_user::User;
    use std::os::unix::fs::PermissionsExt;
    let running = running();
    std::fs::set_permissions(running.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(board(&running.listen()).evidence_trouble, None);
    running.surface.target_user().set(User::new(&[61_001], &[61_001]));
    let at = crate::clock::now();
    let target = TargetIdentity { pid: 10, start_time: 20, incarnation: 30 };
    running.events.try_send(Event::Adopted { at, target, restored: false }).unwrap();
    let began = Instant::now();
    let trouble = loop {
        if let Some(trouble) = board(&running.listen()).evidence_trouble {
            break trouble;
        }
        assert!(began.elapsed() < LONG);
    };
    assert!(trouble.contains("the target (uid 61001) may write"), "{trouble}");
    running.tell(Verdict::Healthy);
    assert!(!running.folder.path().join("evidence").exists());
}

/// A body that never arrives completely does not delay the server.
#[test]
fn a_body_that_does_not_come_ends_with_its_connection() {
    use std::io::{Read, Write};
    let running = running();
    #[expect(clippy::disallowed_methods, reason = "it listens")]
    let mut stream = std::os::unix::net::UnixStream::connect(running.folder.path().join("w.sock")).unwrap();
    stream.set_read_timeout(Some(LONG * 3)).unwrap();
    stream.write_all(b"POST /api/v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn kills_of_an_earlier_life_are_counted() {
    let running = running();
    assert_eq!(running.surface.past(), (crate::act::budget::Past::default(), None));
}

#[test]
fn shutdown_keeps_its_deadline_although_the_loop_never_ends() {
    let running = running();
    let began = Instant::now();
    running.surface.shutdown(Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(running.events);
}
