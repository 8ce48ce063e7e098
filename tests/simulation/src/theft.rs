//! What the hypervisor takes of the CPU that a thread runs on, and when the kernel shows it.

use super::plan::{Nanos, Share};

/// The unit of stolen time in `/proc/stat`.
pub const TICK: Nanos = 10_000_000;

/// The share of the CPUs that the hypervisor leaves the machine.
#[derive(Clone, Copy, Debug)]
pub struct Theft {
    /// The share.
    pub share: Share,
    /// Whether the kernel takes what was stolen for the CPU time of the thread.
    pub in_cpu: bool,
}

/// What was stolen from one thread. It shows once the thread's CPU runs again.
#[derive(Clone, Debug, Default)]
pub struct Stolen {
    shown: Nanos,
    pending: Nanos,
    in_cpu: bool,
}

impl Stolen {
    /// The hypervisor has the thread's CPU for `time`.
    pub const fn take(&mut self, time: Nanos, theft: Theft) {
        self.pending += time;
        self.in_cpu = theft.in_cpu;
    }

    /// The CPU runs. Returns by how much the CPU time of the thread grows because of what was taken
    /// before.
    pub const fn show(&mut self) -> Nanos {
        let pending = std::mem::replace(&mut self.pending, 0);
        self.shown += pending;
        if self.in_cpu { pending } else { 0 }
    }

    /// Whether anything was taken that the kernel calls CPU time.
    pub const fn is_any(&self) -> bool {
        self.in_cpu && self.shown + self.pending > 0
    }

    /// What the kernel shows.
    pub const fn shown(&self) -> Nanos {
        self.shown / TICK * TICK
    }
}
