//! The thread that checks whether the targets still map their segments, and does nothing else. The
//! adopter stats and opens paths and inspects other processes, so it hangs where a file system is
//! frozen. The answers must not grow old for that, since nothing is signalled without them. So this
//! thread uses no file system but `/proc`, and there only the targets' own folders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::probe::wakeup::Waker;

use super::kept_maps::KeptMaps;

/// The thread's handle. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Inquiry {
    questions: Questions,
    stop: Arc<AtomicBool>,
}

/// Where the adopter hands over what is to be checked.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    added: Added,
    thread: Thread,
}

/// What the thread has not taken over yet.
#[derive(Clone, Debug, Default)]
struct Added(Arc<Mutex<Vec<KeptMaps>>>);

impl Inquiry {
    /// Starts the thread. It checks each target once per `every`, and wakes the loop through
    /// `waker` when an answer concerns it.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(waker: Arc<Waker>, every: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let added = Added::default();
        let (stopped, taken) = (Arc::clone(&stop), added.clone());
        let thread = std::thread::Builder::new()
            .name("mappings".to_owned())
            .spawn(move || ask(&taken, &stopped, &waker, every))?;
        // Not joined when it ends: it may hang in `/proc`.
        Ok(Self { questions: Questions { added, thread: thread.thread().clone() }, stop })
    }

    /// The adopter's end.
    pub(super) fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// Makes the thread check now, where an answer is wanted. Never blocks.
    pub(super) fn ask_again(&self) {
        self.questions.thread.unpark();
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.questions.thread.unpark();
    }
}

impl Questions {
    /// Has this checked from now on, until nobody wants the answer any more.
    pub(super) fn add(&self, kept: KeptMaps) {
        {
            let mut added = self.added.lock();
            // The thread may hang for long while targets come and go.
            added.retain(KeptMaps::is_wanted);
            added.push(kept);
        }
        self.thread.unpark();
    }
}

impl Added {
    /// Never held during a check.
    fn lock(&self) -> MutexGuard<'_, Vec<KeptMaps>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the thread sleeps while there is nothing to check: waking is most of what such a thread
/// costs.
const NOBODY_ASKED: Duration = Duration::from_secs(5);

fn ask(added: &Added, stop: &AtomicBool, waker: &Waker, every: Duration) {
    // The targets that are or may be watched: perhaps one that is ending and one waiting for that.
    let mut asked = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        asked.append(&mut added.lock());
        asked.retain(KeptMaps::is_wanted);
        let mut told = false;
        for kept in &mut asked {
            told |= kept.ask(crate::clock::now(), every);
        }
        if told {
            waker.wake();
        }
        // Whoever wants an answer wakes this thread; the timeout covers a lost wake-up.
        std::thread::park_timeout(if asked.is_empty() { NOBODY_ASKED } else { every });
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::time::Instant;

    use rustix::mm::{MapFlags, ProtFlags};
    use shard_heartbeat::FileId;

    use super::*;
    use crate::clock::now;
    use crate::probe::mapped::Mapped;
    use crate::probe::wakeup::Wakeup;

    const SIZE: usize = 4_096;
    /// Longer than a busy machine keeps a thread waiting.
    const BOUND: Duration = Duration::from_secs(60);

    fn wait_for(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < BOUND, "it was not asked");
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_is_asked_with_nobody_else_running_until_nobody_wants_to_know() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE as u64).unwrap();
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody reads or writes
        // through.
        let at = unsafe {
            let rights = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), SIZE, rights, MapFlags::SHARED, file.as_file(), 0)
        };
        let at = at.unwrap();
        let stat = rustix::fs::fstat(file.as_file()).unwrap();
        let (dev_major, dev_minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let id = FileId { dev_major, dev_minor, inode: stat.st_ino };
        let mapped = Arc::new(Mapped::default());
        let process = File::open("/proc/self").unwrap();
        let kept = KeptMaps::open(process.as_fd(), id, file.path(), &mapped, now()).unwrap();
        // It is due once an hour, so anything sooner was requested.
        let inquiry = Inquiry::start(Wakeup::new().unwrap().waker(), Duration::from_secs(3_600)).unwrap();
        inquiry.questions().add(kept);
        assert!(!mapped.confirmed_anew(now()));
        inquiry.ask_again();
        wait_for(|| !mapped.is_wanted());
        // SAFETY: nobody uses what was mapped above.
        unsafe { rustix::mm::munmap(at, SIZE) }.unwrap();
        // The first call takes the earlier answer, the second requests another.
        while mapped.confirmed_anew(now()) {}
        inquiry.ask_again();
        wait_for(|| mapped.is_lost());
        let left = Arc::downgrade(&mapped);
        drop(mapped);
        // The next target is checked, and the descriptors of this one are closed.
        inquiry.ask_again();
        wait_for(|| left.strong_count() == 0);
    }
}
