//! Whether the kernel's OOM killer ended processes of the target's own cgroup.
//!
//! A process that the OOM killer ends looks like one that anybody sent SIGKILL. Its cgroup counts
//! such kills, whichever limit was exceeded: its own, that of a cgroup above it, or the machine's
//! (`__oom_kill_process` in mm/oom_kill.c). The count grows before the signal is sent.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The files that have the count, of cgroups of version 2 and 1. The first one counts for the
/// cgroup itself; before Linux 5.2 only the second one exists, which counts for those below too.
const FILES: [&str; 3] = ["memory.events.local", "memory.events", "memory.oom_control"];
/// The files have up to ten short lines.
const LONGEST: usize = 512;

/// The open file with the count, and what it said when it was opened.
#[derive(Debug, Default)]
pub struct OomKills(Option<(OwnedFd, u64)>);

/// The target's own cgroups that may have one of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<PathBuf>);

impl Place {
    /// Adds the folder of one of the process's own cgroups.
    pub(super) fn add(&mut self, own: PathBuf) {
        self.0.push(own);
    }

    /// Opens the first file that exists and has a count.
    pub(super) fn open(&self) -> OomKills {
        let files = self.0.iter().flat_map(|folder| FILES.map(|file| folder.join(file)));
        OomKills(files.filter_map(|path| super::open(&path)).find_map(|file| {
            let before = count(&file)?;
            Some((file, before))
        }))
    }
}

impl OomKills {
    /// How many there were since it was opened; zero for what cannot be read.
    pub fn since(&self) -> u64 {
        let grown = |(file, before): &(OwnedFd, u64)| Some(count(file)?.saturating_sub(*before));
        self.0.as_ref().and_then(grown).unwrap_or_default()
    }
}

fn count(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; LONGEST];
    let read = rustix::io::pread(file, &mut text[..], 0).ok()?;
    let text = std::str::from_utf8(text.get(..read)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(files: &[(&str, &str)]) -> (tempfile::TempDir, OomKills) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut place = Place::default();
        place.add(PathBuf::from("/nowhere"));
        place.add(folder.path().to_owned());
        let kills = place.open();
        (folder, kills)
    }

    #[test]
    fn what_the_count_has_grown_by_is_told_in_each_version() {
        let files = [
            (
                "memory.events.local",
                "low 0\nhigh 7\nmax 3\noom 1\noom_kill 4\noom_group_kill 9\n",
                "oom_kill 5\n",
            ),
            ("memory.events", "oom 1\noom_kill 4\n", "oom 2\noom_kill 5\n"),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
                "under_oom 0\noom_kill 5\n",
            ),
        ];
        for (name, before, after) in files {
            let (folder, kills) = opened(&[(name, before)]);
            assert_eq!(kills.since(), 0, "{name}");
            std::fs::write(folder.path().join(name), after).unwrap();
            assert_eq!(kills.since(), 1, "{name}");
            std::fs::write(folder.path().join(name), "oom_kill x\n").unwrap();
            assert_eq!(kills.since(), 0, "{name}");
        }
    }

    #[test]
    fn the_cgroup_itself_goes_before_those_below_it() {
        let (folder, kills) =
            opened(&[("memory.events.local", "oom_kill 0\n"), ("memory.events", "oom_kill 0\n")]);
        std::fs::write(folder.path().join("memory.events"), "oom_kill 1\n").unwrap();
        assert_eq!(kills.since(), 0, "somebody else was killed");
    }

    #[test]
    fn without_a_count_nothing_is_told() {
        assert_eq!(opened(&[]).1.since(), 0);
        // A kernel before 4.13.
        assert_eq!(opened(&[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")]).1.since(), 0);
    }
}
