//! What the loop tells the probe: which threads matter most, and which idle ones to observe.

use globset::GlobMatcher;

use super::segment::Consumers;
use super::thread::Rank;
use super::{Probe, rank_of};

impl Probe {
    /// Sets which threads have priority if not all can be watched: the first of these patterns that
    /// matches a thread's name decides.
    pub fn rank_by(&mut self, ranks: Vec<(GlobMatcher, Rank)>) {
        self.ranks = ranks;
        for thread in self.target.iter_mut().flat_map(|target| target.threads.iter_mut().flatten()) {
            thread.set_rank(rank_of(&self.ranks, &thread.name()));
        }
    }

    /// Sets whom to observe while messages wait in a channel.
    pub fn look_at_consumers(&mut self, consumers: Vec<Consumers>) {
        self.consumers = consumers;
    }

    /// Sets which idle threads to observe, whatever their channels hold: those whose silence clocks
    /// run.
    pub fn look_at_silent(&mut self, threads: impl Iterator<Item = (u32, u64)>) {
        self.silent.clear();
        self.silent.extend(threads);
        self.silent.sort_unstable();
    }

    /// Sets whether the next observation must read what the hypervisor took. Otherwise that is read
    /// ten times a second while a thread without progress is runnable.
    pub const fn want_steal(&mut self, wanted: bool) {
        self.steal.want(wanted);
    }
}
