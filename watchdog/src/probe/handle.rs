//! A process that was checked, held by a pidfd and whatever is needed to check it again. This
//! handle can be waited on and queried but not used to signal: only `act/pidfd.rs` does that.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::clock::Monotonic;
use crate::signals;
use crate::snapshot::TargetIdentity;

use super::mapped::{Mapped, Standing};
use super::proof::{self, Unproven, Witness};
use super::task::{Program, TaskDir};

/// A process that was checked, and what is needed to check it again before every signal.
#[derive(Debug)]
pub struct TargetHandle {
    pidfd: OwnedFd,
    identity: TargetIdentity,
    /// `/proc/PID`, opened after the pidfd.
    process: Arc<OwnedFd>,
    /// Its main thread only: the files in `/proc/PID` sum over all threads.
    leader: TaskDir,
    /// The segment.
    file: OwnedFd,
    /// User id of the segment's owner at adoption.
    owner: u32,
    /// The program at adoption; `None` where the kernel does not tell.
    program: Option<Program>,
    mapped: Arc<Mapped>,
}

/// Why no handle could be opened.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The process has ended already.
    #[error("process {0} has ended")]
    Ended(i32),
    /// The pid now belongs to another process.
    #[error("pid {pid} belongs to a process that started at tick {found}, not at tick {expected}")]
    OtherProcess {
        /// Pid of the process.
        pid: i32,
        /// Expected start time.
        expected: u64,
        /// Actual start time.
        found: u64,
    },
    /// The segment cannot be queried.
    #[error("cannot ask about the heartbeat segment of process {pid}: {source}")]
    Segment {
        /// Pid of the process.
        pid: i32,
        /// The kernel's error.
        source: Errno,
    },
    /// The kernel refused a pidfd.
    #[error("cannot open a pidfd for process {pid}: {source}{}", hint(*source))]
    Refused {
        /// Pid of the process.
        pid: i32,
        /// The kernel's error.
        source: Errno,
    },
}

/// What to do if the kernel lacks the call or a container's profile forbids it.
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

/// Opens a pidfd. Whose it is must be checked afterwards: until then the pid may change hands.
///
/// # Errors
/// If there is no such process, or the kernel refuses.
pub fn pidfd_of(pid: i32) -> Result<OwnedFd, HandleError> {
    let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(HandleError::Ended(pid))?;
    rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(|source| match source {
        Errno::SRCH => HandleError::Ended(pid),
        source => HandleError::Refused { pid, source },
    })
}

impl TargetHandle {
    /// Opens a pidfd and then checks the start time: between the two, the pid cannot change hands
    /// unnoticed. `segment` is a descriptor of its segment, and `mapped` is when that was found to
    /// be mapped.
    ///
    /// # Errors
    /// If it is no longer that process, or the kernel refuses what is needed.
    pub fn open(
        proc_root: &Path,
        identity: TargetIdentity,
        segment: BorrowedFd<'_>,
        mapped: Monotonic,
    ) -> Result<Self, HandleError> {
        Self::open_with(pidfd_of(identity.pid)?, proc_root, identity, segment, mapped)
    }

    /// The same with an existing pidfd, for a process in another pid namespace, which has no number
    /// here.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        pidfd: OwnedFd,
        proc_root: &Path,
        identity: TargetIdentity,
        segment: BorrowedFd<'_>,
        mapped: Monotonic,
    ) -> Result<Self, HandleError> {
        let TargetIdentity { pid, start_time: expected, .. } = identity;
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = rustix::fs::open(proc_root.join(pid.to_string()), folder, Mode::empty())
            .map_err(|_| HandleError::Ended(pid))?;
        let leader = CString::new(format!("task/{pid}")).map_err(|_| HandleError::Ended(pid))?;
        let leader = TaskDir::open_at(&process, &leader).map_err(|_| HandleError::Ended(pid))?;
        let stat = match leader.stat() {
            Ok(Some(stat)) if stat.start_time == expected => stat,
            Ok(Some(stat)) => {
                return Err(HandleError::OtherProcess { pid, expected, found: stat.start_time });
            }
            _ => return Err(HandleError::Ended(pid)),
        };
        let program = stat.program.or_else(|| match proof::witness(&process) {
            Some(Witness::Lives(_, program)) => Some(program),
            _ => None,
        });
        let refused = |source| HandleError::Segment { pid, source };
        let file = rustix::io::fcntl_dupfd_cloexec(segment, 0).map_err(refused)?;
        let owner = rustix::fs::fstat(&file).map_err(refused)?.st_uid;
        let mapped = Arc::new(Mapped::since(mapped));
        let process = Arc::new(process);
        Ok(Self { pidfd, identity, process, leader, file, owner, program, mapped })
    }

    /// The program at adoption, if the kernel tells it.
    pub const fn program(&self) -> Option<Program> {
        self.program
    }

    /// What is known of its mapping of the segment.
    pub const fn mapped(&self) -> &Arc<Mapped> {
        &self.mapped
    }

    /// The folder of the process in `/proc`.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The same for another thread, which may hold it longer.
    pub fn shared_process(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.process)
    }

    /// Checks that it still is the process that was adopted. Takes a few microseconds and never
    /// blocks.
    ///
    /// # Errors
    /// Why it may not be signalled: it is no longer the target, or this cannot be determined now.
    pub fn check(&self, now: Monotonic) -> Result<(), Unproven> {
        self.passes(now, || self.mapped.confirmed_anew(now))
    }

    /// Why it is certainly not the process that was adopted, if that is certain. Unlike
    /// [`check`](Self::check), this never requests a new answer, since no signal follows.
    pub fn contradicts(&self, now: Monotonic) -> Option<Unproven> {
        self.passes(now, || false).err().filter(Unproven::is_certain)
    }

    /// The checks. Where the kernel does not tell the program, `confirmed` returns whether the
    /// mapping proves it.
    fn passes(&self, now: Monotonic, confirmed: impl FnOnce() -> bool) -> Result<(), Unproven> {
        let (pid, owner) = (self.identity.pid, self.owner);
        match self.mapped.standing(now) {
            Standing::Maps => {}
            Standing::Lost => return Err(Unproven::Unmapped { pid }),
            Standing::Unknown(age) => return Err(Unproven::Unconfirmed { pid, age }),
        }
        let unread = |file| Unproven::Unread { pid, file };
        let found = rustix::fs::fstat(&self.file).map_err(|_| unread("the heartbeat segment"))?.st_uid;
        if found != owner {
            return Err(Unproven::OtherOwner { pid, found, owner });
        }
        self.is_owners(&self.leader)?;
        let stat = self.leader.stat().map_err(|_| unread("stat"))?.ok_or(Unproven::Ended { pid })?;
        if stat.start_time != self.identity.start_time {
            let expected = self.identity.start_time;
            return Err(Unproven::OtherProcess { pid, expected, found: stat.start_time });
        }
        let program = match stat.program {
            Some(program) => Some(program),
            // It has no memory left to query. Another of its threads does, if the process lives on.
            None if stat.exiting => match proof::witness(&self.process).ok_or(unread("task"))? {
                Witness::Lives(task, program) => {
                    self.is_owners(&task)?;
                    Some(program)
                }
                Witness::Hidden => None,
                Witness::NoneLeft => return Ok(()),
            },
            None => None,
        };
        match (program, self.program) {
            (Some(now), Some(adopted)) if now == adopted => Ok(()),
            (Some(_), Some(_)) => Err(Unproven::OtherProgram { pid }),
            // The query goes to the very memory that was adopted, which ends with its program.
            _ if confirmed() => Ok(()),
            _ => Err(Unproven::Hidden { pid }),
        }
    }

    fn is_owners(&self, task: &TaskDir) -> Result<(), Unproven> {
        let (pid, owner) = (self.identity.pid, self.owner);
        let uids = task.uids().map_err(|_| Unproven::Unread { pid, file: "status" })?;
        let uids = uids.ok_or(Unproven::Ended { pid })?;
        if uids.are_all(owner) { Ok(()) } else { Err(Unproven::OtherUser { pid, uids, owner }) }
    }

    /// The identity of the process.
    pub const fn identity(&self) -> TargetIdentity {
        self.identity
    }

    /// The descriptor, readable once the process has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How the process ended, if the kernel tells this to a process that is not its parent (Linux
    /// 6.15+, once its parent has reaped it).
    pub fn exit_status(&self) -> Option<String> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the ioctl writes at most `size_of::<PidfdInfo>()` bytes, the size encoded in its
        // number, into a structure of that size which outlives the call.
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
        format!("killed by {}{core}", signals::name_of(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity_of(pid: u32, start_time: u64) -> TargetIdentity {
        TargetIdentity { pid: pid.cast_signed(), start_time, incarnation: 0 }
    }

    /// A handle on that process. Its segment is a file of this user that it is assumed to map.
    fn open(pid: u32, start_time: u64) -> Result<TargetHandle, HandleError> {
        let segment = tempfile::tempfile().unwrap();
        TargetHandle::open(
            Path::new("/proc"),
            identity_of(pid, start_time),
            segment.as_fd(),
            crate::clock::now(),
        )
    }

    #[test]
    fn another_start_time_is_another_process() {
        let error = open(std::process::id(), 1).unwrap_err();
        assert!(matches!(error, HandleError::OtherProcess { expected: 1, .. }), "{error}");
    }

    #[test]
    fn wait_statuses_are_told_in_words() {
        assert_eq!(describe_wait_status(12 << 8), "exit code 12");
        assert_eq!(describe_wait_status(134), "killed by SIGABRT (core dumped)");
    }
}
