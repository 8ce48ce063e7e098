//! Whether a cgroup of the process is over its `memory.high` (version 2), so that the kernel delays
//! whoever allocates memory in it.
//!
//! Such a wait is normally recognized by the place in the kernel where the thread sleeps. Where the
//! kernel hides that place or gives it an unknown name (User Mode Linux names whatever is on the
//! stack), the thread looks like one that waits for a disk; only then are its cgroups read: two
//! counters each, without a lock, and only for a thread in `D`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::observation::{TaskState, ThreadObservation, WaitChannel};

/// At most this many bytes of a file are read: a number has at most 20 digits.
const LONGEST: usize = 32;
/// The kernel never makes a thread sleep for less than 10 ms. To reach that, one batch of 64 pages
/// takes 1.2 % over `memory.high`, and a huge page of 512 takes 0.4 % (`calculate_high_delay` in
/// mm/memcontrol.c). Below this fraction no thread waits for memory. A cgroup full of cached files,
/// which is about as large as it may be, is below.
const LEAST_PART: u64 = 256;

/// The kernel makes a thread sleep for 2 s at most (`MEMCG_MAX_HIGH_DELAY_JIFFIES`). Nothing wakes
/// it when the cgroup is no longer over, even if `memory.high` was raised. Half a second more,
/// since it must run before that is seen.
const SLEEPS_AT_MOST: Duration = Duration::from_millis(2_500);

/// The open files of each level that has them: `memory.current` and `memory.high`.
#[derive(Debug)]
pub struct Memory(Vec<(OwnedFd, OwnedFd)>);

/// Where those files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<PathBuf>);

impl Place {
    /// Adds the folders of the process's own cgroup and of those above it: the limit of any of them
    /// may be exceeded.
    pub(super) fn add(&mut self, levels: &[PathBuf]) {
        self.0.extend_from_slice(levels);
    }

    /// Opens those that exist: the root has none, nor does a cgroup without the controller.
    pub(super) fn open(&self) -> Memory {
        let open = |level: &PathBuf| {
            Some((super::open(&level.join("memory.current"))?, super::open(&level.join("memory.high"))?))
        };
        Memory(self.0.iter().filter_map(open).collect())
    }
}

impl Memory {
    /// Whether one of them exceeds its limit so far that the kernel makes threads wait. False for
    /// what cannot be read or understood.
    pub fn is_over(&self) -> bool {
        self.0.iter().any(|(current, high)| {
            let over =
                number(high).zip(number(current)).map(|(high, current)| (high, current.saturating_sub(high)));
            over.is_some_and(|(high, over)| over > high / LEAST_PART)
        })
    }

    /// Marks each thread in `D` whose place in the kernel is unknown, and its workers, as waiting
    /// for memory, if a cgroup is over its limit at `at` or was a moment ago. `last` is when one
    /// was last seen to be over.
    pub fn name(&self, at: Monotonic, last: &mut Option<Monotonic>, threads: &mut [ThreadObservation]) {
        let open = super::tasks(threads).filter(|task| {
            task.state == TaskState::DiskSleep && matches!(task.wait, None | Some(WaitChannel::Other))
        });
        let mut over = None;
        for task in open {
            if !*over.get_or_insert_with(|| self.was_over(at, last)) {
                return;
            }
            task.wait = Some(WaitChannel::Memory);
        }
    }
}

impl Memory {
    fn was_over(&self, at: Monotonic, last: &mut Option<Monotonic>) -> bool {
        if self.is_over() {
            *last = Some(at);
        }
        last.is_some_and(|last| at.since(last) <= SLEEPS_AT_MOST)
    }
}

/// The number in a file; `None` for `max`, which means no limit.
fn number(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; LONGEST];
    let read = rustix::io::pread(file, &mut text[..], 0).ok()?;
    std::str::from_utf8(text.get(..read)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observation::TaskObservation;
    use crate::probe::cgroup::tests::tree;

    const MOUNTS: &str = "41 31 0:38 / TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const MIB: u64 = 1 << 20;

    /// The own cgroup and the one above it, each with its usage and its `memory.high`.
    fn opened(own: (u64, &str), above: (u64, &str)) -> (tempfile::TempDir, Memory) {
        let text = [own, above].map(|(current, high)| (format!("{current}\n"), format!("{high}\n")));
        let files = [
            ("unified/pod/box/memory.current", text[0].0.as_str()),
            ("unified/pod/box/memory.high", text[0].1.as_str()),
            ("unified/pod/memory.current", text[1].0.as_str()),
            ("unified/pod/memory.high", text[1].1.as_str()),
        ];
        let (root, place) = tree("0::/pod/box\n", MOUNTS, &files);
        (root, place.open().memory)
    }

    fn over(own: (u64, &str), above: (u64, &str)) -> bool {
        opened(own, above).1.is_over()
    }

    #[test]
    fn its_own_cgroup_or_one_above_is_over() {
        let none = (MIB, "max");
        assert!(over((32 * MIB, "16777216"), none));
        assert!(over(none, (32 * MIB, "16777216")));
        assert!(over((1, "0"), none), "everything is over nothing");
        assert!(!over((16 * MIB, "16777216"), none));
        assert!(!over(none, none));
    }

    #[test]
    fn who_is_full_of_cached_files_is_not_over() {
        let batches = 64 * 4096;
        assert!(!over((512 * MIB + batches, "536870912"), (0, "max")));
        assert!(over((512 * MIB + 3 * MIB, "536870912"), (0, "max")));
    }

    #[test]
    fn garbage_and_nothing_are_no_limit() {
        for high in ["", "-1", "max", "1e3", "99999999999999999999999999999999999999"] {
            assert!(!over((u64::MAX, high), (u64::MAX, "")), "{high:?}");
        }
        let (_root, place) = tree("0::/pod/box\n", MOUNTS, &[("unified/pod/box/memory.high", "0\n")]);
        assert!(!place.open().memory.is_over(), "nothing says how much it uses");
    }

    #[test]
    fn who_was_sent_to_sleep_sleeps_on_for_two_seconds_when_the_limit_is_raised() {
        let (root, memory) = opened((32 * MIB, "16777216"), (0, "max"));
        let mut last = None;
        let mut at = |milliseconds: u64| memory.was_over(Monotonic(milliseconds * 1_000_000), &mut last);
        assert!(at(1_000));
        std::fs::write(root.path().join("unified/pod/box/memory.high"), "max\n").expect("written");
        assert!(at(1_001) && at(3_000));
        assert!(!at(3_501), "by then it is awake, or it is something else");
    }

    /// The reported wait channel of a thread in a cgroup that is over its limit or not.
    fn named(over: bool, state: TaskState, wait: Option<WaitChannel>) -> Option<WaitChannel> {
        let (_root, memory) = opened((32 * MIB, if over { "16777216" } else { "max" }), (0, "max"));
        let task = TaskObservation { state, cpu_ns: Some(1), run_delay_ns: Some(1), wait };
        let mut threads = [ThreadObservation {
            activity: 1,
            task: Some(task),
            ..ThreadObservation::blank(0, 1, Arc::from("exec-s0"), 7)
        }];
        memory.name(Monotonic(1), &mut None, &mut threads);
        threads[0].task.and_then(|task| task.wait)
    }

    #[test]
    fn only_who_is_in_d_in_an_unknown_place_is_said_to_wait_for_memory() {
        use TaskState::{DiskSleep, Sleeping};
        for wait in [None, Some(WaitChannel::Other)] {
            assert_eq!(named(true, DiskSleep, wait), Some(WaitChannel::Memory));
            assert_eq!(named(false, DiskSleep, wait), wait);
            assert_eq!(named(true, Sleeping, wait), wait);
        }
        for known in [WaitChannel::Frozen, WaitChannel::Answer, WaitChannel::Futex] {
            assert_eq!(named(true, DiskSleep, Some(known)), Some(known));
        }
    }
}
