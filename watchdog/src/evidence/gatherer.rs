//! The thread that gathers evidence. The watch loop hands it one subject at a time and is woken
//! when it is done. If a read hangs, so does this thread, and whatever is condemned next is killed
//! without evidence.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::clock::{Monotonic, now};
use crate::probe::wakeup::Waker;
use crate::snapshot::TargetIdentity;

use super::{Evidence, Subject};

/// Why nothing takes dumps that are wanted.
const NO_HELPER: &str = "no evidence helper runs: evidence.minidump takes effect when the sidecar starts, and not with \
                         kill.by = \"exit-code\"";
/// It needs little: whatever grows is on the heap.
const STACK: usize = 256 << 10;

/// What evidence is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The incident of this number within the life of this sidecar.
    Incident(u64),
    /// The near miss of this number.
    NearMiss(u64),
    /// To learn at adoption what of the process may be read.
    Rehearsal,
}

/// What is to be gathered.
#[derive(Debug)]
pub struct Request {
    /// What it is for.
    pub purpose: Purpose,
    /// The process.
    pub target: TargetIdentity,
    /// Its folder in `/proc`.
    pub process: Arc<OwnedFd>,
    /// Whose evidence is wanted.
    pub subject: Subject,
    /// When to stop.
    pub deadline: Monotonic,
    /// Whether a minidump is wanted too.
    pub dump: bool,
}

/// A minidump that was taken.
#[derive(Clone, Debug)]
pub struct Dump {
    /// The dump, from its beginning, in memory. It is untrusted.
    pub file: Arc<File>,
    /// Threads in it.
    pub threads: u32,
    /// Its size.
    pub bytes: u64,
    /// How long the process stood still for it, at most.
    pub stood_still: Duration,
}

/// What takes minidumps.
pub trait TakesDumps: Send {
    /// Prepares for the next one. Called beforehand, and whenever there is time.
    fn prepare(&mut self);

    /// Takes one, about the thread `tid`, by `deadline` or shortly after it. The process then runs
    /// as before.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    fn dump(&mut self, target: TargetIdentity, tid: i32, deadline: Instant) -> Result<Dump, String>;
}

/// What the thread delivers, in this order.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// What was read in `/proc`.
    Gathered(Gathered),
    /// The minidump of an incident, or why there is none.
    Dumped {
        /// The number of the incident.
        incident: u64,
        /// When that was known.
        at: Monotonic,
        /// The dump.
        dump: Result<Dump, String>,
    },
}

/// What was gathered.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What it is for.
    pub purpose: Purpose,
    /// When it was complete.
    pub at: Monotonic,
    /// Thread id of the thread at fault.
    pub at_fault: Option<i32>,
    /// The evidence.
    pub evidence: Box<Evidence>,
}

/// The watch loop's end. The thread ends when this is dropped, unless a read hangs.
#[derive(Debug)]
pub struct Gatherer {
    requests: SyncSender<Request>,
    /// How many requests were taken, and what the last one was for.
    asked: (u64, Purpose),
    /// How many are done.
    done: Arc<AtomicU64>,
}

/// Why a request was not taken: the thread is still at work for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy(pub Purpose);

impl Gatherer {
    /// Starts the thread. It gives what it gathered to `deliver`, which must not wait, and then
    /// wakes the loop. Without `dumps` it takes none.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        waker: Arc<Waker>,
        dumps: Option<Box<dyn TakesDumps>>,
        deliver: impl FnMut(Delivery) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, taken) = sync_channel(1);
        let done = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&done);
        std::thread::Builder::new()
            .name("evidence".to_owned())
            .stack_size(STACK)
            .spawn(move || run(&taken, &told, &waker, dumps, deliver))?;
        Ok(Self { requests, asked: (0, Purpose::Rehearsal), done })
    }

    /// Has this gathered. Never waits.
    ///
    /// # Errors
    /// While the thread is at work for an earlier request: by the time it is done, this process may
    /// be long dead.
    pub fn ask(&mut self, request: Request) -> Result<(), Busy> {
        let purpose = request.purpose;
        if !self.is_done() || self.requests.try_send(request).is_err() {
            return Err(Busy(self.asked.1));
        }
        self.asked = (self.asked.0 + 1, purpose);
        Ok(())
    }

    /// Whether everything that was requested is complete.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.asked.0
    }
}

fn run(
    taken: &Receiver<Request>,
    done: &AtomicU64,
    waker: &Waker,
    mut dumps: Option<Box<dyn TakesDumps>>,
    mut deliver: impl FnMut(Delivery),
) {
    for request in taken {
        let Request { purpose, target, process, subject, deadline, dump } = request;
        let evidence = Box::new(Evidence::gather(process.as_fd(), &subject, deadline));
        drop(process);
        let at_fault = subject.at_fault;
        // A thread that is gone has no stack; the others have.
        let about = at_fault.filter(|tid| evidence.thread(*tid).is_some()).unwrap_or(target.pid);
        deliver(Delivery::Gathered(Gathered { purpose, at: now(), at_fault, evidence }));
        if let (Purpose::Incident(incident), true) = (purpose, dump) {
            let dump = match &mut dumps {
                Some(dumps) => dumps.dump(target, about, Instant::now() + deadline.since(now())),
                None => Err(NO_HELPER.to_owned()),
            };
            deliver(Delivery::Dumped { incident, at: now(), dump });
        }
        done.fetch_add(1, Ordering::Release);
        waker.wake();
        if let Some(dumps) = dumps.as_mut().filter(|_| purpose == Purpose::Rehearsal) {
            dumps.prepare();
        }
    }
}

#[cfg(test)]
#[path = "gatherer/tests.rs"]
mod tests;
