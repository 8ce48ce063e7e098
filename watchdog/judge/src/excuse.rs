//! How long each excuse may last. Excused time is summed over one standstill: progress, a change of
//! activity or a new incarnation ends it, as it resets the stall clock. An excuse past its cap is
//! reported, but nothing is killed for it (only a stop may, by a deadline of its own).

use core::time::Duration;

use crate::verdict::ExcuseKind;

/// The number of kinds of excuse.
const KINDS: usize = ExcuseKind::ALL.len();

/// The default cap. A freezer usually thaws within a backup or a migration; the core of a large
/// process is written within minutes; a cgroup that is over `memory.high` for longer is too small
/// for what is in it.
const UNCONFIGURED: Duration = Duration::from_secs(600);

/// For each kind the longest that it may excuse; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps([Option<Duration>; KINDS]);

impl Default for Caps {
    fn default() -> Self {
        let of = |kind: &ExcuseKind| match kind {
            ExcuseKind::Frozen | ExcuseKind::CoreDumping | ExcuseKind::MemoryThrottled => Some(UNCONFIGURED),
            // A stop has its own deadline. A suspended machine and a late watchdog cannot know how
            // long it was.
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
    /// Returns the same caps with another one for `kind`.
    #[must_use]
    pub fn with(mut self, kind: ExcuseKind, cap: Duration) -> Self {
        if let Some(place) = self.0.get_mut(kind as usize) {
            *place = Some(cap);
        }
        self
    }

    /// The cap for one kind; `None` if it has none.
    pub fn of(&self, kind: ExcuseKind) -> Option<Duration> {
        self.0.get(kind as usize).copied().flatten()
    }
}

/// Time excused during the present standstill, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excused {
    by_kind: [Duration; KINDS],
    /// The sum over all kinds.
    sum: Duration,
    /// The length of the standstill.
    stood: Duration,
}

impl Excused {
    /// Clears all sums.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The thread stood still for `elapsed` more.
    pub const fn stands(&mut self, elapsed: Duration) {
        self.stood = self.stood.saturating_add(elapsed);
    }

    /// How much more can have been lost if `counted` of the standstill counts: its parts are
    /// together no longer than it.
    pub const fn most(&self, counted: Duration) -> Duration {
        self.stood.saturating_sub(counted).saturating_sub(self.sum)
    }

    /// Adds `lost` for `kind`; true if that reached its cap.
    pub fn add(&mut self, kind: ExcuseKind, lost: Duration, caps: &Caps) -> bool {
        self.sum = self.sum.saturating_add(lost);
        let Some(sum) = self.by_kind.get_mut(kind as usize) else { return false };
        let before = *sum;
        *sum = sum.saturating_add(lost);
        caps.of(kind).is_some_and(|cap| before < cap && *sum >= cap)
    }

    /// Time excused so far by `kind`.
    pub fn of(&self, kind: ExcuseKind) -> Duration {
        self.by_kind.get(kind as usize).copied().unwrap_or_default()
    }

    /// Whether `kind` has reached its cap.
    pub fn over(&self, kind: ExcuseKind, caps: &Caps) -> bool {
        caps.of(kind).is_some_and(|cap| self.of(kind) >= cap)
    }
}

/// How many threads were at work and kept from running in a way that may make other threads of
/// their process wait for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Runnable, but given no CPU.
    pub starved: usize,
    /// Made to wait for memory by their cgroup; they may hold a lock of the program meanwhile.
    pub memory: usize,
}

impl Kept {
    /// Counts threads by what keeps each of them from running.
    pub fn of(each: impl Iterator<Item = ExcuseKind>) -> Self {
        each.fold(Self::default(), |kept, kind| match kind {
            ExcuseKind::Starved | ExcuseKind::Throttled | ExcuseKind::Stolen => {
                Self { starved: kept.starved + 1, ..kept }
            }
            ExcuseKind::MemoryThrottled => Self { memory: kept.memory + 1, ..kept },
            _ => kept,
        })
    }

    /// What keeps some other thread from running, given that `own` keeps the thread that asks.
    pub fn others(self, own: Option<ExcuseKind>) -> Option<ExcuseKind> {
        let own = Self::of(own.into_iter());
        if self.memory > own.memory {
            Some(ExcuseKind::MemoryThrottled)
        } else if self.starved > own.starved {
            Some(ExcuseKind::Starved)
        } else {
            None
        }
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

    #[test]
    fn what_is_excused_and_what_counts_are_together_no_longer_than_the_standstill() {
        let seconds = Duration::from_secs;
        let mut excused = Excused::default();
        excused.stands(seconds(10));
        assert_eq!(excused.most(seconds(4)), seconds(6));
        excused.add(ExcuseKind::Starved, seconds(5), &Caps::default());
        assert_eq!(excused.most(seconds(4)), seconds(1));
        assert_eq!(excused.most(seconds(6)), Duration::ZERO, "more counts than seemed to");
        excused.reset();
        assert_eq!(excused.most(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_thread_is_kept_by_others_and_not_by_itself() {
        use ExcuseKind::{MemoryThrottled, Starved, Traced};
        let kept = |kinds: &[ExcuseKind]| Kept::of(kinds.iter().copied());
        assert_eq!(kept(&[Starved]).others(None), Some(Starved));
        assert_eq!(kept(&[Starved]).others(Some(Starved)), None);
        assert_eq!(kept(&[Starved, Starved]).others(Some(Starved)), Some(Starved));
        assert_eq!(kept(&[Starved, MemoryThrottled]).others(Some(MemoryThrottled)), Some(Starved));
        assert_eq!(kept(&[Starved, MemoryThrottled]).others(None), Some(MemoryThrottled));
        assert_eq!(kept(&[Traced]), Kept::default());
    }
}
