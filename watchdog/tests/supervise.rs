//! What `supervise` promises, against real processes. Nothing here waits for a fixed time: every wait is for something
//! that happens, and ends with a failure after a generous bound.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that panics has failed, which is the point, and one that waits without end is ended by its runner"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

/// A loaded machine with two cores starts a shell within a second; this is for the worst day.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `supervise`, ended whatever happens to the test.
struct Supervise {
    child: Child,
    out: Receiver<String>,
    log: Receiver<String>,
}

impl Supervise {
    fn start(flags: &[&str], script: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shard-watchdog"))
            .arg("supervise")
            .args(flags)
            .args(["--", "/bin/sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        Self { child, out, log }
    }

    fn out(&self) -> String {
        self.out.recv_timeout(PATIENCE).expect("the command says something")
    }

    fn number(&self) -> Pid {
        Pid::from_raw(self.out().parse().unwrap()).unwrap()
    }

    fn log_until(&self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn code(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Supervise {
    fn drop(&mut self) {
        // Its death takes the children along, which is itself one of the promises.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits until a process that is not our child is gone.
fn gone(pid: Pid) -> bool {
    let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&patience)).unwrap() == 1
}

#[test]
fn the_command_has_the_limit_of_open_files_that_it_was_started_with() {
    let config = tempfile::tempdir().unwrap();
    let path = config.path().join("w.toml");
    let segment = config.path().join("none.heartbeat");
    let text = format!(
        "[target]\nshard = \"0\"\nheartbeat = {segment:?}\n[evidence]\ndirectory = {:?}\n[http]\nlisten = \"\"\n",
        config.path().join("evidence")
    );
    std::fs::write(&path, text).unwrap();
    let limits = "ulimit -Sn; ulimit -Hn";
    let own = Command::new("/bin/sh").args(["-c", limits]).output().unwrap();
    // With a sidecar beside it, which lifts its own.
    let supervise = Supervise::start(&["--config", path.to_str().unwrap()], limits);
    let told = [supervise.out(), supervise.out()];
    assert_eq!(told.join("\n"), String::from_utf8(own.stdout).unwrap().trim_end());
    supervise.signal(Signal::TERM);
    supervise.code();
}

#[test]
fn what_is_killed_is_started_again_at_once() {
    let supervise = Supervise::start(&["--settled-after", "0ms"], "echo $$; exec sleep 1000");
    let first = supervise.number();
    let fd = rustix::process::pidfd_open(first, PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&fd, Signal::KILL).unwrap();
    let second = supervise.number();
    assert_ne!(first, second);
    let line = supervise.log_until("ended");
    assert!(line.contains("(SIGKILL)") && line.contains("restarting in 0 ms"), "{line}");
}

#[test]
fn a_good_exit_code_is_no_reason_to_stop_and_young_ends_wait_longer() {
    let supervise =
        Supervise::start(&["--backoff-initial", "1ms", "--backoff-max", "3ms"], "echo $$; exit 0");
    for wait in ["in 1 ms", "in 2 ms", "in 3 ms", "in 3 ms"] {
        let line = supervise.log_until("ended (exit code 0)");
        assert!(line.contains(wait), "{line}");
    }
}

#[test]
fn sigterm_passes_on_and_the_exit_code_is_the_commands_own() {
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let supervise = Supervise::start(&[], script);
    assert_eq!(supervise.out(), "ready");
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(7));
}

#[test]
fn a_command_that_a_signal_ends_is_told_as_shells_do() {
    let supervise = Supervise::start(&[], "echo ready; exec sleep 1000");
    supervise.out();
    supervise.signal(Signal::INT);
    assert_eq!(supervise.code(), Some(128 + 2));
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_its_grace_or_at_the_second_signal() {
    let script = "trap '' TERM INT; echo ready; while :; do sleep 1000; done";
    let supervise = Supervise::start(&["--stop-grace", "50ms"], script);
    supervise.out();
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 9));

    let supervise = Supervise::start(&["--stop-grace", "1h"], script);
    supervise.out();
    supervise.signal(Signal::TERM);
    supervise.log_until("passed on");
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 9));
}

#[test]
fn without_a_config_there_is_no_sidecar() {
    let supervise = Supervise::start(&["--settled-after", "0ms"], "echo $$; exec sleep 1000");
    supervise.number();
    supervise.signal(Signal::TERM);
    let mut log = Vec::new();
    while let Ok(line) = supervise.log.recv_timeout(PATIENCE) {
        log.push(line);
    }
    assert!(log.iter().all(|line| !line.contains("sidecar")), "{log:?}");
}

#[test]
fn a_sidecar_that_does_not_start_leaves_the_command_alone() {
    let config = ["--config", "/nowhere/w.toml", "--backoff-initial", "1ms"];
    let supervise =
        Supervise::start(&config, "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done");
    assert_eq!(supervise.out(), "ready");
    for _ in 0..2 {
        supervise.log_until("sidecar pid");
        let line = supervise.log_until("ended");
        assert!(line.contains("sidecar"), "{line}");
    }
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(0));
}

#[test]
fn the_command_does_not_outlive_its_supervisor() {
    let mut supervise = Supervise::start(&[], "echo $$; exec sleep 1000");
    let command = supervise.number();
    supervise.child.kill().unwrap();
    assert_eq!(supervise.child.wait().unwrap().signal(), Some(9));
    assert!(gone(command));
}

#[test]
fn orphans_are_reaped() {
    // The inner shell ends at once, so its child becomes an orphan that the supervisor must take.
    let script = "sh -c 'sleep 0.01 & echo $!'; echo $$; exec sleep 1000";
    let supervise = Supervise::start(&[], script);
    let orphan = supervise.number();
    supervise.number();
    let gone_at = Instant::now() + PATIENCE;
    // A zombie still has its folder: only reaping removes it.
    let folder = format!("/proc/{}", orphan.as_raw_nonzero());
    while std::path::Path::new(&folder).exists() {
        assert!(Instant::now() < gone_at, "{folder} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_that_cannot_start_is_told_and_not_tried_again() {
    let run = |command: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_shard-watchdog"))
            .args(["supervise", "--", command])
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, why) = run("/nowhere/cmd");
    assert_eq!(code, Some(127));
    assert!(why.contains("/nowhere/cmd"), "{why}");
    let (code, why) = run("/etc/passwd");
    assert_eq!(code, Some(126));
    assert!(why.contains("/etc/passwd"), "{why}");
}

#[test]
fn children_are_told_that_they_are_supervised_and_have_no_signal_blocked() {
    let script = "echo $SHARD_WATCHDOG_SUPERVISED; grep SigBlk /proc/self/status; exec sleep 1000";
    let supervise = Supervise::start(&[], script);
    assert_eq!(supervise.out(), "1");
    assert_eq!(supervise.out(), "SigBlk:\t0000000000000000");
}
