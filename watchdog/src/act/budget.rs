//! The kill budget: a token bucket, so that no mistake of ours can become a storm of kills.
//!
//! It counts in integers, so that a bucket rebuilt from the kills of an earlier life equals the
//! lost one to the nanosecond.

use std::time::Duration;

use crate::clock::Monotonic;

/// Kills by earlier lives of the sidecar, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How long ago each kill was, at least; the oldest first.
    pub ages: Vec<Duration>,
    /// Whether older kills may be missing from the list. If so, the budget counts as spent at the
    /// time of the first one listed.
    pub cut: bool,
}

impl Past {
    /// Nothing is known: the budget counts as spent until it refills. A kill too late is better
    /// than one too many.
    pub fn unknown() -> Self {
        Self { ages: vec![Duration::ZERO], cut: true }
    }
}

/// At most `capacity` kills at once, one more every `per / capacity`.
#[derive(Clone, Debug)]
pub struct Budget {
    capacity: u32,
    per_ns: u64,
    /// What the bucket lacks to be full, in parts of a kill: one kill is `per_ns` parts, and
    /// `capacity` parts return each nanosecond.
    missing: u128,
    counted_at: Monotonic,
}

impl Budget {
    /// A budget from which the `past` kills have been taken.
    pub fn new(capacity: u32, per: Duration, past: &Past, at: Monotonic) -> Self {
        let mut budget = Self { capacity, per_ns: nanos(per), missing: 0, counted_at: at };
        let mut before = None;
        for &age in &past.ages {
            match before {
                Some(before) => budget.refill(age_difference(before, age)),
                None if past.cut => budget.missing = budget.most(),
                None => {}
            }
            budget.pay();
            before = Some(age);
        }
        budget.refill(before.unwrap_or_default());
        budget
    }

    /// Changes the limits; what was spent stays spent.
    pub fn limit(&mut self, capacity: u32, per: Duration, at: Monotonic) {
        self.refill_until(at);
        let (old, new) = (u128::from(self.per_ns), u128::from(nanos(per)));
        let missing = self.missing.checked_mul(new).map_or(u128::MAX, |parts| parts.div_ceil(old));
        (self.capacity, self.per_ns) = (capacity, nanos(per));
        self.missing = missing.min(self.most());
    }

    /// Whole kills left.
    pub fn left(&mut self, at: Monotonic) -> u32 {
        self.refill_until(at);
        let left = (self.most() - self.missing) / u128::from(self.per_ns);
        u32::try_from(left).unwrap_or(self.capacity)
    }

    /// How long until there is one more; `None` if it is full.
    pub fn next_in(&mut self, at: Monotonic) -> Option<Duration> {
        self.refill_until(at);
        let one = u128::from(self.per_ns);
        // Of the kill that is coming back, the part that is still missing.
        let part = self.missing.checked_sub(1)? % one + 1;
        let wait = part.div_ceil(u128::from(self.capacity.max(1)));
        Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Takes one kill if one is left, and returns whether it did.
    pub fn take(&mut self, at: Monotonic) -> bool {
        let any = self.left(at) > 0;
        if any {
            self.pay();
        }
        any
    }

    /// Takes one kill, or whatever part of one is left: the kill happens in any case.
    pub fn spend(&mut self, at: Monotonic) {
        self.refill_until(at);
        self.pay();
    }

    fn pay(&mut self) {
        self.missing = (self.missing + u128::from(self.per_ns)).min(self.most());
    }

    fn refill_until(&mut self, at: Monotonic) {
        self.refill(at.since(self.counted_at));
        self.counted_at = self.counted_at.max(at);
    }

    fn refill(&mut self, elapsed: Duration) {
        let parts = elapsed.as_nanos().saturating_mul(u128::from(self.capacity));
        self.missing = self.missing.saturating_sub(parts);
    }

    /// What an empty bucket lacks.
    fn most(&self) -> u128 {
        u128::from(self.capacity) * u128::from(self.per_ns)
    }
}

/// Zero where the list is out of order, so that nothing is refilled.
fn age_difference(before: Duration, after: Duration) -> Duration {
    before.saturating_sub(after)
}

/// At least 1, since it is a divisor.
fn nanos(per: Duration) -> u64 {
    u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000_000;
    const TEN_MINUTES: Duration = Duration::from_secs(600);

    fn past(minutes: &[u64]) -> Past {
        Past { ages: minutes.iter().map(|ago| Duration::from_nanos(ago * MINUTE)).collect(), cut: false }
    }

    #[test]
    fn a_spent_budget_refills_one_kill_at_a_time() {
        let mut budget = Budget::new(3, TEN_MINUTES, &Past::default(), Monotonic(0));
        assert!((0..3).all(|_| budget.take(Monotonic(0))));
        assert!(!budget.take(Monotonic(3 * MINUTE)));
        assert_eq!(budget.next_in(Monotonic(3 * MINUTE)), Some(Duration::from_secs(20)));
        assert!(budget.take(Monotonic(4 * MINUTE)));
        assert!(!budget.take(Monotonic(4 * MINUTE)));
    }

    #[test]
    fn kills_of_an_earlier_life_are_remembered_and_come_back_one_at_a_time() {
        let mut budget = Budget::new(3, TEN_MINUTES, &past(&[1, 1, 1]), Monotonic(0));
        assert_eq!(budget.left(Monotonic(0)), 0);
        assert_eq!(budget.left(Monotonic(140_000_000_000)), 1, "200 s after the last one");
        assert_eq!(budget.left(Monotonic(9 * MINUTE)), 3);
        assert_eq!(Budget::new(3, TEN_MINUTES, &past(&[5, 2]), Monotonic(0)).left(Monotonic(0)), 2);
    }

    #[test]
    fn what_nobody_remembers_counts_as_spent() {
        let mut budget = Budget::new(3, TEN_MINUTES, &Past::unknown(), Monotonic(0));
        assert_eq!(budget.left(Monotonic(0)), 0);
        assert_eq!(budget.left(Monotonic(200_000_000_000)), 1);
        let cut = Past { cut: true, ..past(&[4]) };
        assert_eq!(Budget::new(3, TEN_MINUTES, &cut, Monotonic(0)).left(Monotonic(0)), 1);
    }

    #[test]
    fn a_full_budget_waits_for_nothing_and_any_other_for_its_next_kill() {
        let mut budget = Budget::new(3, TEN_MINUTES, &Past::default(), Monotonic(0));
        assert_eq!(budget.next_in(Monotonic(0)), None);
        budget.spend(Monotonic(0));
        let next = budget.next_in(Monotonic(0)).unwrap();
        assert_eq!(next, Duration::from_secs(200));
        assert_eq!(
            (budget.left(Monotonic(199_999_999_999)), budget.left(Monotonic(200_000_000_000))),
            (2, 3)
        );
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing() {
        let mut budget = Budget::new(1, Duration::from_secs(60), &Past::default(), Monotonic(10 * MINUTE));
        assert!(budget.take(Monotonic(10 * MINUTE)));
        assert!(!budget.take(Monotonic(0)));
        assert!(!budget.take(Monotonic(10 * MINUTE)));
    }

    #[test]
    fn other_limits_give_nothing_back_that_was_spent() {
        let mut budget = Budget::new(3, TEN_MINUTES, &Past::default(), Monotonic(0));
        assert!((0..3).all(|_| budget.take(Monotonic(0))));
        budget.limit(3, Duration::from_secs(60), Monotonic(0));
        assert_eq!(budget.left(Monotonic(0)), 0);
        assert_eq!(budget.left(Monotonic(20_000_000_000)), 1, "it refills as it is told now");
        budget.limit(5, Duration::from_secs(60), Monotonic(20_000_000_000));
        assert_eq!(budget.left(Monotonic(20_000_000_000)), 3, "two more than before");
        budget.limit(1, Duration::from_secs(60), Monotonic(20_000_000_000));
        assert_eq!(budget.left(Monotonic(20_000_000_000)), 0);
    }

    proptest! {
        /// Whatever was killed when, by the watchdog or by a person: a restart at any moment
        /// changes nothing, and one that knows only the latest kills never has more left.
        #[test]
        fn a_rebuilt_bucket_never_has_more_than_the_live_one(
            capacity in 1u32..6,
            per in 1u64..100_000,
            kills in prop::collection::vec((0u64..60_000, any::<bool>()), 0..24),
            keep in 1usize..24,
            rest in 0u64..200_000,
        ) {
            let per = Duration::from_nanos(per);
            let mut live = Budget::new(capacity, per, &Past::default(), Monotonic(0));
            let (mut at, mut carried_out) = (0, Vec::new());
            for (after, asked) in kills {
                at += after;
                if asked {
                    live.spend(Monotonic(at));
                    carried_out.push(at);
                } else if live.take(Monotonic(at)) {
                    carried_out.push(at);
                }
            }
            let now = Monotonic(at + rest);
            let ages = |kills: &[u64]| kills.iter().map(|kill| now.since(Monotonic(*kill))).collect();
            let all = Past { ages: ages(&carried_out), cut: false };
            let mut rebuilt = Budget::new(capacity, per, &all, now);
            let cut = carried_out.len() > keep;
            let latest = Past { ages: ages(&carried_out[carried_out.len().saturating_sub(keep)..]), cut };
            let mut careful = Budget::new(capacity, per, &latest, now);
            for later in [0, 1, 17, 1_000, 50_000, 100_000] {
                let then = now.plus(Duration::from_nanos(later));
                prop_assert_eq!(live.left(then), rebuilt.left(then));
                prop_assert!(careful.left(then) <= live.left(then));
            }
        }

        /// A kill remembered as more recent than it was never leaves more in the budget.
        #[test]
        fn ages_that_are_too_small_give_nothing(
            capacity in 1u32..6,
            ages in prop::collection::vec((0u64..3_000, 0u64..500), 0..12),
        ) {
            let per = Duration::from_nanos(1_000);
            let sorted = |ages: Vec<u64>| {
                let mut ages: Vec<_> = ages.into_iter().map(Duration::from_nanos).collect();
                ages.sort_unstable_by(|a, b| b.cmp(a));
                Past { ages, cut: false }
            };
            let known = sorted(ages.iter().map(|(age, _)| *age).collect());
            let younger = sorted(ages.iter().map(|(age, late)| age.saturating_sub(*late)).collect());
            let mut known = Budget::new(capacity, per, &known, Monotonic(0));
            let mut younger = Budget::new(capacity, per, &younger, Monotonic(0));
            prop_assert!(younger.left(Monotonic(0)) <= known.left(Monotonic(0)));
        }
    }
}
