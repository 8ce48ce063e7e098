//! Where the time of a thread has gone since it came under watch: idle, working, excused, counted
//! against it, or neither. Nothing is decided by it: it is for people, who want to see the last
//! minute.

use alloc::boxed::Box;
use core::time::Duration;

use crate::verdict::ExcuseKind;

use super::ThreadTrial;

/// The number of kinds of excuse.
const KINDS: usize = ExcuseKind::ALL.len();

/// A thread at work is seen between two of its beats more often than at one. Time without a beat
/// that is shorter than this (and than `warn_after`) is work like any other; only longer time is
/// shown as counted.
const STANDS_STILL: Duration = Duration::from_secs(1);

/// Nanoseconds of a thread's watched time by what it did. Together they are all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Waiting for work.
    pub idle_ns: u64,
    /// At work and making progress.
    pub working_ns: u64,
    /// At work without progress, in time that counts towards `stall_after`.
    pub counted_ns: u64,
    /// At work without progress, in time that neither counted nor has an excuse: it could not be
    /// read, or was too short to be named.
    pub unclear_ns: u64,
    /// At work without progress through no fault of its own, in the order of [`ExcuseKind::ALL`].
    pub excused_ns: [u64; KINDS],
}

/// The sums. Most threads are idle or make progress at most observations, and touch two words.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    idle_ns: u64,
    working_ns: u64,
    stood: Box<Stood>,
}

/// Sums of a thread that stood still.
#[derive(Clone, Debug, Default)]
struct Stood {
    counted_ns: u64,
    unclear_ns: u64,
    excused_ns: [u64; KINDS],
    /// Length of the present standstill, and what of it was excused.
    open_ns: u64,
    open_excused_ns: u64,
    /// Whether the present standstill is longer than one between two beats.
    long: bool,
}

impl Ledger {
    /// It was idle for `elapsed`.
    pub(super) const fn idle(&mut self, elapsed: Duration) {
        self.idle_ns = self.idle_ns.saturating_add(nanos(elapsed));
    }

    /// It moved within `elapsed`, at the end of which it is `working` or idle. What it did before
    /// that is unknown, so all of the interval goes where its end is: over many of them this is as
    /// often too much as too little. `counted` is what had counted before, if it had stood still.
    pub(super) fn moved(&mut self, elapsed: Duration, working: bool, counted: Option<Duration>) {
        if let Some(counted) = counted {
            let now = self.spent(counted);
            (self.working_ns, self.stood.counted_ns) = (now.working_ns, now.counted_ns);
            self.stood.unclear_ns = now.unclear_ns;
            (self.stood.open_ns, self.stood.open_excused_ns, self.stood.long) = (0, 0, false);
        }
        let sum = if working { &mut self.working_ns } else { &mut self.idle_ns };
        *sum = sum.saturating_add(nanos(elapsed));
    }

    /// It stood still for `elapsed`. What of it was excused may include earlier time, whose excuse
    /// was not clear then.
    pub(super) fn stood(
        &mut self,
        elapsed: Duration,
        excused: Option<(ExcuseKind, Duration)>,
        warn_after: Duration,
    ) {
        let stood = &mut *self.stood;
        stood.open_ns = stood.open_ns.saturating_add(nanos(elapsed));
        if let Some((kind, excused)) = excused
            && let Some(sum) = stood.excused_ns.get_mut(kind as usize)
        {
            let excused = nanos(excused).min(stood.open_ns - stood.open_excused_ns);
            stood.open_excused_ns += excused;
            *sum = sum.saturating_add(excused);
        }
        stood.long |= stood.open_ns >= nanos(STANDS_STILL.min(warn_after));
    }

    /// All of it, if `counted` of the present standstill has counted.
    fn spent(&self, counted: Duration) -> Spent {
        let stood = &*self.stood;
        let open = stood.open_ns - stood.open_excused_ns;
        let (working, counted) = if stood.long { (0, nanos(counted).min(open)) } else { (open, 0) };
        Spent {
            idle_ns: self.idle_ns,
            working_ns: self.working_ns.saturating_add(working),
            counted_ns: stood.counted_ns.saturating_add(counted),
            unclear_ns: stood.unclear_ns.saturating_add(open - working - counted),
            excused_ns: stood.excused_ns,
        }
    }
}

impl ThreadTrial {
    /// Where its time has gone since it came under watch.
    pub fn spent(&self) -> Spent {
        self.ledger.spent(self.counted())
    }
}

const fn nanos(time: Duration) -> u64 {
    let nanos = time.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TENTH: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(2);

    fn all(spent: &Spent) -> u64 {
        let excused: u64 = spent.excused_ns.iter().sum();
        spent.idle_ns + spent.working_ns + spent.counted_ns + spent.unclear_ns + excused
    }

    #[test]
    fn a_pause_between_two_beats_is_work_and_a_standstill_is_counted() {
        let mut ledger = Ledger::default();
        ledger.idle(TENTH);
        ledger.moved(TENTH, true, None);
        for _ in 0..9 {
            ledger.stood(TENTH, None, LONG);
        }
        let spent = ledger.spent(9 * TENTH);
        assert_eq!((spent.idle_ns, spent.working_ns, spent.counted_ns), (SECOND / 10, SECOND, 0));
        assert_eq!(all(&spent), SECOND / 10 + SECOND, "and nothing else");
        ledger.stood(TENTH, None, LONG);
        let spent = ledger.spent(10 * TENTH);
        assert_eq!((spent.working_ns, spent.counted_ns), (SECOND / 10, SECOND));
        ledger.moved(TENTH, true, Some(10 * TENTH));
        let spent = ledger.spent(Duration::ZERO);
        assert_eq!((spent.working_ns, spent.counted_ns), (SECOND / 5, SECOND), "it stays counted");
        ledger.moved(TENTH, false, None);
        assert_eq!(ledger.spent(Duration::ZERO).idle_ns, SECOND / 5, "it is idle again");
    }

    #[test]
    fn every_part_of_a_standstill_has_its_place_and_all_of_them_are_the_whole() {
        let mut ledger = Ledger::default();
        ledger.stood(TENTH, None, LONG);
        ledger.stood(Duration::from_secs(3), Some((ExcuseKind::Starved, Duration::from_secs(2))), LONG);
        let spent = ledger.spent(Duration::from_secs(1));
        assert_eq!(spent.excused_ns[ExcuseKind::Starved as usize], 2 * SECOND);
        assert_eq!((spent.counted_ns, spent.unclear_ns), (SECOND, SECOND / 10));
        assert_eq!(all(&spent), 3 * SECOND + SECOND / 10);
        ledger.stood(TENTH, Some((ExcuseKind::Suspended, Duration::MAX)), LONG);
        let spent = ledger.spent(Duration::MAX);
        assert_eq!(all(&spent), 3 * SECOND + SECOND / 5, "no excuse is longer than the standstill");
    }

    #[test]
    fn a_time_longer_than_a_counter_holds_is_the_longest() {
        let mut ledger = Ledger::default();
        ledger.idle(Duration::from_nanos(u64::MAX) + Duration::from_nanos(1));
        assert_eq!(ledger.spent(Duration::ZERO).idle_ns, u64::MAX);
    }

    #[test]
    fn a_shorter_warning_makes_shorter_standstills_visible() {
        let mut ledger = Ledger::default();
        ledger.stood(TENTH, None, TENTH);
        assert_eq!(ledger.spent(TENTH).counted_ns, SECOND / 10);
    }
}
