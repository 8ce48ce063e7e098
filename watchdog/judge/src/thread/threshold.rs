//! After how long a thread is late, and after how long stalled.

use core::time::Duration;

use crate::policy::{Rule, SHORTEST_DEADLINE, SectionLimits};

use super::ThreadTrial;

impl ThreadTrial {
    /// Counted time without progress after which it is stalled. Its owner may set less than its
    /// rule or section, never more, and no less than two samples take.
    pub fn stall_after(&self, rule: &Rule) -> Duration {
        let (given, _) = self.given(rule);
        let allowed = if self.warms_up(rule.warm_up) { given.max(rule.warm_up) } else { given };
        self.deadline.map_or(allowed, |deadline| allowed.min(deadline.max(SHORTEST_DEADLINE)))
    }

    /// Counted time without progress after which it is late. For a first piece of work, which may
    /// take longer, the warning comes as long before the verdict as for any other.
    pub fn warn_after(&self, rule: &Rule) -> Duration {
        let stall_after = self.stall_after(rule);
        let (given, warn_after) = self.given(rule);
        warn_after.saturating_add(stall_after.saturating_sub(given)).min(stall_after)
    }

    /// Whether it does its first piece of work since it was registered, and had not done it for as
    /// long as this when it last made progress: some threads have one piece of work that never
    /// ends. The word itself says which piece it is, so that a sidecar that comes later knows it
    /// too: it is zero at first, and changes with each beginning and end.
    pub fn warms_up(&self, within: Duration) -> bool {
        self.activity == 1 && self.work_since.is_some_and(|since| self.last_beat.since(since) < within)
    }

    /// The thresholds of the section that it is in, if its rule has some for it.
    ///
    /// The word of the section changes only with a sign of life, so counted time belongs to one
    /// section: a word that comes and goes cannot condemn a thread by the time of another one.
    pub fn section_limits<'a>(&self, rule: &'a Rule) -> Option<&'a SectionLimits> {
        rule.section(self.section)
    }

    /// What its section, or else its rule, allows: until it is stalled, and until it is late.
    pub fn given(&self, rule: &Rule) -> (Duration, Duration) {
        self.section_limits(rule)
            .map_or((rule.stall_after, rule.warn_after), |limits| (limits.stall_after, limits.warn_after))
    }
}
