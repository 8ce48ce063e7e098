//! The supervisor's own signals, received one at a time by the thread that waits for them: no
//! handlers, so no code that runs at an unsafe moment.

use std::io;
use std::mem::MaybeUninit;
use std::time::Instant;

use rustix::process::Signal;

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A child has ended, perhaps several.
    ChildEnded,
    /// The supervisor should stop.
    Stop(Signal),
    /// Any other of the awaited signals, by its number.
    Other(i32),
}

/// The blocked signals.
#[derive(Debug)]
pub(crate) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals for this thread and those that it will start. Then even PID 1 receives
    /// signals that it has no handler for.
    pub(crate) fn block(listened: &[i32]) -> io::Result<Self> {
        let set = set_of(listened);
        // SAFETY: SIG_DFL is a valid disposition. A child inherits an ignored SIGCHLD from its
        // parent, and then the kernel reaps children before their exit status can be read.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: `set` is initialised and lives through the call; the old mask is not requested.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error == 0 { Ok(Self { set }) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// The next signal, or `None` at `until` or if the wait was interrupted. Without `until` it
    /// waits as long as it takes.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Option<Heard> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is initialised, no details are requested, and `left` is null or points to
        // a timespec that lives through the call.
        match unsafe { libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), left) } {
            libc::SIGCHLD => Some(Heard::ChildEnded),
            libc::SIGTERM => Some(Heard::Stop(Signal::TERM)),
            libc::SIGINT => Some(Heard::Stop(Signal::INT)),
            other if other > 0 => Some(Heard::Other(other)),
            _ => None,
        }
    }
}

/// Restores the signal mask that a program expects: none blocked. Async-signal-safe.
pub(super) fn unblock_all() -> io::Result<()> {
    let none = set_of(&[]);
    // SAFETY: as in `block`; `pthread_sigmask` may be called between fork and exec.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises all of the set and cannot fail for a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: the set is initialised; an invalid signal number is refused, not added.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}
