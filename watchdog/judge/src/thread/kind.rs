//! How a thread stands still, and what its rule says about that.

use core::time::Duration;

use crate::observation::{TaskState, WaitChannel};
use crate::policy::{On, Rule};
use crate::verdict::StallKind;

use super::ThreadTrial;

/// A stall that was of a kind that is only reported must be of other kinds for this long before it
/// may kill. A thread that reads from a slow disk sleeps and runs in between, so that single
/// samples of it show no kind, or another one.
pub const KIND_SETTLES: Duration = Duration::from_secs(1);

/// Whether a standstill is of a kind that its rule only reports, where a rule tells kinds apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reported {
    /// For how long it has been of such a kind, without a break. `None`: it is not now.
    now: Option<Duration>,
    /// How long ago it was last of such a kind. `None`: not since its last progress.
    ago: Option<Duration>,
}

impl Reported {
    /// Notes what the newest samples show, `elapsed` after those before.
    fn look(&mut self, reports: bool, elapsed: Duration) {
        if reports {
            self.now = Some(self.now.map_or(Duration::ZERO, |before| before.saturating_add(elapsed)));
            self.ago = Some(Duration::ZERO);
        } else {
            self.now = None;
            self.ago = self.ago.map(|before| before.saturating_add(elapsed));
        }
    }
}

impl ThreadTrial {
    /// Notes the kind of its standstill. `elapsed`: time since the last observation in which the
    /// thread was watched and nothing held it.
    pub(super) fn note_kind(&mut self, rule: &Rule, elapsed: Duration) {
        if rule.by_kind.is_empty() {
            self.reported = Reported::default();
        } else if self.clock.samples().is_some() {
            let reports = rule.on_stall(self.kind()) != On::Kill;
            self.reported.look(reports, elapsed);
        }
    }

    /// Whether the kind of its stall, as it is now, is one that its rule only reports.
    pub fn is_only_reported(&self) -> bool {
        self.reported.now.is_some()
    }

    /// The same, for long enough that it is not a single sample.
    pub fn stays_only_reported(&self) -> bool {
        self.reported.now.is_some_and(|long| long >= KIND_SETTLES)
    }

    /// Whether a stall as it is now may kill, under this rule.
    pub fn kills_by(&self, rule: &Rule) -> bool {
        rule.on_stall(self.kind()) == On::Kill && self.reported.ago.is_none_or(|ago| ago >= KIND_SETTLES)
    }

    /// How it stands still, from the newest sample of the kernel's view and one at least 50 ms
    /// older: both must agree.
    pub fn kind(&self) -> StallKind {
        let Some((earlier, last)) = self.clock.samples() else { return StallKind::Unknown };
        let counted = last.counted.saturating_sub(earlier.counted);
        let (earlier, last) = (earlier.task, last.task);
        let busy = earlier
            .cpu_ns
            .zip(last.cpu_ns)
            .is_some_and(|(earlier, last)| Duration::from_nanos(last.saturating_sub(earlier)) > counted / 2);
        // A thread that waits for a worker that uses CPU is not deadlocked. It may wake now and
        // then to poll, and be sampled while it does.
        let works = self.workers.told().is_some_and(|(_, ran)| ran > self.counted() / 2);
        let runs = |state| matches!(state, TaskState::Running | TaskState::Sleeping);
        let sleeps = |state| matches!(state, TaskState::Sleeping | TaskState::DiskSleep);
        match (earlier.state, last.state) {
            // Checked before the state: the same wait for an answer may begin in `S` and go on in
            // `D`.
            (before, now)
                if sleeps(before)
                    && sleeps(now)
                    && (earlier.wait, last.wait)
                        == (Some(WaitChannel::Answer), Some(WaitChannel::Answer)) =>
            {
                StallKind::Blocked
            }
            (TaskState::DiskSleep, TaskState::DiskSleep) => StallKind::IoWait,
            (earlier, last) if runs(earlier) && runs(last) && (busy || works) => StallKind::Livelock,
            (TaskState::Sleeping, TaskState::Sleeping) => match (earlier.wait, last.wait) {
                (Some(WaitChannel::Futex), Some(WaitChannel::Futex)) => StallKind::Deadlock,
                (Some(WaitChannel::Other), Some(WaitChannel::Other)) => StallKind::Blocked,
                _ => StallKind::Unknown,
            },
            _ => StallKind::Unknown,
        }
    }
}
