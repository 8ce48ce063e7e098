//! The sidecar's side: keeps one idle helper, asks it for a dump, and lets the target run on if the
//! helper dies or takes too long.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::most_threads;
use super::wire::{self, Account, Refusal, Request, Told};
use crate::act::resume::Resumable;
use crate::evidence::gatherer::{Dump, TakesDumps};
use crate::observation::TaskState;
use crate::probe::handle::HandleError;
use crate::snapshot::TargetIdentity;

/// At most so many helpers are started within [`STARTS_PER`]: one that dies again and again costs
/// each incident its dump and nothing else.
const MOST_STARTS: usize = 5;
const STARTS_PER: Duration = Duration::from_secs(60);
/// How long a killed helper may take to be gone. Even with thousands of threads attached, the
/// kernel takes milliseconds; only one that sleeps in state D takes longer.
const GONE_WITHIN: Duration = Duration::from_millis(500);
/// How long the target is watched after it was told to run on.
const RUNS_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks at either. Rare, and not on the watch thread.
const LOOK: Duration = Duration::from_millis(1);

/// A dump that was taken.
#[derive(Debug)]
pub struct Dumped {
    /// The minidump, from its beginning. It is untrusted: what is in it comes from the target.
    pub file: File,
    /// What the helper says about it.
    pub account: Account,
}

/// Why there is no dump. Unless the last one says otherwise, the target runs as before.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The target is gone, or cannot be held by a pidfd.
    #[error(transparent)]
    Target(#[from] HandleError),
    /// The helper says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The time was up. The helper was killed, and the target told to run on.
    #[error("there was no dump in time; the evidence helper was ended{}", left(*left_stopped))]
    TooLate {
        /// The target could not be made to run on.
        left_stopped: bool,
    },
    /// The helper died in the middle. The target was told to run on.
    #[error("the evidence helper died{}", left(*left_stopped))]
    HelperDied {
        /// The target could not be made to run on.
        left_stopped: bool,
    },
    /// No helper can be started.
    #[error("the evidence helper cannot be started: {0}")]
    NotStarted(io::Error),
    /// Too many of them have died.
    #[error("{MOST_STARTS} evidence helpers have ended within {} s; there is no dump for a while", STARTS_PER.as_secs())]
    GivenUp,
}

fn left(stopped: bool) -> &'static str {
    if stopped { "; the target may still be stopped: the helper cannot be ended (state D)" } else { "" }
}

/// The helper, as its sidecar has it. One request at a time.
pub struct Helper {
    command: Box<dyn FnMut() -> Command + Send>,
    running: Option<Running>,
    /// When the last ones were started.
    starts: VecDeque<Instant>,
    /// A helper that was killed and is not gone yet, with a target that it may still hold.
    dying: Option<(Child, Option<Resumable>)>,
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper")
            .field("running", &self.running)
            .field("dying", &self.dying)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    socket: OwnedFd,
}

/// Why no message came.
enum Silent {
    Late,
    Died,
}

impl Helper {
    /// `command` makes the command of a helper: this program with `evidence-helper`. None is
    /// started yet.
    pub fn new(command: impl FnMut() -> Command + Send + 'static) -> Self {
        Self { command: Box::new(command), running: None, starts: VecDeque::new(), dying: None }
    }

    /// Starts the helper unless it runs. Forks, so not for the watch thread, and better done before
    /// there is an incident.
    ///
    /// # Errors
    /// [`DumpError::NotStarted`] and [`DumpError::GivenUp`].
    pub fn start(&mut self) -> Result<(), DumpError> {
        if let Some(running) = &mut self.running {
            match running.child.try_wait() {
                Ok(None) => return Ok(()),
                _ => self.running = None,
            }
        }
        let now = Instant::now();
        while self.starts.front().is_some_and(|start| now.duration_since(*start) > STARTS_PER) {
            self.starts.pop_front();
        }
        if self.starts.len() >= MOST_STARTS {
            return Err(DumpError::GivenUp);
        }
        self.starts.push_back(now);
        let failed = |errno: Errno| DumpError::NotStarted(errno.into());
        let kind = SocketType::SEQPACKET;
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(failed)?;
        let mut command = (self.command)();
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let child = command.spawn().map_err(DumpError::NotStarted)?;
        self.running = Some(Running { child, socket });
        Ok(())
    }

    /// The pid of the helper, if one was started.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Takes a dump. Returns by `deadline`, or shortly after it if the helper has to be ended, with
    /// the target running as before in either case.
    ///
    /// # Errors
    /// Why there is no dump.
    pub fn dump(&mut self, request: &Request, deadline: Instant) -> Result<Dumped, DumpError> {
        self.settle();
        let target = Resumable::open(request.pid, request.start_time)?;
        let before = target.stat().filter(|stat| !stat.ending).ok_or(HandleError::Ended(request.pid))?;
        if matches!(before.state, TaskState::Stopped) {
            return Err(Refusal::Stopped(request.pid).into());
        }
        self.start()?;
        if self.ask(request).is_err() {
            // It died while it was idle: once more, with a new one.
            self.end_helper(None);
            self.start()?;
            self.ask(request).map_err(DumpError::NotStarted)?;
        }
        let mut stops = false;
        loop {
            let Some(running) = &self.running else { return Err(DumpError::GivenUp) };
            let silent = match heard(running, deadline) {
                Ok((Told::Stops, _)) => {
                    stops = true;
                    continue;
                }
                Ok((Told::Runs, _)) => {
                    stops = false;
                    continue;
                }
                Ok((Told::Done(account), Some(file))) => {
                    return Ok(Dumped { file: File::from(file), account });
                }
                Ok((Told::Refused(refusal), _)) => return Err(refusal.into()),
                Ok((Told::Done(_), None)) => Silent::Died,
                Err(silent) => silent,
            };
            let left_stopped = !self.end_helper(stops.then_some(target));
            return Err(match silent {
                Silent::Late => DumpError::TooLate { left_stopped },
                Silent::Died => DumpError::HelperDied { left_stopped },
            });
        }
    }

    fn ask(&self, request: &Request) -> io::Result<()> {
        let running = self.running.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        wire::send(running.socket.as_fd(), request, None)
    }

    /// Finishes what an earlier request has left: a helper that was killed and could not end, and
    /// the target that it held. Called by each request; call it now and then if none follows.
    /// Returns whether nothing is left.
    pub fn settle(&mut self) -> bool {
        let Some((child, _)) = &mut self.dying else { return true };
        if matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        let target = self.dying.take().and_then(|(_, target)| target);
        target.is_none_or(|target| let_run(&target))
    }

    /// Kills the helper, and lets the target run on that it may have stopped. Returns whether that
    /// is done.
    ///
    /// The order matters: the kernel detaches from a target in the middle of its tracer's end, and
    /// only then delivers the stops that were held back. So SIGCONT must follow the end; it cancels
    /// whatever stop is still on its way.
    fn end_helper(&mut self, target: Option<Resumable>) -> bool {
        let Some(mut running) = self.running.take() else {
            return target.is_none_or(|target| let_run(&target));
        };
        // It may have ended by itself.
        let _ = running.child.kill();
        let began = Instant::now();
        while matches!(running.child.try_wait(), Ok(None)) {
            if began.elapsed() > GONE_WITHIN {
                let left = target.is_none();
                self.dying = Some((running.child, target));
                return left;
            }
            std::thread::sleep(LOOK);
        }
        target.is_none_or(|target| let_run(&target))
    }
}

impl TakesDumps for Helper {
    fn prepare(&mut self) {
        self.settle();
        // Whoever wants a dump learns why there is none.
        let _ = self.start();
    }

    fn dump(&mut self, target: TargetIdentity, tid: i32, deadline: Instant) -> Result<Dump, String> {
        let time_limit = deadline.saturating_duration_since(Instant::now());
        let TargetIdentity { pid, start_time, .. } = target;
        let request = Request { pid, start_time, tid, time_limit, most_threads: most_threads(time_limit) };
        let Dumped { file, account } =
            Self::dump(self, &request, deadline).map_err(|error| error.to_string())?;
        let Account { threads, bytes, stood_still, .. } = account;
        Ok(Dump { file: Arc::new(file), threads, bytes, stood_still })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // No request is under way, so it holds no target, and may be killed.
        self.end_helper(None);
        self.settle();
    }
}

/// Tells the target to run on until it does. Returns whether it does, or has ended.
fn let_run(target: &Resumable) -> bool {
    let began = Instant::now();
    loop {
        match target.resume() {
            Ok(()) => {}
            Err(Errno::SRCH) => return true,
            Err(error) => {
                tracing::error!(pid = target.pid(), %error, "a process that the evidence helper stopped cannot be resumed");
                return false;
            }
        }
        // A moment for the stop that was cancelled to show, if it was not.
        std::thread::sleep(LOOK);
        if !target.is_stopped() {
            return true;
        }
        if began.elapsed() > RUNS_WITHIN {
            tracing::error!(pid = target.pid(), "a process that the evidence helper stopped does not run on");
            return false;
        }
    }
}

/// The next message, or why there is none by `deadline`.
fn heard(running: &Running, deadline: Instant) -> Result<(Told, Option<OwnedFd>), Silent> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut ready = [PollFd::new(&running.socket, PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&timeout)) {
            Ok(0) => return Err(Silent::Late),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return Err(Silent::Died),
        }
        return match wire::receive(running.socket.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Some(message)) => Ok(message),
            // The end, or nonsense: neither is to be trusted with a target.
            Ok(None) | Err(_) => Err(Silent::Died),
        };
    }
}
