//! What the watch loop sleeps on: one epoll with the target's pidfd, its threads' pidfds and an eventfd by which
//! other threads wake it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::clock::Monotonic;

const CALLED: u64 = u64::MAX;
const PROCESS: u64 = u64::MAX - 1;
/// More events than this at once are taken in the next round.
const BATCH: usize = 64;

/// Why the loop woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Another thread called.
    Called,
    /// The process ended.
    Process,
    /// The thread in this slot ended.
    Thread(usize),
}

/// Wakes the loop from another thread, without ever waiting for it.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Wakes the loop, now or as soon as it would sleep.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the loop is as good as woken.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// The epoll.
#[derive(Debug)]
pub struct Wakeup {
    epoll: OwnedFd,
    waker: Arc<Waker>,
    woken: Vec<Woken>,
}

impl Wakeup {
    /// An epoll with nothing in it but the waker.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = Arc::new(Waker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        epoll::add(&epoll, &waker.0, EventData::new_u64(CALLED), EventFlags::IN)?;
        Ok(Self { epoll, waker, woken: Vec::with_capacity(BATCH) })
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Reports the end of a process. Once: a readable pidfd stays readable.
    pub fn watch_process(&self, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, pidfd, EventData::new_u64(PROCESS), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// Reports the end of a thread, by its slot. Once.
    pub fn watch_thread(&self, pidfd: BorrowedFd<'_>, slot: usize) -> Result<(), Errno> {
        epoll::add(&self.epoll, pidfd, EventData::new_u64(slot as u64), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// Stops watching. An error means that it was not watched.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Sleeps until `until` at the latest and says what happened.
    pub fn wait(&mut self, until: Monotonic) -> &[Woken] {
        self.woken.clear();
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let timeout = timespec(until.since(crate::clock::now()));
        // EINTR is the only error that a valid epoll gives; the loop then looks early, which harms nothing.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut buffer[..], Some(&timeout)) else {
            return &self.woken;
        };
        for event in events {
            self.woken.push(match event.data.u64() {
                CALLED => {
                    let mut count = [0; 8];
                    let _ = rustix::io::read(&self.waker.0, &mut count);
                    Woken::Called
                }
                PROCESS => Woken::Process,
                slot => Woken::Thread(usize::try_from(slot).unwrap_or(usize::MAX)),
            });
        }
        &self.woken
    }

    /// Whether `pidfd` is readable right now; asked only if `ask`, since the event says so otherwise.
    pub fn is_readable(&self, pidfd: BorrowedFd<'_>, ask: bool) -> bool {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        ask && poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
