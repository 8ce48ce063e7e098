//! The back-off before a child that has ended is started again.

use std::time::Duration;

/// By default a child that lived this long was well: longer than a failing start takes, and shorter
/// than any useful life.
pub const DEFAULT_SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The three times that define a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffSettings {
    /// The first wait for a child that ended young; doubled each time.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A child that lived this long was well: it is started again at once.
    pub settled_after: Duration,
}

impl Default for BackoffSettings {
    /// With 100 ms a command that cannot start does not occupy a core; 10 s is what a person still
    /// waits after having fixed the cause.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
            settled_after: DEFAULT_SETTLED_AFTER,
        }
    }
}

/// The back-off of one child. It has no jitter: there is only one child, so nothing can fall into
/// step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    settings: BackoffSettings,
    next: Duration,
}

impl Backoff {
    /// The initial state, as if the child had just been well.
    pub(super) fn new(settings: BackoffSettings) -> Self {
        Self { settings, next: settings.initial.min(settings.max) }
    }

    /// How long to wait before the next start of a child that lived for `lived`.
    pub(super) fn wait(&mut self, lived: Duration) -> Duration {
        if lived >= self.settings.settled_after {
            *self = Self::new(self.settings);
            return Duration::ZERO;
        }
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.settings.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_a_good_life_ends_them() {
        let ms = Duration::from_millis;
        let mut backoff =
            Backoff::new(BackoffSettings { initial: ms(100), max: ms(300), settled_after: ms(2000) });
        assert_eq!(backoff.wait(ms(3000)), ms(0));
        assert_eq!(backoff.wait(ms(0)), ms(100));
        assert_eq!(backoff.wait(ms(1999)), ms(200));
        assert_eq!(backoff.wait(ms(0)), ms(300));
        assert_eq!(backoff.wait(ms(0)), ms(300));
        assert_eq!(backoff.wait(ms(2000)), ms(0));
        assert_eq!(backoff.wait(ms(0)), ms(100));
    }
}
