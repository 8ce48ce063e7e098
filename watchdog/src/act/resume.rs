//! Lets a target run on that this program's own evidence helper has stopped. Like a kill, it goes
//! through a pidfd whose start time was checked.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::observation::TaskState;
use crate::probe::handle::{HandleError, pidfd_of};
use crate::probe::task::{TaskDir, TaskStat};

/// A process that may have to be resumed, held from before it is stopped: its pid cannot come to
/// mean another process.
#[derive(Debug)]
pub struct Resumable {
    pidfd: OwnedFd,
    leader: TaskDir,
    pid: i32,
}

impl Resumable {
    /// Opens a pidfd and then checks the start time, in clock ticks since boot.
    ///
    /// # Errors
    /// If it is no longer that process, or the kernel refuses what is needed.
    pub fn open(pid: i32, start_time: u64) -> Result<Self, HandleError> {
        let pidfd = pidfd_of(pid)?;
        let leader = Path::new("/proc").join(format!("{pid}/task/{pid}"));
        let leader = TaskDir::open(&leader).map_err(|_| HandleError::Ended(pid))?;
        match leader.stat() {
            Ok(Some(stat)) if stat.start_time == start_time => Ok(Self { pidfd, leader, pid }),
            Ok(Some(stat)) => {
                Err(HandleError::OtherProcess { pid, expected: start_time, found: stat.start_time })
            }
            _ => Err(HandleError::Ended(pid)),
        }
    }

    /// Its pid.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The state of its main thread; `None` if it has ended, or the kernel does not tell.
    pub fn stat(&self) -> Option<TaskStat> {
        self.leader.stat().ok().flatten()
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, TaskState::Stopped))
    }

    /// Sends SIGCONT. This also takes back a stop that has been sent and not yet carried out.
    ///
    /// # Errors
    /// The kernel's error; `ESRCH` if it has ended.
    pub fn resume(&self) -> Result<(), Errno> {
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT)
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::*;
    use crate::act::child::Child;

    #[test]
    fn a_stopped_process_runs_on_and_one_of_another_start_time_is_never_opened() {
        let child = Child::start();
        let pid = child.0.id().cast_signed();
        let dir = TaskDir::open(&Path::new("/proc").join(format!("{pid}/task/{pid}"))).unwrap();
        let start = dir.stat().unwrap().unwrap().start_time;
        let error = Resumable::open(pid, start + 1).unwrap_err();
        assert!(matches!(error, HandleError::OtherProcess { .. }), "{error}");
        let target = Resumable::open(pid, start).unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
        while !target.is_stopped() {
            std::thread::yield_now();
        }
        target.resume().unwrap();
        while target.is_stopped() {
            std::thread::yield_now();
        }
    }
}
