//! Start times of tasks, in the segment and in `/proc`. A task is identified by its id and its
//! start time, so both sources must be compared on the same clock.

/// Converts start times in the segment to those in `/proc` as the sidecar reads it. Both are clock
/// ticks since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// What to add: not zero for a process in another time namespace.
    offset: i64,
    /// For each task of a process at the time when it was restored from a checkpoint: thread id and
    /// start time in the segment, and the start time in `/proc`. Sorted.
    restored: Vec<((u64, u64), u64)>,
}

/// When a task started, by the sidecar's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartTime {
    /// Clock ticks since boot.
    pub ticks: u64,
    /// Tolerance in ticks: one where a time namespace shifts it by a fraction of a tick.
    pub slack: u64,
}

impl StartTimes {
    /// For a process whose clock is ahead of the sidecar's by `-offset` ticks.
    pub const fn shifted(offset: i64) -> Self {
        Self { offset, restored: Vec::new() }
    }

    /// The same for a process restored from a checkpoint: its tasks have their former ids and new
    /// start times.
    #[must_use]
    pub fn restored(mut self, mut tasks: Vec<((u64, u64), u64)>) -> Self {
        tasks.sort_unstable();
        self.restored = tasks;
        self
    }

    /// Whether the process was restored from a checkpoint.
    pub const fn is_restored(&self) -> bool {
        !self.restored.is_empty()
    }

    /// When the task started whose id and start time in the segment are these.
    pub fn of(&self, tid: u64, recorded: u64) -> StartTime {
        match self.restored.binary_search_by_key(&(tid, recorded), |(task, _)| *task) {
            Ok(place) => {
                let ticks = self.restored.get(place).map_or(recorded, |(_, ticks)| *ticks);
                StartTime { ticks, slack: 0 }
            }
            // A thread started after the restore records the right time.
            Err(_) => {
                let ticks = recorded.wrapping_add_signed(self.offset);
                StartTime { ticks, slack: u64::from(self.offset != 0) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_moves_all_of_them_and_a_restore_each_by_its_own() {
        assert_eq!(StartTimes::default().of(7, 100), StartTime { ticks: 100, slack: 0 });
        let shifted = StartTimes::shifted(-40);
        assert_eq!(shifted.of(7, 100), StartTime { ticks: 60, slack: 1 });
        assert!(!shifted.is_restored());
        let restored = StartTimes::shifted(5).restored(vec![((8, 100), 910), ((7, 100), 900)]);
        assert!(restored.is_restored());
        assert_eq!(restored.of(7, 100), StartTime { ticks: 900, slack: 0 });
        assert_eq!(restored.of(8, 100), StartTime { ticks: 910, slack: 0 });
        assert_eq!(
            restored.of(7, 950),
            StartTime { ticks: 955, slack: 1 },
            "another thread of that id, later"
        );
        assert_eq!(restored.of(9, 950), StartTime { ticks: 955, slack: 1 });
    }
}
