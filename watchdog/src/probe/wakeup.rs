//! What the watch loop sleeps on: an epoll with the target's pidfd, the pidfds of its threads, and
//! an eventfd by which other threads wake the loop.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::clock::Monotonic;

const CALLED: u64 = u64::MAX;
const PROCESS: u64 = u64::MAX - 1;
/// If there are more events at once, the next round takes the rest.
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

/// Wakes the loop from another thread, without ever blocking.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Wakes the loop, now or as soon as it would sleep.
    pub fn wake(&self) {
        // Fails only when the counter is full, in which case the loop is going to wake anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Decodes the data of an event. Consumes a call.
    fn told(&self, data: u64) -> Woken {
        match data {
            CALLED => {
                let mut count = [0; 8];
                let _ = rustix::io::read(&self.0, &mut count);
                Woken::Called
            }
            PROCESS => Woken::Process,
            slot => Woken::Thread(usize::try_from(slot).unwrap_or(usize::MAX)),
        }
    }
}

/// The epoll.
#[derive(Debug)]
pub struct Wakeup {
    epoll: OwnedFd,
    waker: Arc<Waker>,
    woken: Vec<Woken>,
    how: Sleep,
}

/// How to sleep with a resolution finer than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// By `epoll_pwait2`: one call.
    Epoll,
    /// By `ppoll` on the epoll, followed by a non-blocking wait. Linux before 5.11 has no
    /// `epoll_pwait2`, and container profiles older than that forbid it. If that failure were
    /// treated as an interrupted wait, the loop would not sleep at all.
    Poll,
}

/// What the kernel lacks or a container's profile forbids.
#[derive(Debug, thiserror::Error)]
#[error(
    "{call}: {source}. The sidecar cannot do without it: it needs Linux 4.18 or later, and in a container a seccomp profile that allows {call}"
)]
pub struct Lacking {
    /// The system call.
    call: &'static str,
    /// The kernel's error.
    source: Errno,
}

fn lacking(call: &'static str) -> impl FnOnce(Errno) -> Lacking {
    move |source| Lacking { call, source }
}

impl Wakeup {
    /// An epoll that contains only the waker.
    ///
    /// # Errors
    /// If the kernel lacks a required call.
    pub fn new() -> Result<Self, Lacking> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(lacking("epoll_create1"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let waker = Arc::new(Waker(eventfd(0, flags).map_err(lacking("eventfd2"))?));
        epoll::add(&epoll, &waker.0, EventData::new_u64(CALLED), EventFlags::IN)
            .map_err(lacking("epoll_ctl"))?;
        Ok(Self { epoll, waker, woken: Vec::with_capacity(BATCH), how: Sleep::Epoll })
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Reports the end of a process, once: a readable pidfd stays readable.
    pub fn watch_process(&self, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, pidfd, EventData::new_u64(PROCESS), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// Reports the end of a thread, by its slot, once.
    pub fn watch_thread(&self, pidfd: BorrowedFd<'_>, slot: usize) -> Result<(), Errno> {
        epoll::add(&self.epoll, pidfd, EventData::new_u64(slot as u64), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// Stops watching. An error means that it was not being watched.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Sleeps until `until` at the latest, and returns what happened.
    pub fn wait(&mut self, until: Monotonic) -> &[Woken] {
        self.woken.clear();
        let timeout = timespec(until.since(crate::clock::now()));
        if self.how == Sleep::Epoll {
            let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
            match epoll::wait(&self.epoll, &mut buffer[..], Some(&timeout)) {
                Ok((events, _)) => {
                    for event in events {
                        self.woken.push(self.waker.told(event.data.u64()));
                    }
                    return &self.woken;
                }
                // The loop then observes early, which is harmless.
                Err(Errno::INTR) => return &self.woken,
                Err(_) => self.how = Sleep::Poll,
            }
        }
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
            self.take_events();
        }
        &self.woken
    }

    /// Collects what is ready now, using the call that every kernel has.
    fn take_events(&mut self) {
        let mut buffer = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let room = libc::c_int::try_from(BATCH).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer has room for as many events as are requested, and outlives the call,
        // which does not wait.
        let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), buffer.as_mut_ptr(), room, 0) };
        for event in buffer.iter().take(usize::try_from(ready).unwrap_or(0)) {
            self.woken.push(self.waker.told(event.u64));
        }
    }

    /// Whether `pidfd` is readable right now; checked only if `ask`, since otherwise an event
    /// reports it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_and_wakes_in_both_ways() {
        for how in [Sleep::Epoll, Sleep::Poll] {
            let mut wakeup = Wakeup::new().unwrap();
            wakeup.how = how;
            let began = crate::clock::now();
            let until = began.plus(Duration::from_millis(20));
            assert_eq!(wakeup.wait(until), [], "{how:?}: nobody has called");
            assert!(crate::clock::now() >= until, "{how:?}: it has slept");
            wakeup.waker().wake();
            assert_eq!(wakeup.wait(began.plus(Duration::from_secs(600))), [Woken::Called], "{how:?}");
            assert_eq!(wakeup.wait(crate::clock::now()), [], "{how:?}: a call is heard once");
        }
    }
}
