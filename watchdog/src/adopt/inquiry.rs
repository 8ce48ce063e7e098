//! The thread that asks whether the targets map their segments still, and does nothing else. The
//! adopter stats and opens paths, and asks after other processes; where a file system is frozen it
//! hangs, and the answers, without which nobody is signalled, may not grow old for that. So nothing
//! here asks a file system but `/proc`, and of that only the targets' own folders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::probe::wakeup::Waker;

use super::kept_maps::KeptMaps;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Inquiry {
    questions: Questions,
    stop: Arc<AtomicBool>,
}

/// Where the adopter hands over what is to be asked.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    added: Added,
    thread: Thread,
}

/// What the thread has not taken over yet.
#[derive(Clone, Debug, Default)]
struct Added(Arc<Mutex<Vec<KeptMaps>>>);

impl Inquiry {
    /// Starts the thread, which asks for each target once in `every`, and wakes the loop by `waker`
    /// when it has to hear of an answer.
    ///
    /// # Errors
    /// If no thread can be started.
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

    /// Has it ask at once, where an answer is wanted. Waits for nobody.
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
    /// Has that asked from now on, until nobody wants to know any more.
    pub(super) fn add(&self, kept: KeptMaps) {
        {
            let mut added = self.added.lock();
            // The thread may hang for long, while targets come and go.
            added.retain(KeptMaps::is_wanted);
            added.push(kept);
        }
        self.thread.unpark();
    }
}

impl Added {
    /// Never held while a question is asked.
    fn lock(&self) -> MutexGuard<'_, Vec<KeptMaps>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it sleeps while there is nothing to ask: being woken is most of what such a thread
/// costs.
const NOBODY_ASKED: Duration = Duration::from_secs(5);

fn ask(added: &Added, stop: &AtomicBool, waker: &Waker, every: Duration) {
    // Of whoever is watched, or may be: one that ends, and one that waits for its end.
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
        // Whoever has a question wakes this thread; the time is for a wake-up that went missing.
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
        // It is due once in an hour: what is asked sooner was wanted.
        let inquiry = Inquiry::start(Wakeup::new().unwrap().waker(), Duration::from_secs(3_600)).unwrap();
        inquiry.questions().add(kept);
        assert!(!mapped.confirmed_anew(now()));
        inquiry.ask_again();
        wait_for(|| !mapped.is_wanted());
        // SAFETY: nobody uses what was mapped above.
        unsafe { rustix::mm::munmap(at, SIZE) }.unwrap();
        // The first takes the answer from before, the second wants another.
        while mapped.confirmed_anew(now()) {}
        inquiry.ask_again();
        wait_for(|| mapped.is_lost());
        let left = Arc::downgrade(&mapped);
        drop(mapped);
        // The next target is asked for, and the descriptors of this one go.
        inquiry.ask_again();
        wait_for(|| left.strong_count() == 0);
    }
}
