//! Whether a cgroup of the process is over its `memory.high` (version 2), so that the kernel makes
//! whoever takes memory in it wait.
//!
//! A thread that waits so says it by the place in the kernel where it sleeps. Where the kernel
//! hides that place, or gives it a name that nobody has met (User Mode Linux names whatever lies on
//! the stack), such a thread looks like one that waits for a disk: then its cgroups are asked. Two
//! counters each, no lock, and only for a thread in `D`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::observation::{TaskState, ThreadObservation, WaitChannel};

/// What is read of one file: a number of at most 20 digits.
const LONGEST: usize = 32;
/// The kernel lets nobody sleep for less than 10 ms, which for one batch of 64 pages takes 1.2 %
/// over `memory.high`; for a huge page of 512 it takes 0.4 % (`calculate_high_delay` in
/// mm/memcontrol.c). Below this part of it nobody waits for memory, and a cgroup that is full of
/// cached files, which is about as large as it may be, is below.
const LEAST_PART: u64 = 256;

/// The kernel makes a thread sleep for 2 s at most (`MEMCG_MAX_HIGH_DELAY_JIFFIES`), and nothing
/// wakes it when the cgroup is over no more, be it that somebody raised `memory.high`. Half a
/// second more, for it has to run before it is seen to.
const SLEEPS_AT_MOST: Duration = Duration::from_millis(2_500);

/// The files that say it, open, for each level that has them: `memory.current` and `memory.high`.
#[derive(Debug)]
pub struct Memory(Vec<(OwnedFd, OwnedFd)>);

/// Where those files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<PathBuf>);

impl Place {
    /// Adds the folders of the process's own cgroup and of those above it: any of them may be what
    /// it is over.
    pub(super) fn add(&mut self, levels: &[PathBuf]) {
        self.0.extend_from_slice(levels);
    }

    /// Opens those that exist: the root has none, nor has a cgroup without the controller.
    pub(super) fn open(&self) -> Memory {
        let open = |level: &PathBuf| {
            Some((super::open(&level.join("memory.current"))?, super::open(&level.join("memory.high"))?))
        };
        Memory(self.0.iter().filter_map(open).collect())
    }
}

impl Memory {
    /// Whether one of them is so far over that the kernel makes somebody wait. What cannot be read
    /// or understood is no.
    pub fn is_over(&self) -> bool {
        self.0.iter().any(|(current, high)| {
            let over =
                number(high).zip(number(current)).map(|(high, current)| (high, current.saturating_sub(high)));
            over.is_some_and(|(high, over)| over > high / LEAST_PART)
        })
    }

    /// Says of each thread in `D` whose place in the kernel tells nothing, and of its workers, that
    /// it waits for memory, if a cgroup is over at `at`, or was a moment ago; `last` is when one
    /// was seen to be.
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

/// The number in a file; `max`, no limit, is none.
fn number(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; LONGEST];
    let read = rustix::io::pread(file, &mut text[..], 0).ok()?;
    std::str::from_utf8(text.get(..read)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observation::{Claim, Presence, TaskObservation};
    use crate::probe::cgroup::tests::tree;

    const MOUNTS: &str = "41 31 0:38 / TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const MIB: u64 = 1 << 20;

    /// Own cgroup and the one above it, each by what it uses and what its `memory.high` says.
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

    /// Where a thread is said to sleep in a cgroup that is over or not.
    fn named(over: bool, state: TaskState, wait: Option<WaitChannel>) -> Option<WaitChannel> {
        let (_root, memory) = opened((32 * MIB, if over { "16777216" } else { "max" }), (0, "max"));
        let task = TaskObservation { state, cpu_ns: Some(1), run_delay_ns: Some(1), wait };
        let mut threads = [ThreadObservation {
            slot: 0,
            generation: 1,
            name: Arc::from("exec-s0"),
            tid: 7,
            claim: Claim::Live,
            presence: Presence::Present,
            activity: 1,
            progress: 0,
            work_key: 0,
            attempt: 0,
            deadline_ns: 0,
            task: Some(task),
            workers: Vec::new(),
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
