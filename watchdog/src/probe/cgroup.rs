//! What the process's cgroups report on throttling, for version 1 (`cpu.stat` of the `cpu`
//! controller) and version 2, on freezing ([`freezer`]), on memory ([`memory`]) and on kills for
//! want of it ([`oom`]).
//!
//! An ancestor's throttling shows only in the ancestor, so all visible ancestors are read. Finding
//! them takes locks that every move between cgroups takes, so the adopter's thread does it; the
//! loop reads open files. The counters cover all CPUs together and lag behind, so no time is ever
//! derived from them: if they grow, the process is being throttled, and nothing else follows.

pub mod freezer;
pub mod memory;
pub mod mounts;
pub mod oom;

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::observation::{TaskObservation, ThreadObservation, ThrottleObservation};

use freezer::Freezer;
use memory::Memory;
use mounts::Mount;
use oom::OomKills;

/// Most levels of the tree that are read, from the process's own cgroup up. Kubernetes has five.
const MOST_LEVELS: usize = 16;
/// At most this many bytes of `/proc/PID/cgroup` are read: one line for each of about a dozen
/// hierarchies, with a path of 4 KiB at most.
const LONGEST: u64 = 128 << 10;

/// The files of one process's cgroups, open.
#[derive(Debug)]
pub struct Cgroups {
    /// For throttling.
    pub cpu_stat: CpuStat,
    /// For freezing.
    pub freezer: Freezer,
    /// For memory.
    pub memory: Memory,
    /// For kills by the OOM killer.
    pub oom_kills: OomKills,
}

/// The `cpu.stat` files of one process's cgroup and of all above it, open.
#[derive(Debug)]
pub struct CpuStat(Vec<OwnedFd>);

/// Where those files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    cpu_stat: Vec<PathBuf>,
    freezer: freezer::Place,
    memory: memory::Place,
    oom: oom::Place,
}

impl Place {
    /// Finds them for the process whose folder in `/proc` is `proc_dir`, through the mounts of this
    /// process, whose folder is `own`. Empty if none are visible, as in a container without a
    /// cgroup mount.
    pub fn find(proc_dir: &Path, own: &Path) -> Self {
        let mounts = mounts::read(own);
        let mut place = Self::default();
        for group in groups(proc_dir) {
            let unified = group.hierarchy == b"0";
            let has = |controller: &str| unified || group.has(controller);
            let (cpu, freezer, memory) = (has("cpu"), has("freezer"), has("memory"));
            let Some(controller) = ["cpu", "freezer", "memory"].into_iter().find(|name| has(name)) else {
                continue;
            };
            let of_hierarchy = |mount: &&Mount| match unified {
                true => mount.kind == b"cgroup2",
                false => mount.kind == b"cgroup" && mount.option(controller).is_some(),
            };
            let Some(levels) = levels(&group.path, mounts.iter().filter(of_hierarchy)) else { continue };
            if cpu {
                place.cpu_stat.extend(levels.iter().map(|level| level.join("cpu.stat")));
            }
            if freezer {
                place.freezer.add(&levels, unified);
            }
            if unified {
                place.memory.add(&levels);
            }
            if memory && let Some(own) = levels.first() {
                place.oom.add(own.clone());
            }
        }
        place
    }

    /// Opens those that exist: the root of a tree has none.
    pub fn open(&self) -> Cgroups {
        let opened = self.cpu_stat.iter().filter_map(|path| open(path));
        Cgroups {
            cpu_stat: CpuStat(opened.collect()),
            freezer: self.freezer.open(),
            memory: self.memory.open(),
            oom_kills: self.oom.open(),
        }
    }
}

/// The folder of a process's cgroup in the unified hierarchy, found like [`Place::find`]; `None` if
/// none is visible.
pub fn unified(proc_dir: &Path, own: &Path) -> Option<PathBuf> {
    let mounts = mounts::read(own);
    let group = groups(proc_dir).into_iter().find(|group| group.hierarchy == b"0")?;
    levels(&group.path, mounts.iter().filter(|mount| mount.kind == b"cgroup2"))?.into_iter().next()
}

/// The folders of the cgroups of a process that account for memory, found like [`Place::find`], its
/// own one first. Empty if none are visible.
pub fn memory_levels(proc_dir: &Path, own: &Path) -> Vec<PathBuf> {
    let mounts = mounts::read(own);
    let of = |group: &Group| {
        let unified = group.hierarchy == b"0";
        let holds = |mount: &&Mount| match unified {
            true => mount.kind == b"cgroup2",
            false => mount.kind == b"cgroup" && mount.option("memory").is_some(),
        };
        levels(&group.path, mounts.iter().filter(holds))
    };
    let groups = groups(proc_dir);
    let accounts = groups.iter().filter(|group| group.hierarchy == b"0" || group.has("memory"));
    accounts.filter_map(of).flatten().collect()
}

/// The kernel's view of each of these threads and of their workers.
fn tasks(threads: &mut [ThreadObservation]) -> impl Iterator<Item = &mut TaskObservation> {
    threads.iter_mut().flat_map(|thread| {
        let workers = thread.workers.iter_mut().filter_map(|worker| worker.task.as_mut());
        thread.task.iter_mut().chain(workers)
    })
}

/// The folders of a process's cgroup and those above it, through the mount that shows most of them.
///
/// One hierarchy may be mounted more than once: a container has its own part of it bound to a
/// folder, and a tool binds another part elsewhere. A mount shows only what is below its root, so
/// one whose root does not contain the process is useless. Of the others, the one with the highest
/// root shows the most. A mount covered by another one does not have the folder.
fn levels<'a>(group: &Path, mounts: impl Iterator<Item = &'a Mount>) -> Option<Vec<PathBuf>> {
    let mut holding: Vec<(&Mount, &Path)> = mounts
        .filter_map(|mount| Some((mount, group.strip_prefix(&mount.root).ok()?)))
        // Outside the root of a cgroup namespace.
        .filter(|(_, below)| !below.components().any(|part| part == std::path::Component::ParentDir))
        .collect();
    holding.sort_by_key(|(mount, _)| mount.root.components().count());
    let (mount, below) = holding.iter().find(|(mount, below)| mount.point.join(below).is_dir())?;
    // The topmost level is the mount point itself, written without a trailing slash.
    let level =
        |below: &Path| if below == Path::new("") { mount.point.clone() } else { mount.point.join(below) };
    Some(below.ancestors().take(MOST_LEVELS).map(level).collect())
}

/// One line of `/proc/PID/cgroup`.
struct Group {
    hierarchy: Vec<u8>,
    controllers: Vec<u8>,
    path: PathBuf,
}

impl Group {
    fn has(&self, wanted: &str) -> bool {
        self.controllers.split(|byte| *byte == b',').any(|controller| controller == wanted.as_bytes())
    }
}

/// The process's place in each hierarchy; empty if it cannot be read. A cgroup's name may be any
/// bytes.
fn groups(proc_dir: &Path) -> Vec<Group> {
    let mut text = Vec::new();
    // Use whatever was read before an error.
    let _ = std::fs::File::open(proc_dir.join("cgroup"))
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let group = |line: &[u8]| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (hierarchy, controllers) = (fields.next()?.to_vec(), fields.next()?.to_vec());
        let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
        Some(Group { hierarchy, controllers, path })
    };
    text.split(|byte| *byte == b'\n').filter_map(group).collect()
}

/// Opens a file that is read repeatedly.
fn open(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()
}

impl CpuStat {
    /// The sums over all levels; `None` if no level reports throttling.
    pub fn read(&self) -> Option<ThrottleObservation> {
        let mut text = [0; 2_048];
        let levels = self.0.iter().filter_map(|file| {
            let length = rustix::io::pread(file, &mut text[..], 0).ok()?;
            parse(std::str::from_utf8(text.get(..length)?).ok()?)
        });
        levels.reduce(|all, level| ThrottleObservation {
            periods: all.periods.wrapping_add(level.periods),
            time_ns: all.time_ns.wrapping_add(level.time_ns),
        })
    }
}

/// Parses one file: `nr_throttled`, and `throttled_time` (version 1, nanoseconds) or
/// `throttled_usec` (version 2).
fn parse(text: &str) -> Option<ThrottleObservation> {
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok())
    };
    let micros = number("throttled_usec").map(|micros| micros.saturating_mul(1_000));
    let (periods, time_ns) = (number("nr_throttled"), number("throttled_time").or(micros));
    (periods.is_some() || time_ns.is_some()).then(|| ThrottleObservation {
        periods: periods.unwrap_or_default(),
        time_ns: time_ns.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::freezer::Version;
    use super::*;

    /// A tree in a folder: the contents of `/proc/PID/cgroup` and `mountinfo` (`TREE` stands for
    /// the folder), and files below it.
    pub(super) fn tree(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Place) {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("proc/7/cgroup", cgroup);
        write("proc/self/mountinfo", &mountinfo.replace("TREE", &root.path().display().to_string()));
        files.iter().for_each(|(path, text)| write(path, text));
        let place = Place::find(&root.path().join("proc/7"), &root.path().join("proc/self"));
        (root, place)
    }

    const V1: &str = "32 31 0:29 / TREE/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:30 / TREE/memory rw,relatime - cgroup cgroup rw,memory\n";

    #[test]
    fn version_1_tells_of_its_own_cgroup_and_of_those_above() {
        let (_root, place) = tree(
            "4:memory:/other\n1:cpu,cpuacct:/a/b\n0::/\n",
            V1,
            &[
                ("cpu/a/b/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 300\n"),
                ("cpu/a/cpu.stat", "nr_periods 9\nnr_throttled 5\nthrottled_time 1000\n"),
                ("cpu/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
            ],
        );
        let sum = ThrottleObservation { periods: 7, time_ns: 1_300 };
        assert_eq!(place.open().cpu_stat.read(), Some(sum));
    }

    #[test]
    fn version_2_tells_microseconds_and_its_root_nothing() {
        let mounts = "41 31 0:38 / TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let (_root, place) = tree(
            "0::/kubepods/pod/box\n",
            mounts,
            &[
                ("unified/kubepods/pod/box/cpu.stat", "usage_usec 5\nnr_throttled 1\nthrottled_usec 20\n"),
                ("unified/kubepods/pod/cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 7\n"),
                ("unified/cpu.stat", "usage_usec 5\nuser_usec 3\n"),
            ],
        );
        assert_eq!(place.open().cpu_stat.read(), Some(ThrottleObservation { periods: 4, time_ns: 27_000 }));
    }

    #[test]
    fn what_lies_above_the_root_of_a_mount_is_not_looked_for() {
        let mounts = "41 31 0:38 /pod TREE/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let files = [("unified/box/cpu.stat", "nr_throttled 1\nthrottled_usec 20\n")];
        let (_root, inside) = tree("0::/pod/box\n", mounts, &files);
        assert_eq!(inside.open().cpu_stat.read(), Some(ThrottleObservation { periods: 1, time_ns: 20_000 }));
        for outside in ["0::/elsewhere\n", "0::/pod/../box\n", "garbage", ""] {
            let (_root, place) = tree(outside, mounts, &files);
            assert_eq!(place.open().cpu_stat.read(), None, "{outside:?}");
        }
    }

    /// One hierarchy, mounted in several places.
    fn seen_through(cgroup: &str, mounts: &[(&str, &str)], files: &[(&str, &str)]) -> Option<u64> {
        let lines: String = mounts
            .iter()
            .map(|(root, point)| format!("41 31 0:38 {root} TREE/{point} rw,relatime - cgroup2 cgroup2 rw\n"))
            .collect();
        let (_root, place) = tree(cgroup, &lines, files);
        place.open().cpu_stat.read().map(|throttle| throttle.periods)
    }

    #[test]
    fn a_mount_that_does_not_hold_the_process_is_passed_over() {
        let own = ("unified/pod/box/cpu.stat", "nr_throttled 1\n");
        let above = ("unified/pod/cpu.stat", "nr_throttled 2\n");
        let files =
            [own, above, ("bound/cpu.stat", "nr_throttled 40\n"), ("part/box/cpu.stat", "nr_throttled 1\n")];
        let cgroup = "0::/pod/box\n";
        let whole = ("/", "unified");
        assert_eq!(seen_through(cgroup, &[("/other", "bound"), whole], &files), Some(3));
        assert_eq!(seen_through(cgroup, &[("/pod/bo", "bound"), whole], &files), Some(3), "a sister's");
        assert_eq!(
            seen_through(cgroup, &[("/..", "bound"), whole], &files),
            Some(3),
            "outside this namespace"
        );
        assert_eq!(seen_through(cgroup, &[("/other", "bound"), ("/pod", "part")], &files), Some(1));
        assert_eq!(
            seen_through(cgroup, &[("/pod", "part"), whole], &files),
            Some(3),
            "it shows those above too"
        );
        assert_eq!(seen_through(cgroup, &[("/", "covered"), ("/pod", "part")], &files), Some(1));
        assert_eq!(seen_through(cgroup, &[("/other", "bound")], &files), None);
    }

    #[test]
    fn a_process_outside_the_root_of_the_namespace_is_seen_through_a_mount_from_outside() {
        let files = [("above/box/cpu.stat", "nr_throttled 6\n")];
        assert_eq!(seen_through("0::/../box\n", &[("/", "unified"), ("/..", "above")], &files), Some(6));
        assert_eq!(seen_through("0::/../../box\n", &[("/..", "above")], &files), None);
    }

    #[test]
    fn version_1_takes_the_mount_that_holds_it_too_and_names_may_be_any_bytes() {
        let mounts = "30 31 0:29 /other TREE/bound rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 31 0:29 / TREE/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let files = [
            ("bound/cpu.stat", "nr_throttled 40\n"),
            ("cpu/a b/cpu.stat", "nr_throttled 2\n"),
            ("cpu/cpu.stat", "nr_throttled 1\n"),
        ];
        let (root, place) = tree("1:cpu,cpuacct:/a b\n", mounts, &files);
        assert_eq!(place.open().cpu_stat.read().map(|throttle| throttle.periods), Some(3));
        // A cgroup with such a name, in another hierarchy.
        let cgroup = b"9:misc:/\xff\xd1\n1:cpu,cpuacct:/a b\n";
        std::fs::write(root.path().join("proc/7/cgroup"), cgroup).unwrap();
        assert_eq!(Place::find(&root.path().join("proc/7"), &root.path().join("proc/self")), place);
    }

    #[test]
    fn this_machine_tells_of_the_process_that_asks() {
        // Whatever its cgroups are, this neither fails nor blocks.
        let own = Path::new("/proc/self");
        let opened = Place::find(own, own).open();
        let _ = (opened.cpu_stat.read(), opened.memory.is_over());
        let frozen = [Version::One, Version::Two].map(|version| opened.freezer.is_frozen(version));
        assert_eq!(frozen, [false; 2], "whoever asks is not frozen");
    }
}
