//! Tests of orders over real sockets, with a loop that only answers.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::board::sample;
use crate::client::{self, Endpoint};
use crate::clock::WallAnchor;
use crate::snapshot::TargetIdentity;
use crate::surface::{self, SurfaceHandle};
use crate::watch::control::{Cleared, Command, Control};
use crate::watch::hand::KillAnswer;

const LONG: Duration = Duration::from_secs(20);
const TOKEN: &str = "c2hhcmQtd2F0Y2hkb2ct";
const POISON: u64 = 19_000_000;
const PAUSE: &str = r#"{"for": "10m", "reason": "ticket 4711"}"#;

struct Running {
    surface: SurfaceHandle,
    _events: tokio::sync::mpsc::Sender<crate::event::Event>,
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    told: Option<JoinHandle<Vec<String>>>,
}

/// A sidecar whose loop kills once, has a pause in force between the first and the second order
/// about pauses, and has two pieces of work in a crash loop.
fn running(token: bool, answers: bool) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = sample::config(folder.path());
    config.http.listen = Some("127.0.0.1:0".parse().unwrap());
    config.http.public = Some("127.0.0.1:0".parse().unwrap());
    config.http.socket = Some(folder.path().join("w.sock"));
    if token {
        let path = folder.path().join("token");
        std::fs::write(&path, TOKEN).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        config.http.token_file = Some(path);
    }
    let (events, receiver) = tokio::sync::mpsc::channel(64);
    let surface = surface::start_without_log(
        &config,
        receiver,
        WallAnchor::now(),
        Arc::default(),
        None,
        Arc::default(),
    )
    .unwrap();
    let probe = crate::probe::Probe::new(crate::probe::ThreadEvents::Poll).unwrap();
    let (control, inbox) = Control::new(probe.waker());
    surface.ask(control);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let told = std::thread::spawn(move || {
        let mut told = Vec::new();
        let (mut pause, mut killed, mut unanswered) = (None, false, Vec::new());
        let mut poison = vec![POISON, POISON + 1];
        while !stopped.load(Ordering::Relaxed) {
            match inbox.take() {
                Some(order) if !answers => unanswered.push(order),
                Some(Command::Pause(new, answer)) => {
                    told.push(format!("pause {} {}", new.reason, new.until.since(new.since).as_secs()));
                    answer.send(pause.replace(new)).unwrap();
                }
                Some(Command::Resume(_, answer)) => {
                    told.push("resume".to_owned());
                    answer.send(pause.take()).unwrap();
                }
                Some(Command::Kill(order, answer)) => {
                    told.push(format!("kill {}", order.why));
                    let target = TargetIdentity { pid: 10, start_time: 20, incarnation: 30 };
                    let sent = KillAnswer::Sent { signal: "SIGKILL", target };
                    let already = KillAnswer::Already(target);
                    answer.send(if std::mem::replace(&mut killed, true) { already } else { sent }).unwrap();
                }
                Some(Command::Clear(key, answer)) => {
                    told.push(format!("clear {key:?}"));
                    let keys: Vec<u64> =
                        poison.extract_if(.., |known| key.is_none_or(|key| key == *known)).collect();
                    let kills_without_progress = if key.is_none() { 3 } else { 0 };
                    answer.send(Cleared { keys, kills_without_progress }).unwrap();
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        told
    });
    Running { surface, _events: events, folder, stop, told: Some(told) }
}

impl Running {
    fn listen(&self) -> Endpoint {
        format!("http://{}", self.surface.addresses().listen.unwrap()).parse().unwrap()
    }

    fn public(&self) -> Endpoint {
        format!("http://{}", self.surface.addresses().public.unwrap()).parse().unwrap()
    }

    fn socket(&self) -> Endpoint {
        Endpoint::Unix(self.folder.path().join("w.sock"))
    }

    #[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
    fn told(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.told.take().unwrap().join().unwrap()
    }
}

fn post(to: &Endpoint, path: &str, body: &str, token: Option<&str>) -> (u16, Value) {
    let answer = client::post(to, path, body, token, LONG).unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[test]
fn the_socket_takes_orders_and_says_what_came_of_them() {
    let running = running(false, true);
    let socket = running.socket();
    let (code, said) = post(&socket, "/api/v1/pause", PAUSE, None);
    assert_eq!(code, 200, "{said}");
    assert!(
        said["paused_until"].is_string() && said["message"].as_str().unwrap().contains("watching continues")
    );
    let (code, said) = post(&socket, "/api/v1/pause", PAUSE, None);
    assert!(code == 200 && said["message"].as_str().unwrap().contains("replaces an earlier pause"), "{said}");
    assert_eq!(post(&socket, "/api/v1/resume", "", None).1["was_paused"], true);
    assert_eq!(post(&socket, "/api/v1/resume", "{}", None).1["was_paused"], false);
    let kill = r#"{"reason": "wrong answers"}"#;
    assert_eq!(post(&socket, "/api/v1/kill", kill, None).1["already"], false);
    let (code, said) = post(&socket, "/api/v1/kill", kill, None);
    assert!(code == 200 && said["already"] == true, "{said}");
    let uid = rustix::process::geteuid().as_raw();
    let kill = format!("kill uid {uid} asked for the kill: wrong answers");
    let pause = "pause ticket 4711 600";
    assert_eq!(running.told(), [pause, pause, "resume", "resume", &kill, &kill]);
}

#[test]
fn what_is_cleared_is_the_work_that_was_named_or_all_of_it() {
    let running = running(true, true);
    let clear = |body: &str| post(&running.socket(), "/api/v1/clear", body, None);
    let (code, said) = clear(r#"{"key": 19000000}"#);
    assert_eq!((code, &said["cleared"]), (200, &serde_json::json!([POISON])), "{said}");
    assert!(said["message"].as_str().unwrap().contains("work 19000000 may lead to a kill again"), "{said}");
    let (code, said) = clear(r#"{"key": 19000000}"#);
    assert_eq!((code, &said["cleared"]), (200, &serde_json::json!([])), "{said}");
    assert!(said["message"].as_str().unwrap().contains("was not in a crash loop"), "{said}");
    // Without a key all work is cleared, and the token is as good as the socket.
    let (code, said) = post(&running.listen(), "/api/v1/clear", "", Some(TOKEN));
    assert_eq!((code, &said["cleared"]), (200, &serde_json::json!([POISON + 1])), "{said}");
    let (code, said) = clear("{}");
    assert!(code == 200 && said["message"].as_str().unwrap().contains("no work was in"), "{said}");
    for bad in [r#"{"key": 0}"#, r#"{"key": -1}"#, r#"{"key": "7"}"#, r#"{"kye": 7}"#, "7", "x"] {
        let (code, said) = clear(bad);
        assert!(code == 400 && said["error"].is_string(), "{bad}: {code} {said}");
    }
    let one = format!("clear Some({POISON})");
    assert_eq!(running.told(), [one.as_str(), &one, "clear None", "clear None"]);
}

#[test]
fn an_address_takes_orders_with_the_token_and_from_nobody_else() {
    let closed = running(false, true);
    for path in ["/api/v1/pause", "/api/v1/resume", "/api/v1/kill", "/api/v1/clear"] {
        let (code, said) = post(&closed.listen(), path, PAUSE, Some(TOKEN));
        assert_eq!(code, 403, "{said}");
        assert!(said["error"].as_str().unwrap().contains("--socket PATH"), "the next step: {said}");
        assert_eq!(post(&closed.public(), path, PAUSE, Some(TOKEN)).0, 403);
    }
    assert!(closed.told().is_empty());
    let open = running(true, true);
    for wrong in [None, Some("c2hhcmQtd2F0Y2hkb2cX")] {
        let (code, said) = post(&open.listen(), "/api/v1/pause", PAUSE, wrong);
        assert!(code == 403 && said["error"].as_str().unwrap().contains("--token-file"), "{said}");
    }
    assert_eq!(post(&open.public(), "/api/v1/pause", PAUSE, Some(TOKEN)).0, 403);
    assert_eq!(post(&open.listen(), "/api/v1/pause", PAUSE, Some(TOKEN)).0, 200);
    assert_eq!(open.told().len(), 1);
}

#[test]
fn what_is_no_order_is_refused_with_its_form() {
    let running = running(false, true);
    let long = format!(r#"{{"for": "1m", "reason": "{}"}}"#, "x".repeat(501));
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"for": "10m"}"#,
        r#"{"for": "10m", "reason": " "}"#,
        r#"{"for": "0s", "reason": "x"}"#,
        r#"{"for": "25h", "reason": "x"}"#,
        r#"{"for": 600, "reason": "x"}"#,
        r#"{"for": "10m", "reason": "a\u001b[2J"}"#,
        r#"{"for": "10m", "reason": "x", "forever": true}"#,
        &long,
    ] {
        let (code, said) = post(&running.socket(), "/api/v1/pause", bad, None);
        assert!(code == 400 && said["error"].is_string(), "{bad}: {code} {said}");
    }
    assert_eq!(post(&running.socket(), "/api/v1/resume", "x", None).0, 400);
    assert_eq!(post(&running.socket(), "/api/v1/kill", "{}", None).0, 400);
    assert_eq!(post(&running.socket(), "/api/v1/kill", &"x".repeat(9000), None).0, 413);
    let asked = client::get(&running.socket(), "/api/v1/kill", LONG).unwrap();
    assert_eq!(asked.status.as_u16(), 405, "a link that somebody follows kills nobody");
    assert!(running.told().is_empty());
}

#[test]
fn a_loop_that_does_not_answer_costs_a_bounded_time() {
    let running = running(false, false);
    let began = Instant::now();
    let (code, said) = post(&running.socket(), "/api/v1/kill", r#"{"reason": "x"}"#, None);
    assert!(code == 503 && said["error"].as_str().unwrap().contains("check the status"), "{said}");
    assert!(began.elapsed() < LONG);
}
