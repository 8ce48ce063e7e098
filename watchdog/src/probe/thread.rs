//! One registered thread: its pidfd, its folder in `/proc`, and whether it exists.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use shard_heartbeat::{LaneSample, ThreadSample};

use crate::observation::{Presence, TaskObservation, TaskState, WorkerObservation};

use super::task::{TaskDir, Unreadable};
use super::worker::{Room, Workers};
use super::{Adopted, ThreadEvents};

/// `PIDFD_THREAD` of `linux/pidfd.h` is `O_EXCL`; rustix has no name for it.
fn pidfd_thread() -> PidfdFlags {
    PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits())
}

/// A thread and what is kept open for it.
#[derive(Debug)]
pub struct WatchedThread {
    key: (u32, u64),
    name: Arc<str>,
    tid: i32,
    start_time: u64,
    /// Ticks by which start times may differ: one where a time namespace moves them by a part of a tick.
    slack: u64,
    is_leader: bool,
    pidfd: Option<OwnedFd>,
    dir: Option<TaskDir>,
    presence: Presence,
    workers: Workers,
}

impl WatchedThread {
    /// Opens what there is to open. A thread that has ended already is gone from the start.
    pub fn open(slot: &ThreadSample, name: Arc<str>, target: &Adopted, events: ThreadEvents) -> Self {
        let mut thread = Self {
            key: (slot.slot, slot.generation),
            name,
            tid: 0,
            start_time: slot.start_time.wrapping_add_signed(target.start_time_offset),
            slack: u64::from(target.start_time_offset != 0),
            is_leader: false,
            pidfd: None,
            dir: None,
            presence: Presence::Gone,
            workers: Workers::default(),
        };
        let tid = match our_tid(slot.tid, target) {
            Ok(Some(tid)) => tid,
            Ok(None) => return thread,
            Err(Unreadable) => {
                // Nobody looked, so nobody knows.
                thread.presence = Presence::Unknown;
                return thread;
            }
        };
        thread.tid = tid;
        thread.is_leader = tid == target.handle.identity().pid;
        match TaskDir::open(&target.proc_dir.join("task").join(tid.to_string())) {
            Ok(dir) => {
                thread.presence = dir.presence(thread.start_time, thread.slack);
                thread.dir = Some(dir);
            }
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(_) => thread.presence = Presence::Unknown,
        }
        // A leader's pidfd does not fire before the last thread's: it is polled on every kernel.
        if events == ThreadEvents::Pidfd && !thread.is_leader && thread.presence == Presence::Present {
            thread.open_pidfd();
        }
        thread
    }

    fn open_pidfd(&mut self) {
        let Some(tid) = Pid::from_raw(self.tid) else { return };
        match rustix::process::pidfd_open(tid, pidfd_thread()) {
            Ok(pidfd) => {
                self.pidfd = Some(pidfd);
                // The tid may have changed hands before the pidfd was open: then this one is gone.
                self.presence = self
                    .dir
                    .as_ref()
                    .map_or(Presence::Unknown, |dir| dir.presence(self.start_time, self.slack));
            }
            Err(Errno::SRCH) => self.presence = Presence::Gone,
            // EINVAL before Linux 6.9, EMFILE, EPERM: it is polled instead.
            Err(_) => {}
        }
    }

    /// Slot and its use.
    pub const fn key(&self) -> (u32, u64) {
        self.key
    }

    /// Registered name.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Thread id as the sidecar sees it; zero if there is no such thread.
    pub const fn tid(&self) -> i32 {
        self.tid
    }

    /// Both, where others stand.
    pub fn tell(&self, name: &mut Arc<str>, tid: &mut i32) {
        if !Arc::ptr_eq(name, &self.name) {
            name.clone_from(&self.name);
        }
        *tid = self.tid;
    }

    /// Whether it exists, as of the last look.
    pub const fn presence(&self) -> Presence {
        self.presence
    }

    /// The descriptor that becomes readable at its end.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// The same thread, polled.
    pub fn without_event(mut self) -> Self {
        self.pidfd = None;
        self
    }

    /// Whether nothing could be opened for it, for want of descriptors or memory: it should be tried again.
    pub fn wants_opening(&self) -> bool {
        self.dir.is_none() && self.presence == Presence::Unknown
    }

    /// Its pidfd fired.
    pub const fn ended(&mut self) {
        self.presence = Presence::Gone;
    }

    /// Polls it, if no event will tell of its end.
    pub fn look(&mut self, leader: &TaskDir) {
        if self.presence == Presence::Gone || self.pidfd.is_some() {
            return;
        }
        self.presence = if self.is_leader {
            match leader.stat() {
                Ok(Some(stat)) if matches!(stat.state, TaskState::Zombie | TaskState::Dead) => Presence::Gone,
                Ok(Some(_)) => Presence::Present,
                Ok(None) => Presence::Gone,
                Err(_) => Presence::Unknown,
            }
        } else {
            self.dir.as_ref().map_or(Presence::Unknown, |dir| dir.presence(self.start_time, self.slack))
        };
    }

    /// The kernel's view of it.
    pub fn task(&self) -> Option<TaskObservation> {
        self.dir.as_ref()?.observe()
    }

    /// The kernel's view of the workers in its lanes.
    pub fn workers(
        &mut self,
        lanes: &[LaneSample],
        target: &Adopted,
        room: &mut Room,
        into: &mut Vec<WorkerObservation>,
    ) {
        self.workers.observe(lanes, target, room, into);
    }
}

/// The thread id as this process sees it; `None` if a complete search found no such thread.
pub(super) fn our_tid(theirs: u64, target: &Adopted) -> Result<Option<i32>, Unreadable> {
    let theirs = i32::try_from(theirs).ok().filter(|tid| *tid > 0).ok_or(Unreadable)?;
    if !target.other_pid_namespace {
        return Ok(Some(theirs));
    }
    let tasks = std::fs::read_dir(target.proc_dir.join("task")).map_err(|_| Unreadable)?;
    let mut complete = true;
    for entry in tasks {
        let entry = entry.map_err(|_| Unreadable)?;
        let status = match TaskDir::open(&entry.path()) {
            Ok(dir) => dir.status(),
            Err(Errno::NOENT | Errno::SRCH) => continue,
            Err(_) => return Err(Unreadable),
        };
        let Some(namespaces) = status.and_then(|status| status.nspid) else {
            complete = false;
            continue;
        };
        if namespaces.last() == Some(&theirs) {
            return Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()));
        }
    }
    if complete { Ok(None) } else { Err(Unreadable) }
}
