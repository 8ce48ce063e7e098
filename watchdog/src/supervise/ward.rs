//! One child that is kept running, and the process group that was created for it.
//!
//! The group is signalled as a whole, and only while the child is not reaped: until then its pid
//! cannot be reused. A child that has ended is therefore reaped last, once nothing of its group is
//! left.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::backoff::{Backoff, BackoffSettings};
use super::children::{self, End};
use super::family::{Family, Named, Relative};
use super::log::Log;
use super::signals;

/// Time after SIGTERM for what a child leaves in its group, or the grace of a stop if that is
/// shorter: enough to close a socket and write a line, and little compared with the time for a
/// restart.
const LEFT_OVER_GRACE: Duration = Duration::from_secs(2);
/// How often to check whether the group has ended, at first and at most. The end of an adopted
/// process wakes the loop as well.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// After SIGKILL only a process stuck in the kernel survives. Otherwise the end is detected within
/// milliseconds, or up to a second for a large heap; waiting longer than this could have no end.
pub(super) const GIVE_UP_AFTER_SIGKILL: Duration = Duration::from_secs(5);

/// A child and its state.
#[derive(Debug)]
pub(super) struct Ward {
    name: &'static str,
    command: Command,
    backoff: Backoff,
    life: Life,
    /// The last exit code, by the convention of shells.
    code: u8,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    /// Running, as far as is known.
    Running { pid: Pid, since: Instant },
    /// Ended but not reaped: others of its group may live on.
    Leaving(Leaving),
    /// Reaped after having lived this long.
    Ended { lived: Duration },
    /// To be started at this time.
    Due(Instant),
}

/// A child that has ended before its group.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    pid: Pid,
    lived: Duration,
    /// When to kill what is left, or to give up if it was killed.
    until: Instant,
    killed: bool,
    look_again: Instant,
    pause: Duration,
}

/// A child whose group has ended too.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) pid: Pid,
    /// How it ended and how long it lived, unless that was logged before because others lived on.
    pub(super) how: Option<(String, Duration)>,
}

impl Ward {
    /// A child to be started at once.
    pub(super) fn new(name: &'static str, command: Command, backoff: BackoffSettings) -> Self {
        Self { name, command, backoff: Backoff::new(backoff), life: Life::Due(Instant::now()), code: 0 }
    }

    /// The name of the child in the log.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Starts the child.
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
            Life::Running { .. } | Life::Leaving(_) | Life::Due(_) => Duration::ZERO,
        };
        let wait = self.backoff.wait(lived);
        self.life = Life::Due(Instant::now() + wait);
        wait
    }

    /// When to start the child, if it does not run.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.life {
            Life::Due(at) => Some(at),
            Life::Running { .. } | Life::Leaving(_) | Life::Ended { .. } => None,
        }
    }

    /// When to check whether its group has ended.
    pub(super) const fn look_again(&self) -> Option<Instant> {
        match self.life {
            Life::Leaving(leaving) => Some(leaving.look_again),
            Life::Running { .. } | Life::Ended { .. } | Life::Due(_) => None,
        }
    }

    /// The pid of the child until it is reaped, after which it may be reused.
    pub(super) const fn pid(&self) -> Option<Pid> {
        match self.life {
            Life::Running { pid, .. } | Life::Leaving(Leaving { pid, .. }) => Some(pid),
            Life::Ended { .. } | Life::Due(_) => None,
        }
    }

    /// The pid of the child if it has not ended.
    pub(super) const fn running(&self) -> Option<Pid> {
        match self.life {
            Life::Running { pid, .. } => Some(pid),
            Life::Leaving(_) | Life::Ended { .. } | Life::Due(_) => None,
        }
    }

    /// Sends a signal to the whole group: it must reach not only the shell that started the
    /// program.
    pub(super) fn signal_group(&mut self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        if rustix::process::kill_process_group(pid, signal).is_err() {
            // It has left its own group. The only other failure is a child that changed its user,
            // which cannot be signalled.
            let _ = rustix::process::kill_process(pid, signal);
        }
        if let Life::Leaving(leaving) = &mut self.life
            && signal == Signal::KILL
            && !leaving.killed
        {
            leaving.killed = true;
            leaving.until = Instant::now() + GIVE_UP_AFTER_SIGKILL;
        }
    }

    /// Sends a signal to the child alone.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(pid) = self.running() {
            // SAFETY: kill takes no pointers. The pid is the child's own, since it is not reaped.
            unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
        }
    }

    /// Handles the end of the child, and what its group does afterwards. `Some` once all of that is
    /// over and it was reaped. `stop`, if a stop was requested, is when its time is up and the
    /// signal with which it began, which the whole group has received. `wards` are all children
    /// that are kept running.
    pub(super) fn settle(
        &mut self,
        stop: Option<(Instant, Signal)>,
        grace: Duration,
        wards: &[Pid],
        log: &Log,
    ) -> Option<Gone> {
        match self.life {
            Life::Running { pid, since } => {
                let end = children::how_ended(pid)?;
                let lived = since.elapsed();
                self.code = end.code;
                // What it leaves behind is adopted by this process. If nothing was adopted, the
                // search is skipped: the restart would wait for it.
                if children::are_only(wards) {
                    return Some(self.reap(pid, lived, Some(end.how)));
                }
                self.leave(pid, end, lived, stop, grace, log)
            }
            Life::Leaving(leaving) if leaving.look_again <= Instant::now() => self.look(leaving, log),
            Life::Leaving(_) | Life::Ended { .. } | Life::Due(_) => None,
        }
    }

    fn leave(
        &mut self,
        pid: Pid,
        end: End,
        lived: Duration,
        stop: Option<(Instant, Signal)>,
        grace: Duration,
        log: &Log,
    ) -> Option<Gone> {
        let left = match self.left(pid) {
            Ok(left) => left,
            Err(error) => {
                // Without /proc it is unknown which processes are left, and they would hold what
                // the next one needs.
                let name = self.name;
                log.say(format_args!(
                    "{name}: /proc cannot be read ({error}): SIGKILL to what may be left of its group"
                ));
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                Vec::new()
            }
        };
        if left.is_empty() {
            return Some(self.reap(pid, lived, Some(end.how)));
        }
        let now = Instant::now();
        let until = stop.map_or_else(|| now + grace.min(LEFT_OVER_GRACE), |(until, _)| until);
        let leaving =
            Leaving { pid, lived, until, killed: false, look_again: now + FIRST_LOOK, pause: FIRST_LOOK };
        self.life = Life::Leaving(leaving);
        let (name, how, number) = (self.name, end.how, pid.as_raw_nonzero());
        let lived = lived.as_secs_f64();
        let within = until.saturating_duration_since(now).as_secs_f64();
        log.say(format_args!(
            "{name} pid {number} ended ({how}) after {lived:.1} s; left in its group: {}: SIGTERM, and SIGKILL in {within:.1} s",
            Named(&left)
        ));
        // Not twice: many programs take a second SIGTERM as an order to hurry.
        if stop.is_none_or(|(_, signal)| signal != Signal::TERM) {
            self.signal_group(Signal::TERM);
        }
        None
    }

    fn look(&mut self, mut leaving: Leaving, log: &Log) -> Option<Gone> {
        let Leaving { pid, lived, .. } = leaving;
        let left = self.left(pid).unwrap_or_default();
        if left.is_empty() {
            return Some(self.reap(pid, lived, None));
        }
        let (now, name) = (Instant::now(), self.name);
        if leaving.until <= now {
            if leaving.killed {
                log.say(format_args!("{name}: not dead after SIGKILL, left behind: {}", Named(&left)));
                return Some(self.reap(pid, lived, None));
            }
            log.say(format_args!("{name}: SIGKILL to what is left of its group: {}", Named(&left)));
            self.signal_group(Signal::KILL);
            leaving.killed = true;
            leaving.until = now + GIVE_UP_AFTER_SIGKILL;
        }
        leaving.pause = leaving.pause.saturating_mul(2).min(LONGEST_LOOK);
        leaving.look_again = now + leaving.pause;
        self.life = Life::Leaving(leaving);
        None
    }

    fn left(&self, pid: Pid) -> io::Result<Vec<Relative>> {
        Ok(Family::read(Path::new("/proc"))?.group_of(pid))
    }

    fn reap(&mut self, pid: Pid, lived: Duration, how: Option<String>) -> Gone {
        children::reap(pid);
        self.life = Life::Ended { lived };
        Gone { pid, how: how.map(|how| (how, lived)) }
    }

    /// The exit code of its last run: its own, or 128 plus the signal.
    pub(super) const fn exit_code(&self) -> u8 {
        self.code
    }
}

/// Prepares a command so that its process gets SIGTERM if the thread that starts it ends, and has a
/// process group of its own: Ctrl-C at a terminal then reaches only the parent, which forwards it.
pub(crate) fn tie_to_parent(command: &mut Command) {
    command.process_group(0);
    let parent = rustix::process::getpid();
    let tie = move || {
        signals::unblock_all()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the request took effect; then the signal would never be
        // sent.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(tie) };
}
