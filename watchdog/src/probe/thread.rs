//! One registered thread: its pidfd, its folder in `/proc`, and whether it exists.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use shard_heartbeat::{LaneSample, ThreadSample};

use crate::observation::{Presence, TaskObservation, TaskState, WorkerObservation};

use super::allowance::{Allowance, Place};
use super::start_times::StartTime;
use super::task::{StatusError, TaskDir, TaskFate, Unreadable};
use super::worker::{Room, Workers};
use super::{Adopted, ThreadEvents};

/// `PIDFD_THREAD` of `linux/pidfd.h` is `O_EXCL`; rustix has no name for it.
fn pidfd_thread() -> PidfdFlags {
    PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits())
}

/// How ends of threads can be noticed here: as `wanted`, if that is possible. A kernel before 6.9,
/// or a profile that forbids the call, has none of these pidfds, and then the loop must poll.
pub fn possible(wanted: ThreadEvents) -> ThreadEvents {
    let own = rustix::thread::gettid();
    match wanted {
        ThreadEvents::Pidfd if rustix::process::pidfd_open(own, pidfd_thread()).is_ok() => {
            ThreadEvents::Pidfd
        }
        ThreadEvents::Pidfd | ThreadEvents::Poll => ThreadEvents::Poll,
    }
}

/// How important it is to watch a thread, when not all can be watched. The smallest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Its rule kills.
    Kills,
    /// Its rule reports.
    Reports,
    /// No rule matches it, or one that ignores it.
    Unruled,
    /// It has left the watch in order.
    Left,
}

/// A thread and what is held open for it: two descriptors, and optional ones if there is room. The
/// two are its pidfd and its folder in `/proc`; without a pidfd, the folder and its `stat`.
#[derive(Debug)]
pub struct WatchedThread {
    key: (u32, u64),
    name: Arc<str>,
    rank: Rank,
    tid: i32,
    start_time: StartTime,
    is_leader: bool,
    pidfd: Option<(OwnedFd, Place)>,
    /// In a box: it is large, and needed only for a thread without progress or one that has ended.
    dir: Option<Box<TaskDir>>,
    presence: Presence,
    /// It had ended when it was opened, and its slot was read before that: only the next reading
    /// shows whether it left first.
    unheard: bool,
    workers: Workers,
}

impl WatchedThread {
    /// Opens what exists. A thread that has already ended is gone from the start.
    pub fn open(
        slot: &ThreadSample,
        (name, rank): (Arc<str>, Rank),
        target: &Adopted,
        events: ThreadEvents,
        allowance: &Arc<Allowance>,
    ) -> Self {
        let mut thread = Self {
            key: (slot.slot, slot.generation),
            name,
            rank,
            tid: 0,
            start_time: target.start_times.of(slot.tid, slot.start_time),
            is_leader: false,
            pidfd: None,
            dir: None,
            presence: Presence::Gone,
            unheard: false,
            workers: Workers::default(),
        };
        let tid = match our_tid(slot.tid, target) {
            Ok(Some(tid)) => tid,
            Ok(None) => return thread,
            Err(Unreadable) => {
                // It could not be searched for, so this is unknown.
                thread.presence = Presence::Unknown;
                return thread;
            }
        };
        thread.tid = tid;
        thread.is_leader = tid == target.handle.identity().pid;
        // A leader's pidfd does not fire before the last thread's, so the leader is polled on every
        // kernel, through its process.
        let second = if thread.is_leader { None } else { allowance.place() };
        if second.is_none() && !thread.is_leader {
            thread.close_for_want();
            return thread;
        }
        match TaskDir::open_within(&target.proc_dir.join("task").join(tid.to_string()), allowance) {
            Ok(dir) => {
                thread.presence = dir.presence(thread.start_time);
                thread.dir = Some(Box::new(dir));
            }
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => thread.close_for_want(),
            Err(_) => thread.presence = Presence::Unknown,
        }
        if let Some(place) = second
            && thread.presence == Presence::Present
        {
            match events {
                ThreadEvents::Pidfd => thread.open_pidfd(place),
                ThreadEvents::Poll => thread.keep_stat(place),
            }
        }
        if thread.presence == Presence::Gone {
            thread.ended();
        }
        thread
    }

    fn open_pidfd(&mut self, place: Place) {
        let Some(tid) = Pid::from_raw(self.tid) else { return };
        match rustix::process::pidfd_open(tid, pidfd_thread()) {
            Ok(pidfd) => {
                self.pidfd = Some((pidfd, place));
                // The tid may have changed hands before the pidfd was open: then it is gone.
                self.presence =
                    self.dir.as_ref().map_or(Presence::Unknown, |dir| dir.presence(self.start_time));
            }
            Err(Errno::SRCH) => self.presence = Presence::Gone,
            // EINVAL before Linux 6.9, EPERM: it is polled instead.
            Err(_) => self.keep_stat(place),
        }
    }

    fn keep_stat(&mut self, place: Place) {
        if let Some(dir) = &mut self.dir {
            dir.keep_stat(place);
        }
    }

    /// Whether it may bear witness when another thread is lost. The main thread does anyway.
    pub const fn may_be_bystander(&self) -> bool {
        self.holds() && !self.is_leader && matches!(self.presence, Presence::Present)
    }

    /// Keeps its `stat` open in addition to its counted descriptors. Returns whether it is open.
    pub fn keep_stat_open(&mut self) -> bool {
        self.dir.as_deref_mut().is_some_and(TaskDir::keep_stat_uncounted)
    }

    /// Whether it is ending.
    pub fn fate(&self) -> Option<TaskFate> {
        self.dir.as_ref()?.fate()
    }

    /// Notes that it has just been opened, for a slot that was read before.
    pub const fn opened(&mut self) {
        self.unheard = matches!(self.presence, Presence::Gone);
    }

    /// Whether nothing may be reported about it before its slot is read again.
    pub const fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// How important it is to watch it.
    pub const fn rank(&self) -> Rank {
        self.rank
    }

    /// Sets the rank, when another rule applies.
    pub const fn set_rank(&mut self, rank: Rank) {
        self.rank = rank;
    }

    /// Whether anything is open for it.
    pub const fn holds(&self) -> bool {
        self.dir.is_some()
    }

    /// Closes everything for it, because others need the room. Whether it exists is then unknown.
    pub fn close_for_want(&mut self) {
        (self.dir, self.pidfd, self.workers) = (None, None, Workers::default());
        self.presence = Presence::Unopened;
    }

    /// Closes what can be reopened without losing track of it.
    pub fn close_spare(&mut self) {
        if let Some(dir) = &mut self.dir {
            dir.close_spare();
        }
        self.workers = Workers::default();
    }

    /// Its slot, and the generation of that slot.
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

    /// Copies both to an observation, where they differ.
    pub fn tell(&self, name: &mut Arc<str>, tid: &mut i32) {
        if !Arc::ptr_eq(name, &self.name) {
            name.clone_from(&self.name);
        }
        *tid = self.tid;
    }

    /// Whether it exists, as of the last observation.
    pub const fn presence(&self) -> Presence {
        self.presence
    }

    /// The descriptor that becomes readable when it ends.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|(pidfd, _)| pidfd.as_fd())
    }

    /// The same thread, polled.
    pub fn without_event(mut self) -> Self {
        if let Some((_, place)) = self.pidfd.take() {
            self.keep_stat(place);
        }
        self
    }

    /// Whether nothing could be opened for it, for lack of descriptors or memory, so that it should
    /// be retried.
    pub fn wants_opening(&self) -> bool {
        self.dir.is_none() && matches!(self.presence, Presence::Unknown | Presence::Unopened)
    }

    /// Notes that it has ended: nothing more can be learned about it, so nothing stays open for it.
    pub fn ended(&mut self) {
        (self.dir, self.pidfd, self.workers) = (None, None, Workers::default());
        self.presence = Presence::Gone;
    }

    /// Whether [`look`](Self::look) has something to do: no event would report its end, or it was
    /// opened in the last observation.
    pub const fn wants_look(&self) -> bool {
        self.unheard || self.pidfd.is_none() && !matches!(self.presence, Presence::Gone | Presence::Unopened)
    }

    /// Polls it, if no event will report its end. To be called before the segment is read.
    pub fn look(&mut self, leader: &TaskDir) {
        self.unheard = false;
        if matches!(self.presence, Presence::Gone | Presence::Unopened) || self.pidfd.is_some() {
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
            self.dir.as_ref().map_or(Presence::Unknown, |dir| dir.presence(self.start_time))
        };
        if self.presence == Presence::Gone {
            self.ended();
        }
    }

    /// The kernel's view of it.
    pub fn task(&self) -> Option<TaskObservation> {
        self.dir.as_ref()?.observe()
    }

    /// The CPUs on which it and its workers ran last, as far as the last observation found them
    /// runnable.
    pub fn runnable_on(&self) -> impl Iterator<Item = u32> {
        let own = self.dir.as_ref().and_then(|dir| dir.runnable_on());
        own.into_iter().chain(self.workers.runnable_on())
    }

    /// The kernel's view of the workers in its lanes.
    pub fn workers(
        &mut self,
        lanes: &[LaneSample],
        target: &Adopted,
        room: &mut Room,
        allowance: &Arc<Allowance>,
        into: &mut Vec<WorkerObservation>,
    ) {
        self.workers.observe(lanes, target, room, allowance, into);
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
        let status = match TaskDir::open(&entry.path()).map(|dir| dir.try_status()) {
            Ok(Ok(Some(status))) => status,
            // Ended meanwhile.
            Ok(Ok(None)) | Err(Errno::NOENT | Errno::SRCH) => continue,
            Ok(Err(StatusError::Refused(_) | StatusError::Malformed)) => {
                complete = false;
                continue;
            }
            Err(_) => return Err(Unreadable),
        };
        let Some(namespaces) = status.nspid else {
            complete = false;
            continue;
        };
        if namespaces.last() == Some(&theirs) {
            return Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()));
        }
    }
    if complete { Ok(None) } else { Err(Unreadable) }
}
