//! When to look at a process next.

use core::time::Duration;

use crate::clock::Monotonic;
use crate::policy::{LONGEST_LOOK, Policy, THREAD_POLL};

use super::Incarnation;

/// How soon to look again when a thread has ended and the kernel has not yet said whether the
/// process goes on. A lone survivor that has not begun to end by then goes on.
pub(super) const LOOK_ENDING: Duration = Duration::from_millis(2);
/// A condemned process is looked at for the ladder's sake; its end arrives as an event.
const LOOK_CONDEMNED: Duration = Duration::from_millis(50);

/// A process rests when none of its watched threads has been at work for so long: several blocks'
/// time, so that the pauses between blocks are no rest.
const RESTS_AFTER: Duration = Duration::from_secs(2);

/// Two looks are never closer than this for a threshold's sake; a stall may be told so much too
/// late.
pub(super) const SOONEST: Duration = Duration::from_millis(1);

impl Incarnation {
    /// The next moment at which the verdict could change without an event.
    pub fn look_at(&self, policy: &Policy, at: Monotonic) -> Monotonic {
        if self.condemned.is_some() && !self.spared {
            return at.plus(LOOK_CONDEMNED);
        }
        if self.core_dumping {
            // Its end arrives as an event.
            return at.plus(LONGEST_LOOK);
        }
        if self.unsettled {
            return at.plus(LOOK_ENDING);
        }
        let every = if self.rests(at) { policy.look_at_rest() } else { policy.look_every() };
        let mut next = at.plus(every);
        if let Some(soonest) = self.tally.soonest() {
            next = next.min(at.plus(soonest));
        }
        next = self.channels_look_at(policy, at, next);
        let deadlines = [
            self.exiting_since.map(|since| since.plus(policy.exit_within)),
            self.stopped_since
                .filter(|_| policy.stopped_kills)
                .map(|since| since.plus(policy.stopped_at_most)),
        ];
        for deadline in deadlines.into_iter().flatten().filter(|deadline| *deadline > at) {
            next = next.min(deadline);
        }
        if policy.poll_threads { next.min(at.plus(THREAD_POLL)) } else { next }
    }

    /// Whether all is there, nothing waits, and nothing has been at work for a while. A leader ends
    /// without an event, so one that is watched is looked at as often as ever.
    fn rests(&self, at: Monotonic) -> bool {
        self.missing.is_empty()
            && self.unpublished.is_empty()
            && self.exiting_since.is_none()
            && self.stopped_since.is_none()
            && self.tally.rests(at, RESTS_AFTER)
            && self.channels.iter().filter(|trial| trial.rule.is_some()).all(|trial| trial.depth() == 0)
    }
}
