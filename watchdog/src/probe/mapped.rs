//! Whether the target still maps its segment, as far as is known. A separate thread asks the
//! kernel, which can hang; the watch loop reads the answer here and never blocks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

/// How long an answer is believed: twenty intervals between queries, or five where the kernel is
/// slow to answer. Whoever could exploit that time has the user id of the target, and may signal it
/// anyway (docs/adr/034).
pub const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// For a signal that requires a new answer, the query must be no older than this. A query takes
/// microseconds, or some tenths of a second to read a hundred thousand mappings; one made for an
/// earlier kill is older than this.
const NEW_FOR: Duration = Duration::from_secs(1);

/// The answers. All times are monotonic nanoseconds, and zero means none.
#[derive(Debug, Default)]
pub struct Mapped {
    /// When the last query that was answered with yes was made.
    confirmed: AtomicU64,
    /// When the pending query was made.
    asking: AtomicU64,
    /// Since when the loop wants a new answer.
    wanted: AtomicU64,
    lost: AtomicBool,
}

/// The conclusion from the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It maps the segment.
    Maps,
    /// It no longer maps the segment.
    Lost,
    /// There has been no answer for so long.
    Unknown(Duration),
}

impl Mapped {
    /// A target found to map its segment by a query made at `at`.
    pub const fn since(at: Monotonic) -> Self {
        Self {
            confirmed: AtomicU64::new(at.0),
            asking: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Makes a query through `ask`, which returns `None` where there is no answer; for the asking
    /// thread. Returns whether the loop must be woken for the answer.
    pub fn tell(&self, at: Monotonic, ask: impl FnOnce() -> Option<bool>) -> bool {
        self.asking.store(at.0, Ordering::Release);
        let answer = ask();
        let waits = self.is_wanted();
        match answer {
            Some(true) => self.confirmed.store(at.0, Ordering::Release),
            Some(false) => self.lost.store(true, Ordering::Release),
            None => {}
        }
        self.asking.store(0, Ordering::Release);
        answer == Some(false) || answer.is_some() && waits
    }

    /// Whether the loop waits for a new answer.
    pub fn is_wanted(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Acquire);
        wanted != 0 && self.confirmed.load(Ordering::Acquire) < wanted
    }

    /// Whether it no longer maps the segment.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The conclusion at `now`; for the loop.
    ///
    /// A query that hangs, because an operation on the target's memory does, makes no answer older:
    /// only what happened before the query was made can have changed anything, and a target that
    /// hangs like this should be killed.
    pub fn standing(&self, now: Monotonic) -> Standing {
        if self.is_lost() {
            return Standing::Lost;
        }
        let asking = self.asking.load(Ordering::Acquire);
        let confirmed = Monotonic(self.confirmed.load(Ordering::Acquire));
        let until = if asking == 0 { now } else { now.min(Monotonic(asking)) };
        let age = until.since(confirmed);
        if age <= BELIEVED_FOR { Standing::Maps } else { Standing::Unknown(age) }
    }

    /// Whether it was confirmed by a query made after this was first requested, and within the last
    /// second: if a kill was called off before its request was answered, the next kill must not use
    /// that answer. If true, the next signal requires another answer.
    pub fn confirmed_anew(&self, now: Monotonic) -> bool {
        let wished = self.wanted.load(Ordering::Acquire) != 0;
        if wished && self.is_wanted() {
            return false;
        }
        let confirmed = Monotonic(self.confirmed.load(Ordering::Acquire));
        let is_new = wished && now.since(confirmed) <= NEW_FOR;
        self.wanted.store(if is_new { 0 } else { now.0 }, Ordering::Release);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_answer_grows_old_unless_its_successor_hangs_and_a_loss_is_for_good() {
        let at = |seconds: u64| Monotonic(seconds * SECOND);
        let mapped = Mapped::since(at(10));
        assert_eq!(mapped.standing(at(15)), Standing::Maps);
        assert_eq!(mapped.standing(at(16)), Standing::Unknown(Duration::from_secs(6)));
        assert!(!mapped.tell(at(16), || None));
        assert_eq!(mapped.standing(at(16)), Standing::Unknown(Duration::from_secs(6)));
        assert!(!mapped.tell(at(16), || Some(true)), "nobody waited");
        assert_eq!(mapped.standing(at(17)), Standing::Maps);
        mapped.tell(at(18), || {
            assert_eq!(mapped.standing(at(1_000)), Standing::Maps, "it hangs");
            None
        });
        assert!(mapped.tell(at(19), || Some(false)));
        assert_eq!(mapped.standing(at(19)), Standing::Lost);
        mapped.tell(at(20), || Some(true));
        assert_eq!(mapped.standing(at(20)), Standing::Lost);
    }

    #[test]
    fn what_is_wanted_anew_is_an_answer_to_a_later_question() {
        let mapped = Mapped::since(Monotonic(10));
        assert!(!mapped.confirmed_anew(Monotonic(20)));
        assert!(mapped.is_wanted());
        mapped.tell(Monotonic(15), || Some(true));
        assert!(!mapped.confirmed_anew(Monotonic(21)), "that was asked before");
        assert!(mapped.tell(Monotonic(22), || Some(true)), "somebody waits");
        assert!(mapped.confirmed_anew(Monotonic(23)));
        assert!(!mapped.confirmed_anew(Monotonic(24)), "once");
    }

    #[test]
    fn an_answer_that_an_earlier_kill_wished_for_is_not_taken_for_a_later_one() {
        let at = |seconds: u64| Monotonic(seconds * SECOND);
        let mapped = Mapped::since(at(10));
        assert!(!mapped.confirmed_anew(at(20)));
        assert!(mapped.tell(at(21), || Some(true)));
        // Nobody used the answer: the kill was called off.
        assert!(!mapped.confirmed_anew(at(23)), "that is two seconds old");
        assert!(mapped.is_wanted(), "and another is asked for");
        assert!(mapped.tell(at(24), || Some(true)));
        assert!(mapped.confirmed_anew(at(25)));
    }
}
