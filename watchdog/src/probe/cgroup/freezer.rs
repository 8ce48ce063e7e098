//! Whether the process's cgroup is frozen, for version 1 (`freezer.state`) and version 2
//! (`cgroup.events`, `cgroup.freeze`).
//!
//! A frozen thread is normally recognized by the place in the kernel where it sleeps. Where the
//! kernel hides that place or gives it an unknown name, a frozen thread looks like a hung one; only
//! then are the cgroup's files read. Nothing is read for a thread that makes progress, runs, or
//! waits for a lock.
//!
//! Reading `freezer.state` takes the kernel's lock of all version 1 freezers, which is held while a
//! freeze goes through the tasks of a cgroup. So version 1 is read only for a thread in `D`, the
//! state in which it shows every thread that it holds. The files of version 2 take no such lock.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::observation::{TaskObservation, TaskState, ThreadObservation, WaitChannel};

/// At most this many bytes of a file are read: `cgroup.events`, the longest of them, has two lines.
const LONGEST: usize = 256;

/// The open files.
#[derive(Debug)]
pub struct Freezer(Vec<(Says, OwnedFd)>);

/// Where those files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<(Says, PathBuf)>);

/// The kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// `cgroup.events`: has a line `frozen 1` once everything in the cgroup is frozen, whichever
    /// cgroup above it was frozen.
    Events,
    /// `cgroup.freeze`: `1` as soon as the cgroup itself is ordered to freeze. A task that waits
    /// for a disk delays the frozen state of its cgroup, while all others in it are already held.
    Order,
    /// `freezer.state`: `FROZEN`, and `FREEZING` until everything is frozen, whichever cgroup above
    /// it was frozen.
    State,
}

/// Version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A separate freezer, `freezer.state`.
    One,
    /// The unified hierarchy.
    Two,
}

impl Place {
    /// Adds the files of one hierarchy, given the folders of the process's own cgroup and of those
    /// above it.
    pub(super) fn add(&mut self, levels: &[PathBuf], unified: bool) {
        let own = levels.first();
        if unified {
            self.0.extend(own.map(|own| (Says::Events, own.join("cgroup.events"))));
            self.0.extend(levels.iter().map(|level| (Says::Order, level.join("cgroup.freeze"))));
        } else {
            self.0.extend(own.map(|own| (Says::State, own.join("freezer.state"))));
        }
    }

    /// Opens those that exist: the root of a tree has none, nor does version 2 before Linux 5.2.
    pub(super) fn open(&self) -> Freezer {
        Freezer(self.0.iter().filter_map(|(says, path)| Some((*says, super::open(path)?))).collect())
    }
}

impl Freezer {
    /// Whether the cgroup is frozen or about to be, according to the files of one version. False
    /// for what cannot be read or understood.
    pub fn is_frozen(&self, version: Version) -> bool {
        self.0.iter().filter(|(says, _)| says.version() == version).any(|(says, file)| {
            let mut text = [0; LONGEST];
            let read = rustix::io::pread(file, &mut text[..], 0).unwrap_or_default();
            // If it fills the buffer, it may be incomplete.
            text.get(..read).filter(|text| text.len() < LONGEST).is_some_and(|text| says.frozen(text))
        })
    }

    /// Marks each thread without progress, and its workers, as frozen, if its cgroup is frozen and
    /// its place in the kernel does not contradict that.
    pub fn name(&self, threads: &mut [ThreadObservation]) {
        // After observing the threads, so that a thread that was frozen then is not reported as
        // free, unless it was thawed in between. Each version is read at most once.
        let (mut first, mut second) = (None, None);
        for task in super::tasks(threads).filter(|task| is_open(task)) {
            let frozen = *second.get_or_insert_with(|| self.is_frozen(Version::Two))
                || task.state == TaskState::DiskSleep
                    && *first.get_or_insert_with(|| self.is_frozen(Version::One));
            if frozen {
                task.wait = Some(WaitChannel::Frozen);
            }
        }
    }
}

/// Whether the freezer may hold the task without `wchan` showing it. This cannot be if it waits for
/// a lock: the freezer would have woken it, or `wchan` would show it.
const fn is_open(task: &TaskObservation) -> bool {
    matches!(task.state, TaskState::Sleeping | TaskState::DiskSleep)
        && matches!(task.wait, None | Some(WaitChannel::Other | WaitChannel::Answer))
}

impl Says {
    const fn version(self) -> Version {
        match self {
            Self::Events | Self::Order => Version::Two,
            Self::State => Version::One,
        }
    }

    fn frozen(self, text: &[u8]) -> bool {
        match self {
            Self::Events => text.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1"),
            Self::Order => text.trim_ascii() == b"1",
            Self::State => matches!(text.trim_ascii(), b"FROZEN" | b"FREEZING"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observation::{Presence, WorkerObservation};
    use crate::probe::cgroup::tests::tree;

    const UNIFIED: &str = "41 31 0:38 / TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "32 31 0:29 / TREE/freezer rw,relatime - cgroup cgroup rw,freezer\n\
                          41 31 0:38 / TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";

    /// Whether a process is frozen in a tree of these files.
    fn frozen(cgroup: &str, mounts: &str, files: &[(&str, &str)]) -> bool {
        let (_root, place) = tree(cgroup, mounts, files);
        either(&place.open().freezer)
    }

    fn either(freezer: &Freezer) -> bool {
        freezer.is_frozen(Version::One) || freezer.is_frozen(Version::Two)
    }

    /// The same for version 2, by the contents of its own two files; `None`: no such file.
    fn unified(events: Option<&str>, order: Option<&str>) -> bool {
        let files = [("unified/pod/box/cgroup.events", events), ("unified/pod/box/cgroup.freeze", order)];
        let files: Vec<_> = files.into_iter().filter_map(|(path, text)| Some((path, text?))).collect();
        frozen("0::/pod/box\n", UNIFIED, &files)
    }

    #[test]
    fn version_2_is_frozen_from_the_order_on_and_by_any_cgroup_above() {
        let thawed = Some("populated 1\nfrozen 0\n");
        assert!(!unified(thawed, Some("0\n")));
        assert!(unified(Some("populated 1\nfrozen 1\n"), Some("0\n")), "by one above, out of sight perhaps");
        assert!(unified(thawed, Some("1\n")), "held back by a task that waits for a disk");
        let above = [
            ("unified/pod/box/cgroup.events", "populated 1\nfrozen 0\n"),
            ("unified/pod/box/cgroup.freeze", "0\n"),
            ("unified/pod/cgroup.freeze", "1\n"),
        ];
        assert!(frozen("0::/pod/box\n", UNIFIED, &above));
        // The file of a sibling cgroup is irrelevant.
        let sister = [("unified/pod/other/cgroup.events", "frozen 1\n")];
        assert!(!frozen("0::/pod/box\n", UNIFIED, &sister));
    }

    #[test]
    fn version_1_tells_of_those_above_in_its_own_file_also_beside_version_2() {
        let version_1 = |state: &str| {
            let files = [
                ("freezer/box/freezer.state", state),
                ("unified/user/cgroup.events", "populated 1\nfrozen 0\n"),
            ];
            frozen("6:freezer:/box\n0::/user\n", HYBRID, &files)
        };
        assert!(version_1("FROZEN\n") && version_1("FREEZING\n"));
        assert!(!version_1("THAWED\n") && !version_1("FROZEN?\n") && !version_1(""));
        let files = [
            ("freezer/box/freezer.state", "THAWED\n"),
            ("unified/user/cgroup.events", "populated 1\nfrozen 1\n"),
        ];
        assert!(frozen("6:freezer:/box\n0::/user\n", HYBRID, &files), "by the other one");
    }

    #[test]
    fn what_is_missing_or_no_word_of_the_kernel_is_not_frozen() {
        assert!(!unified(None, None), "Linux before 5.2, or a cgroup that is gone");
        let huge = "populated 1\nfrozen 1\n".repeat(LONGEST);
        for garbage in ["", "1", "frozen", "frozen 10", "frozen 1 ", "unfrozen 1", "\0\u{fffd}", &huge] {
            assert!(!unified(Some(garbage), Some("2")), "{garbage:?}");
        }
        assert!(!unified(Some("frozen 0\n"), Some(&"1".repeat(LONGEST))));
        assert!(!frozen("0::/pod/../box\n", UNIFIED, &[("unified/box/cgroup.events", "frozen 1\n")]));
    }

    #[test]
    fn a_file_that_changes_is_read_anew() {
        let files = [("unified/box/cgroup.events", "populated 1\nfrozen 0\n")];
        let (root, place) = tree("0::/box\n", UNIFIED, &files);
        let freezer = place.open().freezer;
        assert!(!either(&freezer));
        std::fs::write(root.path().join("unified/box/cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(either(&freezer));
        std::fs::remove_dir_all(root.path().join("unified")).unwrap();
        assert!(either(&freezer), "an open file of it is read as ever, until the adopter brings another");
        assert!(!either(&place.open().freezer));
    }

    const fn task(state: TaskState, wait: Option<WaitChannel>) -> TaskObservation {
        TaskObservation { state, cpu_ns: Some(1), run_delay_ns: Some(1), wait }
    }

    /// The reported wait channel of a thread, and of the worker of another, in a cgroup of version
    /// 2 that is frozen or not.
    fn named(frozen: bool, seen: TaskObservation) -> Option<WaitChannel> {
        let events = if frozen { "frozen 1\n" } else { "frozen 0\n" };
        let (_root, place) = tree("0::/box\n", UNIFIED, &[("unified/box/cgroup.events", events)]);
        named_by(&place.open().freezer, seen)
    }

    fn named_by(freezer: &Freezer, seen: TaskObservation) -> Option<WaitChannel> {
        let thread = |task, workers| ThreadObservation {
            activity: 1,
            task,
            workers,
            ..ThreadObservation::blank(0, 1, Arc::from("exec-s0"), 7)
        };
        let worker =
            WorkerObservation { lane: 1, generation: 1, presence: Presence::Present, task: Some(seen) };
        let running = task(TaskState::Running, None);
        let mut threads =
            [thread(None, Vec::new()), thread(Some(seen), Vec::new()), thread(Some(running), vec![worker])];
        freezer.name(&mut threads);
        assert_eq!(threads[0].task, None, "nobody has asked about one that makes progress");
        assert_eq!(threads[2].task, Some(running), "whoever runs is not frozen");
        let wait = threads[1].task.and_then(|task| task.wait);
        assert_eq!(threads[2].workers[0].task.and_then(|task| task.wait), wait, "its worker likewise");
        wait
    }

    #[test]
    fn in_a_frozen_cgroup_whoever_sleeps_nobody_knows_where_is_frozen() {
        use TaskState::{DiskSleep, Running, Sleeping, Stopped, Traced};
        for state in [Sleeping, DiskSleep] {
            for wait in [None, Some(WaitChannel::Other), Some(WaitChannel::Answer)] {
                assert_eq!(named(true, task(state, wait)), Some(WaitChannel::Frozen), "{state:?} {wait:?}");
                assert_eq!(named(false, task(state, wait)), wait, "{state:?} {wait:?}");
            }
        }
        // Their own wait channel decides.
        assert_eq!(named(true, task(Sleeping, Some(WaitChannel::Futex))), Some(WaitChannel::Futex));
        assert_eq!(named(false, task(Sleeping, Some(WaitChannel::Frozen))), Some(WaitChannel::Frozen));
        for state in [Running, Stopped, Traced] {
            assert_eq!(named(true, task(state, None)), None, "{state:?}");
        }
    }

    #[test]
    fn version_1_is_asked_for_a_thread_in_d_and_never_for_one_in_s() {
        // The file says FROZEN, so any thread for which it is read is marked, even one in `S`.
        let files = [("freezer/box/freezer.state", "FROZEN\n")];
        let (_root, place) = tree("6:freezer:/box\n", HYBRID, &files);
        let freezer = place.open().freezer;
        for wait in [None, Some(WaitChannel::Other), Some(WaitChannel::Answer)] {
            let named = |state| named_by(&freezer, task(state, wait));
            assert_eq!(named(TaskState::DiskSleep), Some(WaitChannel::Frozen), "{wait:?}");
            assert_eq!(named(TaskState::Sleeping), wait, "{wait:?}");
        }
    }
}
