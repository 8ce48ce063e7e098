//! What the kernel shows of a condemned process while it is still there: each thread, and the
//! process as a whole.
//!
//! A thread of its own, [`gatherer`], reads it between the verdict and the first signal. The watch
//! loop waits for that up to `evidence.time_limit` and then goes on without it.
//!
//! Nothing here stops the process, and nothing reads a file that takes the lock of its memory:
//! never `cmdline`, `environ`, `maps`, and above all never `smaps`, which can stop a large process
//! for seconds. Whatever cannot be read is absent, and [`Evidence::missing`] says why.

mod file;
pub mod gatherer;
pub mod guess;
pub mod machine;
pub mod process;
pub mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::clock::{Monotonic, now};

pub use file::NOT_PERMITTED;
use file::Unread;
use machine::MachineEvidence;
use process::ProcessEvidence;
use thread::ThreadEvidence;

/// Threads beyond these are counted only. With so many, the file has about a MiB.
const MOST_THREADS: usize = 2_048;
/// Names in the folder of threads beyond these are not read.
const MOST_NAMES: usize = 65_536;

/// What was gathered, as in the file `threads.json` of an incident.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// How long gathering took, milliseconds.
    pub took_ms: f64,
    /// The process as a whole.
    pub process: ProcessEvidence,
    /// Its threads: the one at fault first, then those that are watched, then all others.
    pub threads: Vec<ThreadEvidence>,
    /// Threads that are not among them, because the time was up, there were too many, or they were
    /// not wanted.
    pub threads_left_out: u64,
    /// The machine on which it runs.
    pub machine: MachineEvidence,
    /// What could not be read and why, one sentence each.
    pub missing: Vec<String>,
}

/// Whose evidence is wanted.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Thread id of the thread at fault, if there is one.
    pub at_fault: Option<i32>,
    /// Thread ids and registered names of the watched threads.
    pub watched: Vec<(i32, Arc<str>)>,
    /// Whether all other threads are wanted too.
    pub others: bool,
}

impl Evidence {
    /// Reads it from `process`, a folder like `/proc/PID`, until `deadline` at the latest if no
    /// read hangs.
    pub fn gather(process: BorrowedFd<'_>, subject: &Subject, deadline: Monotonic) -> Self {
        let began = now();
        let mut unread = Unread::default();
        let mut evidence = Self::default();
        let names: BTreeMap<i32, &str> = subject.watched.iter().map(|(tid, name)| (*tid, &**name)).collect();
        let first: Vec<i32> =
            subject.at_fault.into_iter().chain(subject.watched.iter().map(|(tid, _)| *tid)).collect();
        let tids = match tids(process) {
            Ok(tids) => tids,
            Err(error) => {
                unread.note("task", error);
                BTreeSet::new()
            }
        };
        let mut left = tids.clone();
        let mut take = |tid: i32, evidence: &mut Self, unread: &mut Unread| {
            if !left.remove(&tid) || evidence.threads.len() >= MOST_THREADS || now() >= deadline {
                return;
            }
            let watched_as = names.get(&tid).map(|name| (*name).to_owned());
            evidence.threads.extend(ThreadEvidence::read(process, tid, watched_as, unread));
        };
        first.into_iter().for_each(|tid| take(tid, &mut evidence, &mut unread));
        evidence.process = ProcessEvidence::read(process, &mut unread);
        let others = tids.iter().filter(|_| subject.others);
        others.for_each(|tid| take(*tid, &mut evidence, &mut unread));
        evidence.threads_left_out = tids.len().saturating_sub(evidence.threads.len()) as u64;
        if now() < deadline {
            evidence.process.read_cgroups(process, &mut unread);
            evidence.machine = MachineEvidence::read();
        } else {
            unread.late();
        }
        evidence.missing = unread.sentences();
        evidence.took_ms = millis(now().since(began));
        evidence
    }

    /// What is missing for want of a permission that somebody could grant.
    pub fn lacks(&self) -> Vec<String> {
        // Nobody should grant what it takes to read kernel stacks for this alone.
        let granted = |missing: &&String| !missing.contains(NOT_PERMITTED) || missing.starts_with("stack: ");
        self.missing.iter().filter(|missing| !granted(missing)).cloned().collect()
    }

    /// The thread with this id.
    pub fn thread(&self, tid: i32) -> Option<&ThreadEvidence> {
        self.threads.iter().find(|thread| thread.tid == tid)
    }
}

/// Milliseconds to the microsecond: more digits are noise.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The ids of its threads.
fn tids(process: BorrowedFd<'_>) -> Result<BTreeSet<i32>, Errno> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = rustix::fs::openat(process, "task", folder, Mode::empty())?;
    let entries = Dir::new(tasks)?.take(MOST_NAMES).map_while(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect())
}

#[cfg(test)]
#[path = "evidence/tests.rs"]
mod tests;
