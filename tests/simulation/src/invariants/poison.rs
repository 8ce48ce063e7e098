//! Work that was in flight at more than one death, with deaths taken from the judge's own notes: no
//! kill follows for that work until a person clears it, and nothing else is spared.

use shard_watchdog::judge::{Decision, Note};

use super::super::plan::Nanos;
use super::super::watchdog::Watchdog;
use super::Invariants;

/// What is known of deaths, across every life of the watchdog. No history has so many that any had
/// to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Poison {
    deaths: Vec<u64>,
    keys: Vec<u64>,
    /// The work that the watched process stands condemned for.
    in_flight: Option<u64>,
}

impl Poison {
    pub(super) fn contains(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }

    /// A person clears this work, or all work.
    pub(super) fn clear(&mut self, key: Option<u64>) {
        for known in [&mut self.deaths, &mut self.keys] {
            known.retain(|known| key.is_some_and(|key| key != *known));
        }
    }

    /// Another process is watched, or the watchdog has restarted.
    pub(super) const fn forget_condemned(&mut self) {
        self.in_flight = None;
    }

    fn died(&mut self, key: u64, after: u32) {
        if after == 0 || self.contains(key) {
            return;
        }
        self.deaths.push(key);
        if self.deaths.iter().filter(|death| **death == key).count() >= after as usize {
            self.deaths.retain(|death| *death != key);
            self.keys.push(key);
        }
    }
}

impl Invariants {
    /// What an observation concluded about deaths.
    pub(super) fn crash_loops(&mut self, now: Nanos, watchdog: &Watchdog, decision: Decision) {
        let exited = watchdog.seen.process.as_ref().is_some_and(|process| process.exited);
        for note in watchdog.judge.notes() {
            match note {
                Note::Opened(condemned) => self.poison.in_flight = condemned.work_key(),
                Note::Lifted { .. } => self.poison.in_flight = None,
                _ => {}
            }
        }
        if exited && let Some(key) = self.poison.in_flight.take() {
            self.poison.died(key, watchdog.policy.poison_after);
        }
        if exited && std::mem::take(&mut self.killing) {
            self.fruitless += 1;
        }
        let finished = watchdog.judge.incarnation().and_then(|incarnation| incarnation.first_finished());
        if finished.is_some() {
            (self.fruitless, self.forgotten) = (0, 0);
        }
        let (said, most) = (watchdog.judge.crash_loops().kills_without_progress(), self.fruitless);
        if said > most {
            self.broken(now, "brake", || format!("counts {said} kills without progress of {most}"));
        }
        let said = watchdog.judge.crash_loops().keys();
        if said != self.poison.keys {
            let keys = self.poison.keys.clone();
            self.broken(now, "crash loop", || format!("says {said:?}, should be {keys:?}"));
        }
        let condemned = watchdog.judge.incarnation().and_then(|incarnation| incarnation.condemned());
        let key = condemned.and_then(|condemned| condemned.work_key());
        if decision.spared != key.is_some_and(|key| self.poison.contains(key)) {
            self.broken(now, "spared", || format!("{} for work {key:?}", decision.spared));
        }
        self.spared += u64::from(decision.spared);
    }
}
