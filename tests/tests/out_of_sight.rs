//! Rows 30, 64 and 65: targets that are hard to observe. Names that are not text, and separate boot
//! ids, pid and time namespaces, hide nothing. Where something is hidden all the same, that is
//! reported with its reason, and nothing is called healthy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use shard_tests::pair::{Pair, blind_for, odd_executable, under_boot_id, unshare};
use shard_tests::process::binary;
use shard_tests::puppet::{Nursery, order};
use shard_tests::{api, skip, wait};

/// Long enough for many observations, and for several thresholds.
const A_WHILE: Duration = Duration::from_secs(2);
/// "исполнитель", as much as fits into 15 bytes: the last character is cut.
const CUT: &str = "d0b8d181d0bfd0bed0bbd0bdd0b8d1";

/// Notes that this machine cannot run the test; CI can.
fn skipped(test: &str, why: &str) {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
    skip::note(test, why);
}

/// Whether namespaces of these kinds can be made here.
fn can_unshare(test: &str, kinds: &[&str]) -> bool {
    let tried = Command::new("unshare").args(kinds).arg("true").output().expect("every Debian has unshare");
    if !tried.status.success() {
        skipped(test, String::from_utf8_lossy(&tried.stderr).trim());
    }
    tried.status.success()
}

fn run(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

#[test]
fn row_64_an_executable_whose_name_is_cut_inside_a_character_is_watched() {
    let mut pair = Pair::configure();
    let program = odd_executable(pair.folder.path());
    pair.start_target(run(program));
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.watched();
}

/// Seen from another pid namespace, each thread is found by the `status` of all of them.
#[test]
fn row_64_names_that_are_no_text_hide_no_thread_of_another_pid_namespace() {
    let test = "row_64_names_that_are_no_text_hide_no_thread_of_another_pid_namespace";
    let nursery = match Nursery::open() {
        Ok(nursery) => nursery,
        Err(why) => return skipped(test, &why),
    };
    let mut pair = Pair::configure();
    let program = odd_executable(pair.folder.path());
    let words = pair.target();
    nursery.start(&program, &words.each_ref().map(String::as_str));
    order(pair.port, &format!("rename-bytes {CUT}"));
    order(pair.port, "double-bytes fffe0a5c293a");
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.watched();
}

#[test]
fn row_65_a_container_with_a_boot_id_of_its_own_is_watched() {
    if !can_unshare("row_65_a_container_with_a_boot_id_of_its_own_is_watched", &["--mount"]) {
        return;
    }
    let mut pair = Pair::configure();
    let id = pair.folder.path().join("boot_id");
    std::fs::write(&id, "0f0e0d0c-0b0a-4908-8706-050403020100\n").unwrap();
    pair.start_target(under_boot_id(&id));
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.watched();
}

#[test]
fn row_65_a_target_in_a_time_namespace_is_watched() {
    let kinds = ["--time", "--boottime", "100000", "--fork", "--kill-child"];
    if !can_unshare("row_65_a_target_in_a_time_namespace_is_watched", &kinds) {
        return;
    }
    let mut pair = Pair::configure();
    pair.start_target(unshare(&kinds, binary("puppet")));
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.watched();
}

#[test]
fn row_65_a_target_in_a_user_namespace_is_watched() {
    let kinds = ["--user", "--map-root-user"];
    if !can_unshare("row_65_a_target_in_a_user_namespace_is_watched", &kinds) {
        return;
    }
    let mut pair = Pair::configure();
    pair.start_target(unshare(&kinds, binary("puppet")));
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.watched();
}

#[test]
fn row_65_two_containers_that_do_not_share_their_processes_are_told_how_to() {
    let kinds = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !can_unshare("row_65_two_containers_that_do_not_share_their_processes_are_told_how_to", &kinds) {
        return;
    }
    let mut pair = Pair::configure();
    pair.start_target(unshare(&kinds, binary("puppet")));
    pair.start_sidecar(unshare(&kinds, binary("shard-watchdog")));
    pair.refused("shareProcessNamespace: true");
    pair.refused("the sidecar itself or one of its ancestors, and that does not map the file");
}

/// The kernel hides the mappings of a process from a process that may not trace it. Each reason has
/// a next step of its own.
#[test]
fn row_65_who_is_not_dumpable_is_told_from_who_has_another_user() {
    let test = "row_65_who_is_not_dumpable_is_told_from_who_has_another_user";
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "it takes root to become somebody else");
    }
    let nobody = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary(program));
        command
    };
    let mut pair = Pair::configure();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(pair.folder.path(), open).unwrap();
    pair.start_target(nobody("puppet"));
    order(pair.port, "hide");
    pair.start_sidecar(nobody("shard-watchdog"));
    let refusal = pair.refused("PR_SET_DUMPABLE");
    assert!(refusal["reason"].as_str().unwrap().contains("CAP_SYS_PTRACE"), "{refusal:#}");
    // Root can still see it.
    pair.running.pop();
    pair.start_sidecar(run(binary("shard-watchdog")));
    pair.sidecar.wait_for("healthy");
}

/// The files of the one watched thread are hidden from the sidecar, so that nothing shows whether
/// it lives or works.
#[test]
fn row_30_a_thread_that_cannot_be_observed_is_degraded_and_never_healthy() {
    let test = "row_30_a_thread_that_cannot_be_observed_is_degraded_and_never_healthy";
    if !can_unshare(test, &["--mount"]) {
        return;
    }
    let mut pair = Pair::configure();
    pair.start_target(run(binary("puppet")));
    let tid = order(pair.port, "rename exec-s0").number("tid");
    let pid = pair.running[0].pid();
    let garbage = pair.folder.path().join("garbage");
    std::fs::write(&garbage, "no file of the kernel\n").unwrap();
    pair.start_sidecar(blind_for(pid, tid, &garbage));
    let unseen = wait::until("that it is out of sight", || {
        pair.sidecar.status().filter(|status| status["threads"][0]["unobserved"] == "unreadable")
    });
    assert_eq!(unseen["verdict"], "degraded", "{unseen:#}");
    assert!(unseen["reason"].as_str().unwrap().contains("out of sight"), "{unseen:#}");
    order(pair.port, "hang");
    wait::holds_for(A_WHILE, "degraded, and nobody is killed blindly", || {
        pair.sidecar.status().is_none_or(|status| status["verdict"] == "degraded")
    });
    assert!(pair.sidecar.incidents().is_empty(), "{:#?}", pair.sidecar.incidents());
    let page = api::get(pair.sidecar.http, "/metrics").expect("metrics").body;
    let count = page.lines().find(|line| {
        line.starts_with("shard_watchdog_unobserved_threads{") && line.contains("\"unreadable\"")
    });
    assert!(count.is_some_and(|line| line.ends_with(" 1")), "{count:?}");
}
