//! The only code that signals. Through a pidfd whose process was checked, never by number: a number may be somebody
//! else by the time the signal leaves.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::config::KillSignal;
use crate::probe::task::TaskDir;
use crate::snapshot::TargetIdentity;

/// A process that was checked and can be signalled without doubt about who it is.
#[derive(Debug)]
pub struct TargetHandle {
    pidfd: OwnedFd,
    identity: TargetIdentity,
}

/// Why no handle could be had.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It is gone already.
    #[error("process {0} has ended")]
    Ended(i32),
    /// The pid belongs to another process by now.
    #[error("pid {pid} belongs to a process that started at tick {found}, not at tick {expected}")]
    OtherProcess {
        /// The pid.
        pid: i32,
        /// Start time wanted.
        expected: u64,
        /// Start time found.
        found: u64,
    },
    /// The kernel refused.
    #[error("cannot open a pidfd for process {pid}: {source}{}", hint(*source))]
    Refused {
        /// The pid.
        pid: i32,
        /// What the kernel said.
        source: Errno,
    },
}

/// The next step where the kernel does not have the call, or a container's profile does not allow
/// it.
fn hint(source: Errno) -> &'static str {
    match source {
        Errno::NOSYS | Errno::PERM => {
            "; without pidfd_open nothing can be watched or signalled: it needs Linux 5.3 or later, and in a container a seccomp \
             profile that allows it"
        }
        Errno::MFILE | Errno::NFILE => "; raise the limit of open files (LimitNOFILE=, ulimit -n)",
        _ => "",
    }
}

impl TargetHandle {
    /// Opens a pidfd and then checks the start time: between the two the pid cannot change hands unseen.
    pub fn open(proc_root: &Path, identity: TargetIdentity) -> Result<Self, HandleError> {
        let TargetIdentity { pid, start_time: expected, .. } = identity;
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(HandleError::Ended(pid))?;
        let pidfd =
            rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(|source| match source {
                Errno::SRCH => HandleError::Ended(pid),
                source => HandleError::Refused { pid, source },
            })?;
        let dir = TaskDir::open(&proc_root.join(pid.to_string())).map_err(|_| HandleError::Ended(pid))?;
        match dir.stat() {
            Ok(Some(stat)) if stat.start_time == expected => Ok(Self { pidfd, identity }),
            Ok(Some(stat)) => Err(HandleError::OtherProcess { pid, expected, found: stat.start_time }),
            _ => Err(HandleError::Ended(pid)),
        }
    }

    /// Which process this is.
    pub const fn identity(&self) -> TargetIdentity {
        self.identity
    }

    /// The descriptor, readable once the process has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: KillSignal) -> Result<(), Errno> {
        let signal = match signal {
            KillSignal::Abort => Signal::ABORT,
            KillSignal::Term => Signal::TERM,
            KillSignal::Quit => Signal::QUIT,
            KillSignal::Kill => Signal::KILL,
        };
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
    }

    /// How the process ended, as far as the kernel tells somebody who is not its parent (Linux 6.15+, once its
    /// parent has reaped it).
    pub fn exit_status(&self) -> Option<String> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the ioctl writes at most `size_of::<PidfdInfo>()` bytes, the size encoded in its number, into a
        // structure of that size which outlives the call.
        let answer = unsafe { libc::ioctl(self.pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        (answer == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| describe_wait_status(info.exit_code))
    }
}

/// `PIDFD_INFO_EXIT` of `linux/pidfd.h`.
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)` with the 64 bytes of its first version.
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

/// `struct pidfd_info` of `linux/pidfd.h`, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// A wait status in words.
fn describe_wait_status(status: i32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        format!("exit code {}", (status >> 8) & 0xff)
    } else {
        let core = if status & 0x80 == 0 { "" } else { " (core dumped)" };
        format!("killed by signal {signal}{core}")
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that waits without end is ended by its runner")]
mod tests {
    use super::*;

    fn identity_of(pid: u32, start_time: u64) -> TargetIdentity {
        TargetIdentity { pid: pid.cast_signed(), start_time, incarnation: 0 }
    }

    #[test]
    fn another_start_time_is_another_process() {
        let error = TargetHandle::open(Path::new("/proc"), identity_of(std::process::id(), 1)).unwrap_err();
        assert!(matches!(error, HandleError::OtherProcess { expected: 1, .. }), "{error}");
    }

    #[test]
    fn a_killed_child_is_told_as_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let dir = TaskDir::open(&Path::new("/proc").join(child.id().to_string())).unwrap();
        let start = dir.stat().unwrap().unwrap().start_time;
        let handle = TargetHandle::open(Path::new("/proc"), identity_of(child.id(), start)).unwrap();
        handle.signal(KillSignal::Kill).unwrap();
        child.wait().unwrap();
        // Older kernels do not tell; then nothing must be claimed.
        assert!(matches!(handle.exit_status().as_deref(), None | Some("killed by signal 9")));
        assert_eq!(handle.signal(KillSignal::Kill), Err(Errno::SRCH));
    }

    #[test]
    fn wait_statuses_are_told_in_words() {
        assert_eq!(describe_wait_status(12 << 8), "exit code 12");
        assert_eq!(describe_wait_status(134), "killed by signal 6 (core dumped)");
    }
}
