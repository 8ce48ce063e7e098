//! What a sidecar does about a target that is missing, or is not what it seems: it reports that,
//! and nothing hangs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::process::Command;

use shard_tests::cluster::{Cluster, Plan};
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::wait;

fn run(sidecar: &Sidecar) -> Process {
    let mut command = Command::new(binary("shard-watchdog"));
    command.arg("run").arg("--config").arg(&sidecar.config);
    Process::start("sidecar", command)
}

#[track_caller]
fn unguarded(sidecar: &Sidecar, because: &str) {
    wait::until(&format!("'{because}' in {:?}", sidecar.status()), || {
        let status = sidecar.status()?;
        let why = status["reason"].as_str()?.contains(because);
        (status["verdict"] == "unguarded" && why).then_some(())
    });
}

#[test]
fn a_segment_that_is_absent_short_or_random_leaves_the_target_unguarded_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "s", "exec-s0", &Settings::default());
    let _running = run(&sidecar);
    unguarded(&sidecar, "no heartbeat segment");
    std::fs::write(&sidecar.heartbeat, b"SHRD").unwrap();
    unguarded(&sidecar, "truncated");
    let random: Vec<u8> = (0..8192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&sidecar.heartbeat, random).unwrap();
    unguarded(&sidecar, "not a heartbeat segment");
    std::fs::remove_file(&sidecar.heartbeat).unwrap();
    std::fs::create_dir(&sidecar.heartbeat).unwrap();
    unguarded(&sidecar, "not a regular file");
}

#[test]
fn a_second_sidecar_on_one_segment_is_refused() {
    let cluster = Cluster::start(&Plan { shards: 1, coordinator: false, ..Plan::default() });
    let first = &cluster.shards[0].sidecar;
    let second = Sidecar::configure(cluster.folder(), "second", "exec-s0", &Settings::default());
    let text = std::fs::read_to_string(&second.config).unwrap();
    let pointed =
        text.replace("second.heartbeat", "0.heartbeat").replace("shard = \"second\"", "shard = \"0\"");
    std::fs::write(&second.config, pointed).unwrap();
    let _running = run(&second);
    unguarded(&second, "another watchdog");
    first.wait_for("healthy");
}

#[test]
fn a_sidecar_whose_config_names_another_shard_refuses_the_segment() {
    let cluster = Cluster::start(&Plan { shards: 1, coordinator: false, ..Plan::default() });
    let first = &cluster.shards[0].sidecar;
    let second = Sidecar::configure(cluster.folder(), "1", "exec-s0", &Settings::default());
    let text = std::fs::read_to_string(&second.config).unwrap();
    std::fs::write(&second.config, text.replace("1.heartbeat", "0.heartbeat")).unwrap();
    let _running = run(&second);
    unguarded(&second, "that of shard \"0\", and [target] shard is \"1\"");
    first.wait_for("healthy");
}

/// A process that takes the port first must not be able to leave the shard unguarded.
#[test]
fn a_port_in_use_costs_the_port_and_not_the_watch() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("w.sock");
    let settings = Settings { append: format!("socket = {socket:?}"), ..Settings::default() };
    let sidecar = Sidecar::configure(folder.path(), "s", "exec-s0", &settings);
    let taken = std::net::TcpListener::bind(sidecar.http).unwrap();
    let running = run(&sidecar);
    let told = running.line("why it does not listen", 0, |line| {
        (line.contains("not_listening") && line.contains("http.listen")).then(|| line.to_owned())
    });
    assert!(told.contains("in use") && told.contains(&sidecar.http.to_string()), "{told}");
    // The sidecar still answers over the socket, and reports there what it lacks.
    let mut ask = Command::new(binary("shard-watchdog"));
    ask.args(["status", "--url"]).arg(format!("unix:{}", socket.display()));
    let asked = Process::start("status", ask);
    asked.line("the listener that is not there", 0, |line| {
        (line.contains("not on listen") && line.contains("in use")).then_some(())
    });
    drop(taken);
    running.line("that it listens now", 0, |line| line.contains("\"listening\"").then_some(()));
    unguarded(&sidecar, "no heartbeat segment");
}

#[test]
fn a_bad_config_ends_the_sidecar_with_its_line_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "s", "exec-s0", &Settings::default());
    std::fs::write(&sidecar.config, "[target]\nshard = \"0\"\nheartbeet = \"/h\"\n").unwrap();
    let mut running = run(&sidecar);
    assert_eq!(running.wait("the end of the sidecar").code(), Some(2));
    running.line("the line", 0, |line| line.contains(":3: target.heartbeet").then_some(()));
}

/// Killed in the middle of its life, the sidecar is restarted and watches the same process again.
#[test]
fn a_killed_sidecar_comes_back_and_adopts_the_running_target() {
    let cluster = Cluster::start(&Plan { shards: 1, ..Plan::default() });
    let shard = &cluster.shards[0];
    let pid = shard.sidecar.wait_for("healthy")["pid"].clone();
    let from = shard.supervisor.line_count();
    let watchdog = shard.supervisor.line("the sidecar's pid", 0, |line| {
        line.strip_prefix("supervise: sidecar pid ")?.split(' ').next()?.parse::<i32>().ok()
    });
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(watchdog).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    shard
        .supervisor
        .line("the next sidecar", from, |line| line.contains("supervise: sidecar pid").then_some(()));
    shard.supervisor.line("the adoption", from, |line| line.contains("\"event\":\"adopted\"").then_some(()));
    assert_eq!(shard.sidecar.wait_for("healthy")["pid"], pid, "the target was left alone");
    assert!(shard.sidecar.incidents().is_empty());
}
