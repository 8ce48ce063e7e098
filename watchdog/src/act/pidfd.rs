//! The only code that sends a signal which ends a process. It uses a pidfd whose process was
//! checked, never a number: by the time the signal leaves, the number may belong to another
//! process.

use rustix::io::Errno;
use rustix::process::Signal;

use crate::clock::Monotonic;
use crate::config::KillSignal;
use crate::probe::handle::TargetHandle;
use crate::probe::proof::Unproven;

/// The right to send one signal: all checks have just passed.
#[derive(Debug)]
pub struct Proven<'a>(&'a TargetHandle);

/// Checks that `handle` still is the process that was adopted. Takes a few microseconds and never
/// blocks.
///
/// # Errors
/// Why the process may not be signalled: it is no longer the target, or this cannot be determined
/// now.
pub fn prove(handle: &TargetHandle, now: Monotonic) -> Result<Proven<'_>, Unproven> {
    handle.check(now).map(|()| Proven(handle))
}

impl Proven<'_> {
    /// Sends `signal`. Nothing else ends a target; SIGCONT alone is also sent by
    /// [`resume`](super::resume).
    ///
    /// # Errors
    /// The kernel's error.
    pub fn signal(self, signal: KillSignal) -> Result<(), Errno> {
        let signal = match signal {
            KillSignal::Abort => Signal::ABORT,
            KillSignal::Term => Signal::TERM,
            KillSignal::Quit => Signal::QUIT,
            KillSignal::Kill => Signal::KILL,
        };
        rustix::process::pidfd_send_signal(self.0.as_fd(), signal)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;
    use crate::act::child::Child;
    use crate::probe::task::TaskDir;
    use crate::snapshot::TargetIdentity;

    /// A handle on that process. Its segment is a file of this user that it is assumed to map.
    fn open(pid: u32, start_time: u64) -> TargetHandle {
        let segment = tempfile::tempfile().unwrap();
        let identity = TargetIdentity { pid: pid.cast_signed(), start_time, incarnation: 0 };
        TargetHandle::open(Path::new("/proc"), identity, segment.as_fd(), crate::clock::now()).unwrap()
    }

    #[test]
    fn a_killed_child_is_told_as_killed() {
        let mut child = Child::start();
        let dir = TaskDir::open(&Path::new("/proc").join(child.0.id().to_string())).unwrap();
        let start = dir.stat().unwrap().unwrap().start_time;
        // In the middle of its exec it has no program yet.
        let handle = loop {
            let handle = open(child.0.id(), start);
            if handle.program().is_some() && prove(&handle, crate::clock::now()).is_ok() {
                break handle;
            }
            std::thread::yield_now();
        };
        prove(&handle, crate::clock::now()).unwrap().signal(KillSignal::Kill).unwrap();
        child.0.wait().unwrap();
        // Older kernels do not report it; then nothing must be claimed.
        assert!(matches!(handle.exit_status().as_deref(), None | Some("killed by SIGKILL")));
        let ended = prove(&handle, crate::clock::now()).unwrap_err();
        assert!(matches!(ended, Unproven::Ended { .. }), "{ended}");
    }
}
