//! A shard that does not start, under a supervisor that retries with growing delays.

use std::process::Command;

use rustix::process::Signal;

use crate::clock::monotonic_ns;
use crate::process::{Process, binary};
use crate::sidecar::{Settings, Sidecar};
use crate::sweep;

/// The result of the attempts.
#[derive(Clone, Debug)]
pub struct Unstarted {
    /// The message in which the shard says why.
    pub said: String,
    /// The supervisor's backoff after each of three ends, in milliseconds.
    pub waits: Vec<u64>,
    /// When the first attempt began, `CLOCK_MONOTONIC` nanoseconds.
    pub began: u64,
    /// When the third one had ended, `CLOCK_MONOTONIC` nanoseconds.
    pub ended: u64,
}

/// Starts a shard with these arguments under a supervisor and a sidecar, and waits until it has
/// ended three times. Asserts that each start failed with this code and a message that contains
/// `says`, that each wait was longer than the previous one, and that nothing was killed.
#[track_caller]
pub fn does_not_start(case: &str, code: i32, says: &str, arguments: &[&str]) -> Unstarted {
    sweep::adopt_orphans();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mark = format!("start-{}-{case}", std::process::id());
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &Settings::default());
    let mut command = Command::new(binary("shard-watchdog"));
    command
        .args(["supervise", "--config"])
        .arg(&sidecar.config)
        .arg("--")
        .arg(binary("shard-executor"))
        .args(["shard", "--id", "0", "--heartbeat"])
        .arg(&sidecar.heartbeat)
        .args(arguments)
        .env(sweep::MARK, &mark);
    let began = monotonic_ns();
    let mut supervisor = Process::start("supervisor", command);
    let said = supervisor.line("why", 0, |line| line.contains(says).then(|| line.to_owned()));
    let mut waits = Vec::new();
    supervisor.line("three ends", 0, |line| {
        let end = line.strip_prefix("supervise: CMD pid ")?.split_once(" ended (")?.1;
        assert!(end.starts_with(&format!("exit code {code})")), "{line}");
        let wait = end.split_once("restarting in ")?.1.split(' ').next()?;
        waits.push(wait.parse::<u64>().expect("milliseconds"));
        (waits.len() == 3).then_some(())
    });
    let ended = monotonic_ns();
    assert!(waits.is_sorted_by(|wait, next| wait < next), "it waits longer each time: {waits:?}");
    for incident in sidecar.told_incidents() {
        assert!(!incident["timeline"].to_string().contains("\"signal\""), "nobody was killed: {incident:#}");
    }
    supervisor.signal(Signal::TERM);
    supervisor.wait("the supervisor's end");
    drop(supervisor);
    sweep::sweep(&mark);
    Unstarted { said, waits, began, ended }
}
