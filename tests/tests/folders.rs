//! A root sidecar beside a target of another user: a folder that this user may write is unfit for
//! evidence, and the watch goes on without evidence.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, skip, wait};

const THEIRS: u32 = 61_001;

/// Only root can start a target of another user.
fn is_root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip::note(name, "needs root, to start a target of another user");
    }
    root
}

fn sidecar(command: &str, sidecar: &Sidecar) -> Process {
    let mut run = Command::new(binary("shard-watchdog"));
    run.arg(command).arg("--config").arg(&sidecar.config);
    Process::start(command, run)
}

/// A shard of another user, whose segment is in a folder of its own.
fn target(sidecar: &Sidecar) -> Process {
    let mut command = Command::new(binary("shard-executor"));
    command.args(["shard", "--id", "0", "--listen", &api::free_address().to_string()]);
    command.arg("--heartbeat").arg(&sidecar.heartbeat).uid(THEIRS).gid(THEIRS);
    Process::start("target", command)
}

/// A config with the segment in a folder of the target's and the evidence below `evidence`.
fn configure(folder: &Path, evidence: &Path) -> Sidecar {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let run = folder.join("run");
    fs::create_dir(&run).unwrap();
    chown(&run, Some(THEIRS), Some(THEIRS)).unwrap();
    let mut sidecar = Sidecar::configure(folder, "0", "exec-s0", &Settings::default());
    let text = fs::read_to_string(&sidecar.config).unwrap();
    let heartbeat = run.join("0.heartbeat");
    let text = text
        .replace(&format!("{:?}", sidecar.heartbeat), &format!("{heartbeat:?}"))
        .replace(&format!("{:?}", sidecar.evidence), &format!("{evidence:?}"));
    fs::write(&sidecar.config, text).unwrap();
    (sidecar.heartbeat, sidecar.evidence) = (heartbeat, evidence.to_owned());
    sidecar
}

#[test]
fn evidence_where_the_target_may_write_is_refused_when_it_is_adopted_and_the_watch_goes_on() {
    if !is_root("evidence_where_the_target_may_write") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let configured = configure(folder.path(), &open.join("evidence"));
    // Nothing is known of the target yet.
    let running = sidecar("run", &configured);
    wait::until("an answer", || configured.status());
    let _target = target(&configured);
    let status = configured.wait_for("healthy");
    assert!(status["pid"].is_i64());
    let trouble =
        wait::until("the refusal", || configured.status()?["evidence_trouble"].as_str().map(str::to_owned));
    assert!(trouble.contains("the target (uid 61001) may write"), "{trouble}");
    running.line("the same in the log", 0, |line| {
        (line.contains("incidents cannot be written") && line.contains("uid 61001")).then_some(())
    });
    assert!(!configured.evidence.exists());
    configured.wait_for("healthy");

    let mut check = sidecar("check", &configured);
    assert_eq!(check.wait("the check").code(), Some(2));
    check.line("the key", 0, |line| {
        (line.contains("evidence.directory: ") && line.contains("uid 61001")).then_some(())
    });
}

#[test]
fn evidence_in_a_folder_of_roots_is_written_whoever_the_target_is() {
    if !is_root("evidence_in_a_folder_of_roots") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let configured = configure(folder.path(), &folder.path().join("evidence"));
    let _running = sidecar("run", &configured);
    let target = target(&configured);
    configured.wait_for("healthy");
    target.signal(rustix::process::Signal::KILL);
    wait::until("an incident", || configured.incidents().into_iter().next());
    assert!(configured.status().unwrap()["evidence_trouble"].is_null());
    let mut check = sidecar("check", &configured);
    assert_eq!(check.wait("the check").code(), Some(0));
}

#[test]
fn a_socket_where_the_target_may_write_is_given_up_when_it_is_adopted_and_had_again_when_mended() {
    if !is_root("a_socket_where_the_target_may_write") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let socket = open.join("w.sock");
    let configured = configure(folder.path(), &folder.path().join("evidence"));
    let text = fs::read_to_string(&configured.config).unwrap();
    fs::write(&configured.config, text.replace("[http]\n", &format!("[http]\nsocket = {socket:?}\n")))
        .unwrap();
    let running = sidecar("run", &configured);
    wait::until("the socket of a sidecar that knows no target yet", || socket.exists().then_some(()));
    let _target = target(&configured);
    configured.wait_for("healthy");
    let listener = |status: &serde_json::Value| {
        let listeners = status["listeners"].as_array().unwrap();
        listeners.iter().find(|one| one["name"] == "socket").cloned().unwrap()
    };
    let told = wait::until("the refusal", || {
        let listener = listener(&configured.status()?);
        (listener["listening"] == false).then_some(listener)
    });
    let why = told["trouble"].as_str().unwrap();
    assert!(why.contains("the target (uid 61001) may write"), "{why}");
    running.line("the same in the log", 0, |line| {
        (line.contains("not_listening") && line.contains("uid 61001")).then_some(())
    });
    assert!(!socket.exists(), "nobody is led to a socket that the target could replace");
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    wait::until("the socket again", || (listener(&configured.status()?)["listening"] == true).then_some(()));
    assert!(socket.exists());
    configured.wait_for("healthy");
}
