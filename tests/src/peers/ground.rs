//! The place where one peer is measured: a folder, the target's command line, and the target's log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::peer::Peer;
use crate::process::binary;
use crate::{api, sweep, wait};

/// Nothing here takes this long: a peer that needs longer to restart a dead process is broken.
const RESTARTED_WITHIN: Duration = Duration::from_secs(60);

/// The target's program.
const PROGRAM: &str = "peer-target";

/// An entry in the target's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `started`, `running`, `asked` (whether it is healthy, for the first time), `fault` or
    /// `slow`.
    pub what: String,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at: u64,
}

/// One peer's place. Dropping it ends what remains of the target.
#[derive(Debug)]
pub struct Ground {
    folder: tempfile::TempDir,
    /// The address where the target answers.
    pub port: SocketAddr,
    /// A mark in the environment of everything started here.
    pub mark: String,
    flags: Vec<String>,
    settle: Duration,
}

impl Ground {
    /// An empty place. A target counts as settled once it has worked for `settle`.
    #[track_caller]
    pub fn new(peer: Peer, settle: Duration) -> Self {
        sweep::adopt_orphans();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = api::free_address();
        let mark = format!("peers-{}-{}", std::process::id(), peer.name());
        let beat = folder.path().join("beat").display().to_string();
        let flags = peer.flags(&beat);
        Self { folder, port, mark, flags, settle }
    }

    /// The folder of this place.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file with the target's pid, as the target itself sees it.
    pub fn pid_file(&self) -> PathBuf {
        self.path().join("pid")
    }

    fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    /// The target's command, word by word. No word contains a space or a quote.
    pub fn words(&self) -> Vec<String> {
        let path = |name: &str| self.path().join(name).display().to_string();
        let mut words = vec![binary(PROGRAM).display().to_string()];
        words.extend(["--log".to_owned(), self.log().display().to_string()]);
        words.extend(["--port".to_owned(), self.port.to_string()]);
        words.extend(["--heartbeat".to_owned(), path("0.heartbeat")]);
        words.extend(["--pid-file".to_owned(), self.pid_file().display().to_string()]);
        words.extend(self.flags.iter().cloned());
        words
    }

    /// The same command as one line.
    pub fn line(&self) -> String {
        self.words().join(" ")
    }

    /// All log entries so far.
    pub fn events(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let event = |line: &str| {
            let (what, at) = line.split_once(' ')?;
            Some(Event { what: what.to_owned(), at: at.parse().ok()? })
        };
        text.lines().filter_map(event).collect()
    }

    /// Waits for an entry after the first `from` ones, and returns its time.
    #[track_caller]
    pub fn event(&self, what: &str, from: usize) -> u64 {
        wait::within(RESTARTED_WITHIN, &format!("'{what}' in the log of the target"), || {
            self.events().iter().skip(from).find(|event| event.what == what).map(|event| event.at)
        })
    }

    /// Waits until the target has worked long enough for a fault.
    #[track_caller]
    pub fn settled(&self) {
        wait::within(RESTARTED_WITHIN, "a target that has settled", || {
            let events = self.events();
            let life = events.iter().rposition(|event| event.what == "started")?;
            let running = events.iter().skip(life).find(|event| event.what == "running")?;
            let lived = crate::clock::monotonic_ns().saturating_sub(running.at);
            (Duration::from_nanos(lived) >= self.settle).then_some(())
        });
    }

    /// The target's pid, whatever pid namespace it is in: found by its unique command line.
    pub fn pid(&self) -> Option<i32> {
        let processes = std::fs::read_dir("/proc").ok()?;
        let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|pid| self.is_target(*pid))
    }

    /// Whether this process is the target.
    pub fn is_target(&self, pid: i32) -> bool {
        let log = self.log();
        let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let command = String::from_utf8_lossy(&command);
        let mut words = command.split('\0');
        words.next().is_some_and(|program| program.ends_with(PROGRAM))
            && words.any(|word| Path::new(word) == log)
    }

    /// Orders the target to do something to itself. Returns whether it answered.
    pub fn order(&self, order: &str) -> bool {
        api::get(self.port, order).is_some_and(|answer| answer.code == 200)
    }

    /// Kills the target, if it lives.
    pub fn kill(&self) {
        let Some(pid) = self.pid() else { return };
        let Some(pid) = Pid::from_raw(pid) else { return };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // The pid cannot have been reused since the pidfd was opened.
        if self.is_target(pid.as_raw_nonzero().get()) {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        sweep::sweep(&self.mark);
        self.kill();
    }
}
