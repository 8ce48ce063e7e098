//! Processes, their output, and their folder. All of it is removed when the demo ends.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::DemoError;
use crate::supervise::{self, Signals};

/// An event for the demo, or for another program that runs such processes.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A line of output from a process, or from one of its descendants.
    Line { who: usize, line: String },
    /// The output was closed: no process is left that could write to it.
    Closed { who: usize },
    /// SIGTERM or SIGINT.
    Stop,
}

/// From now on a signal is delivered as a message, and no longer ends the process.
pub(crate) fn listen_for_stop(sender: Sender<Heard>) -> std::io::Result<()> {
    let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT])?;
    let listen = move || {
        loop {
            if signals.wait(None).is_some() && sender.send(Heard::Stop).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts the process, tied to this one.
    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        supervise::tie_to_parent(command);
        let mut child = command.spawn()?;
        match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd }),
            Err(error) => {
                // Not waited for: it may take long to end. The demo ends with this error, and then
                // init reaps it.
                child.kill()?;
                Err(error.into())
            }
        }
    }

    /// Forwards the output line by line. `closes` reports when the output is closed.
    pub(crate) fn listen(&mut self, who: usize, sender: &Sender<Heard>) -> std::io::Result<()> {
        if let Some(out) = self.child.stdout.take() {
            spawn_reader(out, who, false, sender.clone())?;
        }
        if let Some(err) = self.child.stderr.take() {
            spawn_reader(err, who, true, sender.clone())?;
        }
        Ok(())
    }

    /// Sends a signal; does nothing if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end of the process until then.
    pub(crate) fn wait(&mut self, until: Instant) -> Option<ExitStatus> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut ends = [PollFd::new(&self.pidfd, PollFlags::IN)];
            // Interrupted or not, the loop checks again.
            let _ = rustix::event::poll(&mut ends, Some(&left));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(Signal::KILL);
            let _ = self.wait(Instant::now() + LAST_WAIT);
        }
    }
}

/// A killed process that still exists after this is stuck in the kernel; waiting any longer would
/// have no end.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

fn spawn_reader(
    from: impl Read + Send + 'static,
    who: usize,
    closes: bool,
    sender: Sender<Heard>,
) -> std::io::Result<()> {
    let read = move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        // Reads to the end of the output even if nobody receives it: a full pipe would block the
        // writers.
        while from.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let _ = sender.send(Heard::Line { who, line });
            bytes.clear();
        }
        if closes {
            let _ = sender.send(Heard::Closed { who });
        }
    };
    std::thread::Builder::new().name("reader".to_owned()).spawn(read)?;
    Ok(())
}

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// Opens the folder to retain, or makes one that is removed on drop.
    pub(super) fn make(keep: Option<&Path>) -> Result<Self, DemoError> {
        match keep {
            Some(path) => Self::to_keep(path),
            None => Self::passing(),
        }
    }

    fn to_keep(path: &Path) -> Result<Self, DemoError> {
        let shown = path.display();
        let cannot = |error: std::io::Error| {
            DemoError::Prepare(format!(
                "cannot use {shown}: {error}; give --keep a folder that can be written"
            ))
        };
        std::fs::create_dir_all(path).map_err(cannot)?;
        if std::fs::read_dir(path).map_err(cannot)?.next().is_some() {
            let what = format!(
                "{shown} is not empty; give --keep a new folder, so that nothing of yours is mixed in"
            );
            return Err(DemoError::Prepare(what));
        }
        Ok(Self { path: path.canonicalize().map_err(cannot)?, kept: true })
    }

    fn passing() -> Result<Self, DemoError> {
        let parent = std::env::temp_dir();
        let mut last = None;
        for attempt in 0..16_u32 {
            let path = parent.join(format!("shard-demo-{}-{attempt}", std::process::id()));
            // Fails if the folder exists: in a directory that everybody can write to, another
            // user's folder cannot be used.
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, kept: false }),
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |error| format!(": {error}"));
        let parent = parent.display();
        Err(DemoError::Prepare(format!(
            "cannot make a folder in {parent}{why}; set TMPDIR to one that can be written"
        )))
    }

    /// The path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed lies in the temporary folder, which the system clears.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
