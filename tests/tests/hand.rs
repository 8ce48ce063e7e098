//! A person's control over the watchdog, with real binaries: pause, resume, kill, and who may give
//! these orders.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use shard_tests::cluster::{Cluster, Plan, Shard};
use shard_tests::incident::step_at;
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, wait};

/// One shard whose sidecar has a socket in `folder`, with further lines for `[http]`.
fn cluster(folder: &Path, mode: &str, http: &str) -> Cluster {
    let append = format!("socket = {:?}\n{http}", socket(folder));
    let settings = Settings { mode: mode.to_owned(), append, ..Settings::default() };
    // Long enough for its coordinator to wait for a shard that is not killed for a while.
    Cluster::start(&Plan { shards: 1, settings, block_deadline: "120s".to_owned(), ..Plan::default() })
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("w.sock")
}

/// Gives an order as a person would. Returns the exit code and all output.
fn order(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary("shard-watchdog"));
    let output = command.args(arguments).arg("--socket").arg(socket(folder)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, said) = order(folder, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

/// The series of `name` with this label.
fn metric(shard: &Shard, name: &str, label: &str) -> Option<f64> {
    let page = api::get(shard.sidecar.http, "/metrics")?.body;
    let found = page.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(label))
    })?;
    found.rsplit(' ').next()?.parse().ok()
}

/// Waits until a kill is due and the pause withholds it, with this pid alive.
#[track_caller]
fn wait_for_withheld(shard: &Shard) -> Value {
    wait::until("a kill that the pause holds back", || {
        let status = shard.sidecar.status()?;
        let paused = status["no_kill"].as_array()?.iter().any(|brake| brake["because"] == "paused");
        let counted = metric(shard, "shard_watchdog_kills_withheld_total", "reason=\"paused\"")?;
        (status["verdict"] == "condemned" && paused && counted >= 1.0).then_some(status)
    })
}

fn withheld_by_pause(incident: &Value) -> bool {
    let steps = incident["timeline"].as_array().unwrap();
    steps.iter().any(|step| step["step"] == "withheld" && step["detail"] == "paused")
}

#[test]
fn a_stalled_shard_is_not_killed_in_a_pause_and_is_when_somebody_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(folder.path(), "enforce", "");
    let shard = &cluster.shards[0];
    let said = done(folder.path(), &["pause", "--for", "10m", "--reason", "ticket 4711"]);
    assert!(said.contains("killing is paused until") && said.contains("watching continues"), "{said}");
    let fired = cluster.inject(0, &["arm deadlock"]);
    let status = wait_for_withheld(shard);
    assert_eq!(status["pid"], shard.first_pid, "{status:#}");
    assert_eq!((&status["paused_reason"], &status["kills_left"]), (&"ticket 4711".into(), &3.into()));
    assert!(status["paused_until"].is_string() && status["paused_by"].as_str().unwrap().starts_with("uid "));
    assert_eq!(metric(shard, "shard_watchdog_paused", ""), Some(1.0));
    assert!(done(folder.path(), &["resume"]).contains("no longer paused"));
    let incident = shard.sidecar.incident("recovered");
    assert!(withheld_by_pause(&incident) && step_at(&incident, "withheld") < step_at(&incident, "signal"));
    assert_eq!(incident["reason"], "stalled", "{incident:#}");
    cluster.verified_after(fired);
    assert!(done(folder.path(), &["resume"]).contains("was not paused"));
}

#[test]
fn a_pause_outlives_its_sidecar_and_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(folder.path(), "enforce", "");
    let shard = &cluster.shards[0];
    done(folder.path(), &["pause", "--for", "1h", "--reason", "a debugger"]);
    let paused = wait::until("the pause in the status", || {
        shard.sidecar.status().filter(|status| status["paused_until"].is_string())
    });
    let first = sidecar_pid(shard, 0);
    let seen = shard.supervisor.line_count();
    end(first);
    assert_ne!(sidecar_pid(shard, seen), first);
    let again = wait::until("a new sidecar that watches", || {
        shard.sidecar.status().filter(|status| status["pid"] == shard.first_pid)
    });
    assert_eq!(again["paused_reason"], "a debugger", "{again:#}");
    assert_eq!(again["paused_by"], paused["paused_by"], "{again:#}");
    assert!(again["paused_until"].is_string(), "{again:#}");
    cluster.inject(0, &["arm deadlock"]);
    assert_eq!(wait_for_withheld(shard)["pid"], shard.first_pid);
    // It replaces the hour's pause, and nobody ends it.
    done(folder.path(), &["pause", "--for", "1s", "--reason", "a debugger"]);
    let incident = shard.sidecar.incident("recovered");
    assert!(withheld_by_pause(&incident), "{incident:#}");
    shard.supervisor.line("the end of the pause", 0, |line| line.contains("pause_over").then_some(()));
    let status = wait::until("a status without a pause", || {
        shard.sidecar.status().filter(|status| status["paused_until"].is_null())
    });
    assert_eq!(status["mode"], "enforce", "{status:#}");
    assert!(!shard.sidecar.evidence.join("pause.json").exists(), "nothing of it stays");
}

#[test]
fn a_person_kills_by_name_in_observe_mode_and_in_a_pause_once_for_each_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(folder.path(), "observe", "");
    let shard = &cluster.shards[0];
    let before = shard.sidecar.wait_for("healthy");
    let incarnation = before["incarnation"].to_string();
    done(folder.path(), &["pause", "--for", "10m", "--reason", "not against a person"]);
    let kill = ["kill", "--reason", "wrong answers", "--incarnation", &incarnation];
    let said = done(folder.path(), &kill);
    assert!(said.contains(&format!("SIGKILL was sent to process {}", shard.first_pid)), "{said}");
    // The repeated order finds that process dying, no process, or the next incarnation, which was
    // not meant.
    let (code, said) = order(folder.path(), &kill);
    assert!(matches!(code, Some(0 | 1)) && !said.contains("was sent"), "{said}");
    let incident = shard.sidecar.incident("recovered");
    assert_eq!((&incident["reason"], &incident["mode"]), (&"requested".into(), &"observe".into()));
    assert!(incident["why"].as_str().unwrap().contains("asked for the kill: wrong answers"), "{incident:#}");
    let signals =
        incident["timeline"].as_array().unwrap().iter().filter(|step| step["step"] == "signal").count();
    assert_eq!(signals, 1, "{incident:#}");
    let evidence = step_at(&incident, "evidence");
    assert!(evidence.is_some() && evidence <= step_at(&incident, "signal"), "{incident:#}");
    let after = shard.sidecar.wait_for("healthy");
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["kills_left"], 2, "it counts: {after:#}");
    assert_eq!(shard.sidecar.incidents().len(), 1, "and no other was killed");
    let (code, said) = order(folder.path(), &kill);
    assert!(code == Some(1) && said.contains("another incarnation is watched"), "{said}");
    cluster.verified_after(step_at(&incident, "signal").unwrap());
}

#[test]
fn an_address_takes_orders_with_the_token_and_the_public_one_never() {
    const TOKEN: &str = "bm90LXlvdXItdG9rZW4tMQ";
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let public = api::free_address();
    let cluster =
        cluster(folder.path(), "enforce", &format!("public = \"{public}\"\ntoken_file = {token:?}"));
    let shard = &cluster.shards[0];
    let http = shard.sidecar.http;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let kill = r#"{"reason": "somebody on the network"}"#;
    let pause = r#"{"for": "10m", "reason": "ticket"}"#;
    let code = |to, host: &str, path: &str, headers: &str, body: &str| {
        wait::until("an answer", || api::post(to, host, path, headers, body)).code
    };
    assert_eq!(code(http, "localhost", "/api/v1/kill", "", kill), 403);
    let wrong = "Authorization: Bearer bm90LXlvdXItdG9rZW4tMg\r\n";
    assert_eq!(code(http, "localhost", "/api/v1/kill", wrong, kill), 403);
    assert_eq!(
        code(http, "evil.example", "/api/v1/kill", &bearer, kill),
        421,
        "a page with a name of its own"
    );
    assert_eq!(code(public, "localhost", "/api/v1/kill", &bearer, kill), 403);
    assert_eq!(
        code(http, "localhost", "/api/v1/kill", &format!("{bearer}{bearer}"), kill),
        403,
        "who says it twice may have had one of them added on the way"
    );
    assert_eq!(code(http, "localhost", "/api/v1/kill", &format!("{wrong}{bearer}"), kill), 403);
    // A header that some frameworks obey does not turn a request into an order.
    let overridden = format!("{bearer}X-HTTP-Method-Override: POST\r\nX-Original-URL: /api/v1/kill\r\n");
    let read = wait::until("an answer", || {
        let head =
            format!("GET /api/v1/kill HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{overridden}\r\n");
        api::say(http, &head)
    });
    assert_eq!(read.code, 405, "{}", read.body);
    assert!(
        code(http, "localhost", "/api/v1/status", &overridden, kill) >= 400,
        "a body where none belongs, at another path"
    );
    assert_eq!(code(http, "localhost", "/api/v1/pause", &bearer, pause), 200);
    let status = wait::until("the pause in the status", || {
        shard.sidecar.status().filter(|status| status["paused_reason"] == "ticket")
    });
    assert!(status["paused_by"].as_str().unwrap().starts_with("token from 127.0.0.1"), "{status:#}");
    let by_flag = |arguments: &[&str]| {
        let url = format!("http://{http}");
        let mut command = Command::new(binary("shard-watchdog"));
        command.args(arguments).args(["--url", &url]).output().unwrap().status.code()
    };
    assert_eq!(by_flag(&["resume"]), Some(1), "without the token");
    assert_eq!(by_flag(&["resume", "--token-file", token.to_str().unwrap()]), Some(0));
    assert!(shard.sidecar.incidents().is_empty(), "nobody was killed");
    assert_eq!(shard.sidecar.pid(), shard.first_pid);
}

#[test]
fn a_kill_without_a_target_is_refused_and_a_pause_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let append = format!("socket = {:?}\n", socket(folder.path()));
    let settings = Settings { append, ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &settings);
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config);
    let _sidecar = Process::start("sidecar", command);
    sidecar.wait_for("unguarded");
    let (code, said) = order(folder.path(), &["kill", "--reason", "x"]);
    assert!(code == Some(1) && said.contains("no process is watched now"), "{said}");
    done(folder.path(), &["pause", "--for", "1m", "--reason", "x"]);
    done(folder.path(), &["resume"]);
}

fn sidecar_pid(shard: &Shard, from: usize) -> i32 {
    shard.supervisor.line("the sidecar's start", from, |line| {
        let (pid, what) = line.strip_prefix("supervise: sidecar pid ")?.split_once(' ')?;
        pid.parse().ok().filter(|_| what.starts_with("started"))
    })
}

fn end(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
}
