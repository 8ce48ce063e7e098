//! One child that is kept running.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitStatus};

use super::backoff::{Backoff, BackoffSettings};
use super::log::Log;
use super::signals;

/// A child and what is known of it.
#[derive(Debug)]
pub(super) struct Ward {
    name: &'static str,
    command: Command,
    backoff: Backoff,
    life: Life,
    /// How it ended last, as a shell would tell it.
    code: u8,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    /// Not reaped yet, so the number is still its own.
    Running { pid: Pid, since: Instant },
    /// Ended after having lived so long.
    Ended { lived: Duration },
    /// To be started then.
    Due(Instant),
}

/// The end of a child.
#[derive(Debug)]
pub(super) struct Ended {
    /// `exit code 1`, `SIGKILL`.
    pub(super) how: String,
    /// How long it lived.
    pub(super) lived: Duration,
}

impl Ward {
    /// To be started at once.
    pub(super) fn new(name: &'static str, command: Command, backoff: BackoffSettings) -> Self {
        Self { name, command, backoff: Backoff::new(backoff), life: Life::Due(Instant::now()), code: 0 }
    }

    /// What the log calls it.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Starts it.
    pub(super) fn start(&mut self, log: &Log) -> io::Result<()> {
        let since = Instant::now();
        self.life = Life::Ended { lived: Duration::ZERO };
        // Dropping the handle does not end the child; it is reaped together with all others.
        let number = self.command.spawn()?.id();
        let pid = Pid::from_raw(number.cast_signed())
            .ok_or_else(|| io::Error::other("a child without a number"))?;
        self.life = Life::Running { pid, since };
        log.say(format_args!("{} pid {number} started", self.name));
        Ok(())
    }

    /// Sets the time of the next start and returns how long that is from now.
    pub(super) fn postpone(&mut self) -> Duration {
        let lived = match self.life {
            Life::Ended { lived } => lived,
            Life::Running { .. } | Life::Due(_) => Duration::ZERO,
        };
        let wait = self.backoff.wait(lived);
        self.life = Life::Due(Instant::now() + wait);
        wait
    }

    /// When it is to be started, if it does not run.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.life {
            Life::Due(at) => Some(at),
            Life::Running { .. } | Life::Ended { .. } => None,
        }
    }

    /// Whether it runs, or has ended and was not reaped yet.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Sends a signal if it runs. By number, which is its own until it is reaped, and only this thread reaps.
    pub(super) fn signal(&self, signal: Signal) {
        if let Life::Running { pid, .. } = self.life {
            // The one failure left is a child that changed its user; its own signal handling is then out of reach.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Takes note that a process was reaped. `None` if that was another.
    pub(super) fn ended(&mut self, reaped: Pid, status: WaitStatus) -> Option<Ended> {
        let Life::Running { pid, since } = self.life else { return None };
        if pid != reaped {
            return None;
        }
        let lived = since.elapsed();
        self.life = Life::Ended { lived };
        let (code, how) = told(status);
        self.code = code;
        Some(Ended { how, lived })
    }

    /// The exit code of its last life: its own, or 128 and the signal.
    pub(super) const fn exit_code(&self) -> u8 {
        self.code
    }
}

fn told(status: WaitStatus) -> (u8, String) {
    let low = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (low(code), format!("exit code {code}")),
        (None, Some(number)) => {
            let name =
                Signal::from_named_raw(number).map_or_else(|| format!("signal {number}"), signals::name);
            (low(128 + number), name)
        }
        (None, None) => (u8::MAX, "unknown".to_owned()),
    }
}

/// Makes a command a child that gets SIGTERM if the thread that starts it ends, in a process group of its own: Ctrl-C
/// at a terminal then reaches only the parent, which passes it on.
pub(crate) fn tie_to_parent(command: &mut Command) {
    command.process_group(0);
    let parent = rustix::process::getpid();
    let tie = move || {
        signals::unblock_all()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the wish was known; nobody would ever send it then.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only makes system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(tie) };
}
