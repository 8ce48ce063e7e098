//! The helpers: named threads that take part in whatever their owner executes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use tracing::warn;

use super::memory::Memory;

/// How often the owner checks whether a helper has come back before it sleeps between checks.
const LOOKS: u32 = 2_000;
/// How long it sleeps between later checks.
const SLEEP: Duration = Duration::from_micros(100);
/// How often an idle helper checks whether it is still needed. Orders wake it at once.
const IDLE: Duration = Duration::from_secs(1);
/// How long helpers get to notice that they are no longer needed.
const FAREWELL: Duration = Duration::from_millis(500);

/// Work that helpers take part in.
pub(super) trait Help: Send + Sync {
    /// Takes part until there is nothing left to do.
    fn help(&self, beat: &dyn WorkerBeat);
}

/// A helper's heartbeat.
pub trait WorkerBeat {
    /// Reports that the helper is about to execute a transaction.
    fn begin(&self) {}
    /// Reports that the helper has made progress.
    fn progress(&self);
    /// Reports that the helper ends in an orderly way.
    fn leave(self: Box<Self>);
}

/// Reports nothing; for the owner, which has a heartbeat of its own.
pub(super) struct NoBeat;

impl WorkerBeat for NoBeat {
    fn progress(&self) {}
    fn leave(self: Box<Self>) {}
}

/// Work that each helper does by itself.
struct Each<F>(F);

impl<F: Fn() + Send + Sync> Help for Each<F> {
    fn help(&self, _: &dyn WorkerBeat) {
        (self.0)();
    }
}

/// The helpers of one owner. Dropping the pool ends them.
#[derive(Default)]
pub struct Pool {
    helpers: Vec<Helper>,
    /// The memory of the previous batch, if all helpers have released it: clearing one is faster
    /// than allocating one.
    spare: Mutex<Option<Memory>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("helpers", &self.helpers).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Helper {
    name: String,
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Mailbox {
    order: Mutex<Option<Arc<dyn Help>>>,
    /// True from when an order is placed until the helper has released it or it is taken back.
    busy: AtomicBool,
    closed: AtomicBool,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("busy", &self.busy).finish_non_exhaustive()
    }
}

/// Marks the helper as free when dropped, even after a panic.
struct Home<'a>(&'a Mailbox);

impl Drop for Home<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Pool {
    /// Starts `threads - 1` helpers, named `{owner}-w1` and so on; the owner is the first of the
    /// threads. `beat` is called on each helper's own thread and returns its heartbeat; a helper
    /// for which it returns `None` does not report.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        owner: &str,
        threads: usize,
        beat: impl Fn() -> Option<Box<dyn WorkerBeat>> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut pool = Self::default();
        for number in 1..threads {
            let name = format!("{owner}-w{number}");
            let mailbox = Arc::<Mailbox>::default();
            let (beat, orders) = (beat.clone(), Arc::clone(&mailbox));
            let begin = move || work(&orders, beat().unwrap_or_else(|| Box::new(NoBeat)));
            let thread = thread::Builder::new().name(name.clone()).spawn(begin)?;
            pool.helpers.push(Helper { name, mailbox, thread });
        }
        Ok(pool)
    }

    /// A memory for this many transactions.
    pub(super) fn memory(&self, places: usize) -> Memory {
        lock(&self.spare).take().map_or_else(|| Memory::new(places), |spare| spare.anew(places))
    }

    /// Stores a memory that is no longer in use, for the next batch.
    pub(super) fn keep(&self, memory: Memory) {
        *lock(&self.spare) = Some(memory);
    }

    /// Whether the pool has no helpers.
    pub fn is_empty(&self) -> bool {
        self.helpers.is_empty()
    }

    /// The first helper whose thread has ended.
    pub fn lost(&self) -> Option<&str> {
        self.helpers.iter().find(|helper| helper.thread.is_finished()).map(|helper| helper.name.as_str())
    }

    /// The first helper that still has not come back from work that is over.
    pub fn missing(&self) -> Option<&str> {
        self.helpers
            .iter()
            .find(|helper| helper.mailbox.busy.load(Ordering::Acquire))
            .map(|h| h.name.as_str())
    }

    /// Gives the work to every helper that is free.
    pub(super) fn give<H: Help + 'static>(&self, help: &Arc<H>) {
        for helper in &self.helpers {
            if helper.mailbox.busy.swap(true, Ordering::AcqRel) {
                warn!(thread = helper.name, "still busy with earlier work, left out");
                continue;
            }
            *lock(&helper.mailbox.order) = Some(Arc::clone(help) as Arc<dyn Help>);
            helper.thread.thread().unpark();
        }
    }

    /// Lets each free helper run `work` once, and waits until all have, but not past `until`.
    pub fn each(&self, until: Instant, work: impl Fn() + Send + Sync + 'static) {
        let each = Arc::new(Each(work));
        self.give(&each);
        for helper in &self.helpers {
            while helper.mailbox.busy.load(Ordering::Acquire) && Instant::now() < until {
                // If nobody takes the order, the thread may be gone.
                if helper.thread.is_finished() {
                    break;
                }
                thread::sleep(SLEEP);
            }
        }
        self.gather(until);
    }

    /// Takes back orders that no helper has begun, and waits until helpers have released the rest,
    /// but not past `until`.
    pub(super) fn gather(&self, until: Instant) {
        for helper in &self.helpers {
            if lock(&helper.mailbox.order).take().is_some() {
                helper.mailbox.busy.store(false, Ordering::Release);
            }
            let mut looks = 0;
            while helper.mailbox.busy.load(Ordering::Acquire) {
                looks += 1;
                if looks < LOOKS {
                    std::hint::spin_loop();
                } else if Instant::now() >= until {
                    break;
                } else {
                    thread::sleep(SLEEP);
                }
            }
        }
    }
}

fn work(mailbox: &Mailbox, beat: Box<dyn WorkerBeat>) {
    while !mailbox.closed.load(Ordering::Acquire) {
        let order = lock(&mailbox.order).take();
        let Some(help) = order else {
            thread::park_timeout(IDLE);
            continue;
        };
        // Dropped last: once the helper is free, the owner may reclaim what `help` holds.
        let _home = Home(mailbox);
        help.help(&*beat);
        drop(help);
    }
    beat.leave();
}

impl Drop for Pool {
    fn drop(&mut self) {
        for helper in &self.helpers {
            helper.mailbox.closed.store(true, Ordering::Release);
            helper.thread.thread().unpark();
        }
        let deadline = Instant::now() + FAREWELL;
        for helper in &self.helpers {
            while !helper.thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if !helper.thread.is_finished() {
                warn!(thread = helper.name, "thread does not end; leaving it behind");
            }
        }
    }
}

/// A thread that panicked while holding the lock has left the mailbox intact.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
