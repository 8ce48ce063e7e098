//! How long each excuse may excuse. An excuse counts for one piece of standing still: progress, a change of activity or a new
//! incarnation ends it, as it resets the stall clock. Past its cap an excuse still kills nobody (only a stop may, by a deadline
//! of its own): a person is told.

use core::time::Duration;

use crate::verdict::ExcuseKind;

/// How many kinds there are.
const KINDS: usize = ExcuseKind::ALL.len();

/// Unless somebody says otherwise: a freezer, as a rule, thaws within a backup or a migration; a core of a large process is
/// written within minutes.
const UNCONFIGURED: Duration = Duration::from_secs(600);

/// For each kind the longest that it may excuse; `None`: as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps([Option<Duration>; KINDS]);

impl Default for Caps {
    fn default() -> Self {
        let of = |kind: &ExcuseKind| match kind {
            ExcuseKind::Frozen | ExcuseKind::CoreDumping => Some(UNCONFIGURED),
            // A stop has its own deadline. A suspended machine and a late watchdog cannot know how long it was.
            _ => None,
        };
        let mut caps = [None; KINDS];
        for (cap, kind) in caps.iter_mut().zip(ExcuseKind::ALL) {
            *cap = of(kind);
        }
        Self(caps)
    }
}

impl Caps {
    /// The same with another cap for one kind.
    #[must_use]
    pub fn with(mut self, kind: ExcuseKind, cap: Duration) -> Self {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = Some(cap);
        }
        self
    }

    /// The cap of one kind.
    pub fn of(&self, kind: ExcuseKind) -> Option<Duration> {
        self.0.get(kind as usize).copied().flatten()
    }
}

/// Time excused for the present piece of standing still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excused([Duration; KINDS]);

impl Excused {
    /// Forgets all of it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Adds `lost` for `kind`; true if that took it to its cap.
    pub fn add(&mut self, kind: ExcuseKind, lost: Duration, caps: &Caps) -> bool {
        let Some(sum) = self.0.get_mut(kind as usize) else { return false };
        let before = *sum;
        *sum = sum.saturating_add(lost);
        caps.of(kind).is_some_and(|cap| before < cap && *sum >= cap)
    }

    /// How long `kind` has excused.
    pub fn of(&self, kind: ExcuseKind) -> Duration {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }

    /// Whether `kind` has excused as long as it may.
    pub fn over(&self, kind: ExcuseKind, caps: &Caps) -> bool {
        caps.of(kind).is_some_and(|cap| self.of(kind) >= cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_reached_once_for_each_piece_of_standing_still() {
        let caps = Caps::default().with(ExcuseKind::Starved, Duration::from_secs(2));
        let mut excused = Excused::default();
        let second = Duration::from_secs(1);
        let reached = [1, 2, 3].map(|_| excused.add(ExcuseKind::Starved, second, &caps));
        assert_eq!(reached, [false, true, false]);
        assert!(excused.over(ExcuseKind::Starved, &caps) && !excused.over(ExcuseKind::Traced, &caps));
        excused.reset();
        assert!(!excused.over(ExcuseKind::Starved, &caps));
        assert!(!excused.add(ExcuseKind::Suspended, Duration::MAX, &caps), "it has no cap");
    }
}
