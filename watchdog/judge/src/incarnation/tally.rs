//! Sums over all threads at one observation. They are added up while each thread is judged: a
//! further pass over a thousand threads for every question would take longer than judging them.

use alloc::vec::Vec;

use core::time::Duration;

use crate::clock::Monotonic;
use crate::policy::Policy;
use crate::thread::ThreadTrial;
use crate::verdict::Health;

use super::schedule::SOONEST;

/// The sums.
#[derive(Debug)]
pub(super) struct Tally {
    /// Number of live threads, by the index of their rule.
    here: Vec<u32>,
    /// Every thread is idle or working, in sight, and not kept from running.
    plain: bool,
    /// Every thread with a rule is idle, and none of them is the main thread.
    idle: bool,
    /// The newest beat of the threads with a rule.
    last_beat: Option<Monotonic>,
    /// How long until counted time may make the first of them stalled.
    soonest: Option<Duration>,
}

impl Tally {
    pub(super) const fn new() -> Self {
        Self { here: Vec::new(), plain: true, idle: true, last_beat: None, soonest: None }
    }

    /// Starts over. The allocation is reused.
    pub(super) fn begin(&mut self, policy: &Policy) {
        let mut here = core::mem::take(&mut self.here);
        here.clear();
        here.resize(policy.rules.len(), 0);
        *self = Self { here, ..Self::new() };
    }

    /// Adds a thread that has just been observed, in the process whose main thread is `leader`.
    pub(super) fn add(&mut self, trial: &ThreadTrial, policy: &Policy, leader: i32) {
        self.plain &= matches!(trial.health, Health::Idle | Health::Working)
            && trial.unobserved.is_none()
            && trial.kept.is_none();
        let Some(index) = trial.rule else { return };
        if !trial.left
            && trial.health != Health::Gone
            && let Some(here) = self.here.get_mut(index)
        {
            *here += 1;
        }
        self.idle &= trial.health == Health::Idle && trial.tid != leader;
        self.last_beat = self.last_beat.max(Some(trial.last_beat));
        if let Some(rule) = policy.rules.get(index)
            && let Some(left) = trial.runs_against(rule).filter(|left| !left.is_zero())
        {
            // Time that does not count brings no verdict nearer; and no verdict is near enough to
            // spin for.
            let soonest = left.max(if trial.advanced() { SOONEST } else { policy.look_every() });
            self.soonest = Some(self.soonest.map_or(soonest, |before| before.min(soonest)));
        }
    }

    /// Number of live threads of that rule.
    pub(super) fn here(&self, rule: usize) -> u32 {
        self.here.get(rule).copied().unwrap_or_default()
    }

    /// Those of `threads` that may need a remark: none, or all.
    pub(super) const fn remarkable<'a>(&self, threads: &'a [ThreadTrial]) -> &'a [ThreadTrial] {
        if self.plain { &[] } else { threads }
    }

    /// Whether every thread with a rule has been idle for at least `long`.
    pub(super) fn rests(&self, at: Monotonic, long: Duration) -> bool {
        self.idle && self.last_beat.is_none_or(|last| at.since(last) >= long)
    }

    /// How long until time alone may change the health of a thread.
    pub(super) const fn soonest(&self) -> Option<Duration> {
        self.soonest
    }
}
