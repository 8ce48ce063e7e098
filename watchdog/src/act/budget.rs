//! The kill budget: a token bucket, so that no mistake of ours can become a storm of kills.

use std::time::Duration;

use crate::clock::Monotonic;

/// At most `capacity` kills at once, one more every `per / capacity`.
#[derive(Clone, Debug)]
pub struct Budget {
    capacity: u32,
    per: Duration,
    tokens: f64,
    counted_at: Monotonic,
}

impl Budget {
    /// A budget of which `spent` kills were used up a moment ago, by an earlier life of this sidecar.
    pub fn new(capacity: u32, per: Duration, spent: u32, at: Monotonic) -> Self {
        Self { capacity, per, tokens: f64::from(capacity.saturating_sub(spent)), counted_at: at }
    }

    fn refill(&mut self, at: Monotonic) {
        let since = at.since(self.counted_at).as_secs_f64();
        let per = self.per.as_secs_f64().max(f64::MIN_POSITIVE);
        let capacity = f64::from(self.capacity);
        self.tokens = (self.tokens + since / per * capacity).min(capacity);
        self.counted_at = self.counted_at.max(at);
    }

    /// Whole kills left.
    pub fn left(&mut self, at: Monotonic) -> u32 {
        self.refill(at);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most `capacity`, which is a u32"
        )]
        let left = self.tokens.floor() as u32;
        left
    }

    /// Takes one kill, if there is one.
    pub fn take(&mut self, at: Monotonic) -> bool {
        if self.left(at) == 0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_spent_budget_refills_one_kill_at_a_time() {
        let mut budget = Budget::new(3, Duration::from_secs(600), 0, Monotonic(0));
        assert!((0..3).all(|_| budget.take(Monotonic(0))));
        assert!(!budget.take(Monotonic(3 * MINUTE)));
        assert!(budget.take(Monotonic(4 * MINUTE)));
        assert!(!budget.take(Monotonic(4 * MINUTE)));
    }

    #[test]
    fn kills_of_an_earlier_life_are_remembered() {
        let mut budget = Budget::new(3, Duration::from_secs(600), 5, Monotonic(0));
        assert_eq!(budget.left(Monotonic(0)), 0);
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing() {
        let mut budget = Budget::new(1, Duration::from_secs(60), 0, Monotonic(10 * MINUTE));
        assert!(budget.take(Monotonic(10 * MINUTE)));
        assert!(!budget.take(Monotonic(0)));
        assert!(!budget.take(Monotonic(10 * MINUTE)));
    }
}
