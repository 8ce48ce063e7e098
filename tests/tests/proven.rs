//! Who may be signalled. A target that got other user ids, or dropped its segment, is let go
//! unharmed, with the reason reported; one whose main thread has ended, or that is stopped, is
//! still killed. A segment in a place where anybody could have put it is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shard_tests::process::{Process, binary};
use shard_tests::puppet::{Stage, THREAD, order};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, skip, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);

fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "it takes root to become somebody else");
        skip::note(test, "it takes root to become somebody else");
    }
    root
}

fn steps(incident: &Value, step: &str) -> Vec<String> {
    let entries = incident["timeline"].as_array().unwrap().iter();
    let entries = entries.filter(|entry| entry["step"] == step);
    entries.map(|entry| entry["detail"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Nothing is watched, the process lives, and no signal was sent.
#[track_caller]
fn let_go(stage: &Stage, pid: i32) {
    let status = stage.sidecar.wait_for("unguarded");
    assert!(status["pid"].is_null(), "{status:#}");
    wait::holds_for(A_WHILE, "nobody is signalled", || {
        Path::new(&format!("/proc/{pid}")).exists()
            && stage.sidecar.incidents().iter().all(|incident| steps(incident, "signal").is_empty())
    });
}

#[track_caller]
fn with_uids(test: &str, uids: &str, says: &str) {
    if !root(test) {
        return;
    }
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    stage.order(&format!("uids {uids}"));
    stage.order_unanswered("lose");
    let incident = wait::until("the kill that was withheld", || {
        stage.sidecar.incidents().into_iter().find(|incident| !steps(incident, "withheld").is_empty())
    });
    let told = steps(&incident, "withheld").remove(0);
    assert!(told.starts_with("not_target: process") && told.contains(says), "{told}");
    let_go(&stage, pid);
}

#[test]
fn a_target_whose_saved_user_is_another_is_not_signalled() {
    let test = "a_target_whose_saved_user_is_another_is_not_signalled";
    with_uids(test, "0 0 61001", "0 (real), 0 (effective) and 61001 (saved)");
}

#[test]
fn a_target_whose_effective_user_is_another_is_not_signalled() {
    let test = "a_target_whose_effective_user_is_another_is_not_signalled";
    with_uids(test, "0 61001 0", "0 (real), 61001 (effective) and 0 (saved)");
}

#[test]
fn a_target_that_has_dropped_its_segment_is_let_go_and_never_signalled() {
    let stage = Stage::start(&Settings::default());
    let pid = stage.sidecar.pid();
    stage.order("unmap");
    let_go(&stage, pid);
    // Whatever is written into the file now is no reason to kill: the thread that it names is lost.
    stage.order("lose");
    let_go(&stage, pid);
}

/// A target and a sidecar, started separately, in a folder that the test may change first.
struct Pair {
    sidecar: Sidecar,
    folder: tempfile::TempDir,
    running: Vec<Process>,
}

impl Pair {
    fn start(user: Option<&str>, change: impl FnOnce(&Sidecar)) -> Self {
        Self::start_as(None, user, change)
    }

    /// The same with both as that user, in a root-owned folder that everybody may write, like a
    /// volume of a pod.
    fn start_as(uid: Option<u32>, user: Option<&str>, change: impl FnOnce(&Sidecar)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::configure(folder.path(), "puppet", THREAD, &Settings::default());
        if let Some(user) = user {
            let text = std::fs::read_to_string(&sidecar.config).unwrap();
            std::fs::write(
                &sidecar.config,
                text.replacen("[target]\n", &format!("[target]\nuser = {user}\n"), 1),
            )
            .unwrap();
        }
        let port = api::free_address();
        if uid.is_some() {
            mode(folder.path(), 0o777);
        }
        let as_user = |mut command: Command| {
            if let Some(uid) = uid {
                command.uid(uid).gid(uid);
            }
            command
        };
        let mut target = as_user(Command::new(binary("puppet")));
        target.arg("target").arg(&sidecar.heartbeat).arg(port.to_string());
        let target = Process::start("target", target);
        order(port, "rename exec-s0");
        change(&sidecar);
        let mut watchdog = as_user(Command::new(binary("shard-watchdog")));
        watchdog.arg("run").arg("--config").arg(&sidecar.config);
        let watchdog = Process::start("sidecar", watchdog);
        Self { sidecar, folder, running: vec![target, watchdog] }
    }

    #[track_caller]
    fn refused(mut self, says: &str) {
        wait::until(&format!("a refusal that says {says:?}, not {:?}", self.sidecar.status()), || {
            let status = self.sidecar.status()?;
            (status["verdict"] == "unguarded" && status["reason"].as_str()?.contains(says)).then_some(())
        });
        assert!(self.running[0].is_running() && self.folder.path().exists());
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_segment_that_a_group_may_write_is_refused() {
    Pair::start(None, |sidecar| mode(&sidecar.heartbeat, 0o660)).refused("has mode 0660");
}

#[test]
fn a_folder_that_others_may_write_is_refused_and_a_sticky_one_is_not() {
    Pair::start(None, |sidecar| mode(sidecar.heartbeat.parent().unwrap(), 0o777)).refused("has mode 0777");
    let sticky = Pair::start(None, |sidecar| mode(sidecar.heartbeat.parent().unwrap(), 0o1777));
    sticky.sidecar.wait_for("healthy");
}

#[test]
fn a_sidecar_of_the_targets_own_user_watches_in_a_volume_that_everybody_may_write() {
    let test = "a_sidecar_of_the_targets_own_user_watches_in_a_volume_that_everybody_may_write";
    if root(test) {
        Pair::start_as(Some(61_001), None, |_| {}).sidecar.wait_for("healthy");
    }
}

#[test]
fn lock_files_of_a_stranger_keep_no_sidecar_away() {
    let test = "lock_files_of_a_stranger_keep_no_sidecar_away";
    if !root(test) {
        return;
    }
    let plant = |sidecar: &Sidecar| {
        mode(sidecar.heartbeat.parent().unwrap(), 0o1777);
        let lock = |suffix: &str| {
            let mut path = sidecar.heartbeat.clone().into_os_string();
            path.push(suffix);
            path
        };
        std::fs::write(lock(".watchdog.lock"), "").unwrap();
        for suffix in [".watchdog.lock", ".lock"] {
            std::os::unix::fs::chown(lock(suffix), Some(61_002), Some(61_002)).unwrap();
        }
    };
    let pair = Pair::start(None, plant);
    pair.sidecar.wait_for("healthy");
    pair.running[1].line("who made that file", 0, |line| {
        (line.contains("no_place") && line.contains("61002")).then_some(())
    });
}

#[test]
fn a_segment_with_two_names_is_refused() {
    let link = |sidecar: &Sidecar| {
        std::fs::hard_link(&sidecar.heartbeat, sidecar.heartbeat.with_extension("second")).unwrap();
    };
    Pair::start(None, link).refused("has 2 names");
}

#[test]
fn a_symbolic_link_in_the_place_of_a_segment_is_refused() {
    let link = |sidecar: &Sidecar| {
        let moved = sidecar.heartbeat.with_extension("moved");
        std::fs::rename(&sidecar.heartbeat, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &sidecar.heartbeat).unwrap();
    };
    Pair::start(None, link).refused("not a regular file");
}

#[test]
fn a_segment_that_was_moved_into_the_place_of_another_writer_is_refused() {
    let moved = |sidecar: &Sidecar| {
        let place = sidecar.heartbeat.with_extension("place");
        std::fs::rename(&sidecar.heartbeat, &place).unwrap();
        let lock = |path: &Path| std::path::PathBuf::from(format!("{}.lock", path.display()));
        std::fs::write(lock(&place), "").unwrap();
        let text = std::fs::read_to_string(&sidecar.config).unwrap();
        let (from, to) = (sidecar.heartbeat.display().to_string(), place.display().to_string());
        std::fs::write(&sidecar.config, text.replace(&from, &to)).unwrap();
    };
    Pair::start(None, moved).refused("was moved here from another place");
}

#[test]
fn the_configured_user_must_be_the_owner() {
    let own = rustix::process::geteuid().as_raw();
    Pair::start(Some(&own.to_string()), |_| ()).sidecar.wait_for("healthy");
    Pair::start(Some("61001"), |_| ()).refused("[target] user is 61001");
}
