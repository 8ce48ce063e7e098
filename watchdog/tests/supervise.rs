//! What `supervise` promises, against real processes. Nothing here waits for a fixed time: every
//! wait is for an event, and fails after a generous bound.

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
        // Its death also ends its children, which is itself one of the promises.
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
    // With a sidecar beside it, which raises its own limit.
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
    // The inner shell ends at once, so its child becomes an orphan that the supervisor must adopt.
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

/// Does not pass its signals on to its child, like a shell that runs one program.
const WRAPPED: &str = "sleep 1000 & echo $!; wait $!; true";

#[test]
fn row_31_a_stop_reaches_the_child_of_a_wrapper() {
    let supervise = Supervise::start(&[], WRAPPED);
    let child = supervise.number();
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 15));
    assert!(gone(child));
}

#[test]
fn row_31_a_child_that_holds_the_port_does_not_outlive_the_restart() {
    // The child ignores SIGTERM and holds the lock that stands for a port; the wrapper is what is
    // killed.
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("port");
    let script = format!(
        "(trap '' TERM; exec flock -n {} sh -c 'echo held; while :; do sleep 1; done') & echo $$; wait",
        lock.display()
    );
    let supervise = Supervise::start(&["--settled-after", "0ms", "--stop-grace", "100ms"], &script);
    let wrapper = first_number_of_two(&supervise);
    rustix::process::kill_process(wrapper, Signal::KILL).unwrap();
    let line = supervise.log_until("left in its group");
    assert!(line.contains("(SIGKILL)") && line.contains("SIGTERM"), "{line}");
    supervise.log_until("SIGKILL to what is left of its group");
    let line = supervise.log_until("and its group are gone");
    assert!(line.contains("restarting in 0 ms"), "{line}");
    let again = first_number_of_two(&supervise);
    assert_ne!(again, wrapper);
}

/// The pid of a wrapper whose child reports at the same time that it has what it needs.
#[track_caller]
fn first_number_of_two(supervise: &Supervise) -> Pid {
    let mut said = [supervise.out(), supervise.out()];
    said.sort();
    assert_eq!(said[1], "held", "{said:?}");
    Pid::from_raw(said[0].parse().unwrap()).unwrap()
}

#[test]
fn what_leaves_the_group_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = format!(
        "setsid sh -c 'echo $$; touch {0}; exec sleep 1000' & until [ -e {0} ]; do sleep 0.01; done; exit 3",
        done.display()
    );
    let once = ["--backoff-initial", "1h", "--backoff-max", "1h", "--settled-after", "1h"];
    let supervise = Supervise::start(&once, &script);
    let outside = supervise.number();
    let line = supervise.log_until("left running");
    assert!(line.contains(&format!("pid {}", outside.as_raw_nonzero())), "{line}");
    assert!(rustix::process::test_kill_process(outside).is_ok(), "it was left alone");
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(3));
    rustix::process::kill_process(outside, Signal::KILL).unwrap();
}

#[test]
fn a_second_signal_kills_what_a_wrapper_has_left() {
    let script = "(trap '' TERM INT; echo ready; while :; do sleep 1000; done) & wait";
    let supervise = Supervise::start(&["--stop-grace", "1h"], script);
    assert_eq!(supervise.out(), "ready");
    supervise.signal(Signal::TERM);
    supervise.log_until("left in its group");
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 15), "the wrapper's own");
}

#[test]
fn row_66_signals_that_a_command_catches_are_passed_on_and_it_lives() {
    let traps = "for s in HUP USR1 USR2 QUIT RTMIN+3; do trap \"echo $s\" $s; done";
    let bash = format!("exec bash -c '{traps}; echo ready; while :; do sleep 0.01; done'");
    let supervise = Supervise::start(&[], &bash);
    assert_eq!(supervise.out(), "ready");
    let pid = Pid::from_child(&supervise.child).as_raw_nonzero().get();
    let signals = [
        (libc::SIGHUP, "HUP"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGRTMIN() + 3, "RTMIN+3"),
    ];
    for (signal, name) in signals {
        // SAFETY: kill takes no pointers, and the child is not reaped.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        assert_eq!(supervise.out(), name);
        supervise.log_until(&format!("SIG{name}: passed on to CMD"));
    }
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 15));
}

#[test]
fn row_66_a_signal_that_would_end_the_command_is_not_passed_on() {
    let supervise = Supervise::start(&[], "echo $$; exec sleep 1000");
    let command = supervise.number();
    // The shell may not have become `sleep` yet; neither catches anything.
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::QUIT, Signal::ALARM] {
        supervise.signal(signal);
        let line = supervise.log_until("not passed on");
        assert!(line.contains("does not catch it"), "{line}");
    }
    assert!(rustix::process::test_kill_process(command).is_ok());
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 15));
}

#[test]
fn row_66_sighup_has_the_sidecar_read_its_config_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("w.toml");
    let (segment, evidence) = (folder.path().join("hb"), folder.path().join("evidence"));
    let text = format!(
        "[target]\nshard = \"0\"\nheartbeat = {segment:?}\n[evidence]\ndirectory = {evidence:?}\n[http]\nlisten = \"\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let supervise = Supervise::start(&flags, "echo $$; exec sleep 1000");
    supervise.number();
    supervise.log_until("has started");
    // More than once: a sidecar that has just started may not wait for signals yet; later it does.
    for _ in 0..3 {
        supervise.signal(Signal::HUP);
        // The sidecar's own line and the supervisor's come in either order.
        let (mut passed_on, mut reloaded) = (false, false);
        while !(passed_on && reloaded) {
            let line = supervise.log_until("");
            passed_on |= line.contains("the sidecar reads its config again");
            reloaded |= line.contains("reload: ");
        }
    }
    supervise.signal(Signal::TERM);
    assert_eq!(supervise.code(), Some(128 + 15));
}
