//! When to observe a process next.

use core::time::Duration;

use crate::clock::Monotonic;
use crate::policy::{LONGEST_LOOK, Policy, THREAD_POLL};

use super::Incarnation;

/// Delay to the next observation when a thread has ended and it is not yet known whether the
/// process goes on. A lone survivor that has not begun to end by then goes on.
pub(super) const LOOK_ENDING: Duration = Duration::from_millis(2);
/// Interval for a condemned process: it is observed for the ladder; its end arrives as an event.
const LOOK_CONDEMNED: Duration = Duration::from_millis(50);

/// A process is at rest when none of its watched threads has been at work for this long. That is
/// several block times, so that the pause between blocks is not a rest.
const RESTS_AFTER: Duration = Duration::from_secs(2);

/// A threshold never causes two observations closer together than this, so a stall may be reported
/// this much too late.
pub(super) const SOONEST: Duration = Duration::from_millis(1);

impl Incarnation {
    /// The next moment at which the verdict could change without an event. `spared`: it is
    /// condemned for work for which nothing is killed, so that everything else may still condemn
    /// it.
    pub fn look_at(&self, policy: &Policy, at: Monotonic, spared: bool) -> Monotonic {
        if self.condemned.is_some() && !spared {
            // While an excuse holds the kill, as often as when it was condemned: an excuse that
            // comes and goes, as with a quota, would otherwise be there at every observation.
            let every = if self.is_held() { policy.look_every() } else { LOOK_CONDEMNED };
            return at.plus(every);
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
        next = self.silence_look_at(policy, at, next);
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

    /// Whether no thread or channel is missing, no message waits, and nothing has been at work for
    /// a while. A main thread ends without an event, so a process whose main thread is watched
    /// never rests.
    fn rests(&self, at: Monotonic) -> bool {
        self.missing.is_empty()
            && self.unpublished.is_empty()
            && self.exiting_since.is_none()
            && self.stopped_since.is_none()
            && self.tally.rests(at, RESTS_AFTER)
            && self.channels.iter().filter(|trial| trial.rule.is_some()).all(|trial| trial.depth() == 0)
    }
}
