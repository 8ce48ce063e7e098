//! What the writer and the reader of a recording both remember: the previous observation, from
//! which the next one differs.

use std::sync::Arc;

use crate::clock::Monotonic;
use crate::observation::{ChannelObservation, Observation, ThreadObservation, WorkerObservation};

/// Flag of an observation: another process, or none.
pub const PROCESS: u8 = 1;
/// Flag: the condition of the process has changed.
pub const CONDITION: u8 = 1 << 1;
/// Flag: the time of the first signal has changed.
pub const SIGNALLED: u8 = 1 << 2;
/// Flag: other threads or channels; all of them are written in full.
pub const MEMBERS: u8 = 1 << 3;
/// Flag: some threads have changed.
pub const THREADS: u8 = 1 << 4;
/// Flag: some channels have changed.
pub const CHANNELS: u8 = 1 << 5;
/// Flag: the throttling reported by the cgroups has changed.
pub const THROTTLE: u8 = 1 << 6;
/// All flags: a record that begins with a larger byte is not an observation.
pub const FLAGS: u8 = (1 << 7) - 1;

/// Record: a chunk begins.
pub const KEY: u8 = 0x80;
/// Record: a target was refused.
pub const REFUSED: u8 = 0x81;
/// Record: the config was reloaded.
pub const RELOADED: u8 = 0x82;
/// Record: observations before this were not recorded.
pub const LOST: u8 = 0x83;
/// Record: a person has paused killing.
pub const PAUSED: u8 = 0x84;
/// Record: the pause has ended.
pub const RESUMED: u8 = 0x85;
/// Record: a person requests the kill of the watched process.
pub const REQUESTED: u8 = 0x86;
/// Record: the total time that the machine was suspended, as of the next observation.
pub const SUSPENDED: u8 = 0x87;
/// Record: what the hypervisor had taken by the next observation, which has read it.
pub const STOLEN: u8 = 0x88;

/// Record: what the judge knew of deaths when the chunk began.
pub const KNOWN: u8 = 0x90;
/// Record: a person cleared work in a crash loop.
pub const CLEARED: u8 = 0x91;
/// Record: the same as `KNOWN`, after the number of kills that had brought no finished piece of
/// work.
pub const KNOWN_AFTER_KILLS: u8 = 0x92;

/// Field of a thread: its activity word.
pub const ACTIVITY: u8 = 1;
/// Field of a thread: its progress.
pub const PROGRESS: u8 = 1 << 1;
/// Field of a thread: the key of its work.
pub const WORK_KEY: u8 = 1 << 2;
/// Field of a thread: the attempt at its work.
pub const ATTEMPT: u8 = 1 << 3;
/// Field of a thread: claim, presence and section.
pub const STANDING: u8 = 1 << 4;
/// Field of a thread: the kernel's view.
pub const TASK: u8 = 1 << 5;
/// Field of a thread: its workers.
pub const WORKERS: u8 = 1 << 6;
/// Field of a thread: the deadline of its work.
pub const DEADLINE: u8 = 1 << 7;

/// Field of a channel: messages sent.
pub const SENT: u8 = 1;
/// Field of a channel: messages received.
pub const RECEIVED: u8 = 1 << 1;

/// The kernel's counters of one thread when last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Time spent runnable but not running, nanoseconds.
    pub run_delay_ns: u64,
    /// Those of its workers: lane and its generation, CPU time, run delay. One for each lane ever
    /// reported.
    pub workers: Vec<(u32, u64, u64, u64)>,
}

impl Counters {
    /// The counters of a worker when last read: CPU time and run delay.
    pub fn of_worker(&self, lane: u32, generation: u64) -> (u64, u64) {
        let known = self.workers.iter().find(|known| (known.0, known.1) == (lane, generation));
        known.map_or((0, 0), |known| (known.2, known.3))
    }

    /// Stores the counters just read of a worker.
    pub fn take_worker(&mut self, worker: &WorkerObservation) {
        let WorkerObservation { lane, generation, task, .. } = *worker;
        let (cpu_ns, run_delay_ns) = self.of_worker(lane, generation);
        let cpu_ns = task.and_then(|task| task.cpu_ns).unwrap_or(cpu_ns);
        let run_delay_ns = task.and_then(|task| task.run_delay_ns).unwrap_or(run_delay_ns);
        let now = (lane, generation, cpu_ns, run_delay_ns);
        match self.workers.iter_mut().find(|known| known.0 == lane) {
            Some(known) => *known = now,
            None => self.workers.push(now),
        }
    }
}

/// The previous observation, and the last counters of each thread in it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The observation.
    pub seen: Observation,
    /// One for each thread of the observation.
    pub counters: Vec<Counters>,
}

impl Memory {
    /// Clears everything but the time, at the beginning of a chunk.
    pub fn forget(&mut self, at: Monotonic) {
        self.seen.at = at;
        self.seen.suspended_ns = 0;
        self.seen.stolen_ns = None;
        self.seen.process = None;
        self.seen.threads.clear();
        self.seen.channels.clear();
        self.counters.clear();
    }

    /// Whether `seen` has the same threads and channels in the same order.
    pub fn has_members_of(&self, seen: &Observation) -> bool {
        let same_name = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
        let thread = |(a, b): (&ThreadObservation, &ThreadObservation)| {
            (a.slot, a.generation, a.tid) == (b.slot, b.generation, b.tid) && same_name(&a.name, &b.name)
        };
        let channel = |(a, b): (&ChannelObservation, &ChannelObservation)| {
            (a.slot, a.generation) == (b.slot, b.generation) && same_name(&a.name, &b.name)
        };
        let mine = &self.seen;
        mine.threads.len() == seen.threads.len()
            && mine.channels.len() == seen.channels.len()
            && mine.threads.iter().zip(&seen.threads).all(thread)
            && mine.channels.iter().zip(&seen.channels).all(channel)
    }

    /// Stores `seen` as the previous observation. Allocates only when the target has more threads
    /// than ever before.
    pub fn take(&mut self, seen: &Observation) {
        if !self.has_members_of(seen) {
            self.seen.threads.clone_from(&seen.threads);
            self.seen.channels.clone_from(&seen.channels);
            self.counters.clear();
            self.counters.resize(seen.threads.len(), Counters::default());
        }
        self.seen.at = seen.at;
        self.seen.suspended_ns = seen.suspended_ns;
        self.seen.stolen_ns = seen.stolen_ns;
        self.seen.process.clone_from(&seen.process);
        for ((mine, now), counters) in self.seen.threads.iter_mut().zip(&seen.threads).zip(&mut self.counters)
        {
            // The fields that are not copied identify the thread.
            let ThreadObservation {
                claim,
                presence,
                activity,
                progress,
                work_key,
                attempt,
                deadline_ns,
                section,
                task,
                workers,
                slot: _,
                generation: _,
                name: _,
                tid: _,
            } = now;
            (mine.claim, mine.presence, mine.task) = (*claim, *presence, *task);
            mine.workers.clone_from(workers);
            (mine.activity, mine.progress) = (*activity, *progress);
            (mine.work_key, mine.attempt, mine.deadline_ns) = (*work_key, *attempt, *deadline_ns);
            mine.section = *section;
            workers.iter().for_each(|worker| counters.take_worker(worker));
            if let Some(task) = task {
                counters.cpu_ns = task.cpu_ns.unwrap_or(counters.cpu_ns);
                counters.run_delay_ns = task.run_delay_ns.unwrap_or(counters.run_delay_ns);
            }
        }
        for (mine, now) in self.seen.channels.iter_mut().zip(&seen.channels) {
            (mine.sent, mine.received) = (now.sent, now.received);
        }
    }
}
