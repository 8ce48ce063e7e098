//! Finds the processes besides the two that are kept running: those in the process group of a
//! child, and those that the supervisor adopted because their parent died.
//!
//! Read from `/proc` as bytes, since names of processes need not be text. A process that cannot be
//! read has ended.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;

/// Limit of processes named in one log line; more would hide the rest of it.
const MOST_NAMED: usize = 5;

/// One process that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relative {
    pub(super) pid: i32,
    parent: i32,
    group: i32,
    /// Start time since boot, in clock ticks: distinguishes two processes with the same pid.
    pub(super) start: u64,
    name: String,
}

/// All processes.
#[derive(Debug)]
pub(super) struct Family(Vec<Relative>);

impl Family {
    /// Reads all processes below `proc`.
    ///
    /// # Errors
    /// If there is no such folder: then it is unknown which processes are left.
    pub(super) fn read(proc: &Path) -> io::Result<Self> {
        let mut all = Vec::new();
        for entry in fs::read_dir(proc)? {
            let Ok(entry) = entry else { continue };
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = number else { continue };
            all.extend(fs::read(entry.path().join("stat")).ok().and_then(|stat| parse(pid, &stat)));
        }
        Ok(Self(all))
    }

    /// The processes in the group of `leader`, without the leader itself.
    pub(super) fn group_of(&self, leader: Pid) -> Vec<Relative> {
        let leader = leader.as_raw_nonzero().get();
        let members = self.0.iter().filter(|one| one.group == leader && one.pid != leader);
        members.cloned().collect()
    }

    /// The children of `parent` that are in none of the groups of `leaders`.
    pub(super) fn children_outside(&self, parent: Pid, leaders: &[Pid]) -> Vec<Relative> {
        let parent = parent.as_raw_nonzero().get();
        let inside = |one: &Relative| leaders.iter().any(|leader| leader.as_raw_nonzero().get() == one.group);
        self.0.iter().filter(|one| one.parent == parent && !inside(one)).cloned().collect()
    }
}

/// Parses `stat`; `None` if the process has ended, or if the text is malformed.
fn parse(pid: i32, stat: &[u8]) -> Option<Relative> {
    // The name may contain spaces and brackets: it ends at the last closing bracket.
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).escape_debug().to_string();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // The start time is field 22 of the file, and `group` was field 5.
    let start = fields.nth(16)?.parse().ok()?;
    Some(Relative { pid, parent, group, start, name })
}

/// A display that names some of them for the log.
pub(super) struct Named<'a>(pub(super) &'a [Relative]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, one) in self.0.iter().take(MOST_NAMED).enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}pid {} ({})", one.pid, one.name)?;
        }
        match self.0.len().checked_sub(MOST_NAMED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(processes: &[(i32, &[u8], &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (pid, name, rest) in processes {
            let own = folder.path().join(pid.to_string());
            fs::create_dir(&own).unwrap();
            let stat = [format!("{pid} (").as_bytes(), *name, b") ", rest.as_bytes()].concat();
            fs::write(own.join("stat"), stat).unwrap();
        }
        fs::create_dir(folder.path().join("self")).unwrap();
        fs::create_dir(folder.path().join("99")).unwrap();
        folder
    }

    /// The fields after the name, up to the start time.
    fn fields(state: &str, parent: i32, group: i32, start: u64) -> String {
        format!("{state} {parent} {group} 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9 9 9")
    }

    #[test]
    fn a_group_is_told_from_its_leader_from_zombies_and_from_strangers() {
        let folder = folder(&[
            (10, b"sh", &fields("Z", 1, 10, 100)),
            (11, b"a) b (c", &fields("S", 10, 10, 101)),
            (12, b"gone", &fields("Z", 10, 10, 102)),
            (13, b"\xff\n", &fields("D", 1, 10, 103)),
            (14, b"other", &fields("R", 1, 14, 104)),
        ]);
        let family = Family::read(folder.path()).unwrap();
        let leader = Pid::from_raw(10).unwrap();
        let mut group = family.group_of(leader);
        group.sort_by_key(|one| one.pid);
        assert_eq!(group.iter().map(|one| (one.pid, one.start)).collect::<Vec<_>>(), [(11, 101), (13, 103)]);
        assert_eq!(Named(&group).to_string(), "pid 11 (a) b (c), pid 13 (\u{fffd}\\n)");
        let outside = family.children_outside(Pid::from_raw(1).unwrap(), &[leader]);
        assert_eq!(outside.iter().map(|one| one.pid).collect::<Vec<_>>(), [14]);
    }

    #[test]
    fn a_long_list_is_cut() {
        let one = Relative { pid: 1, parent: 0, group: 0, start: 0, name: "a".to_owned() };
        let many = vec![one; MOST_NAMED + 2];
        assert!(Named(&many).to_string().ends_with("pid 1 (a) and 2 more"), "{}", Named(&many));
    }

    #[test]
    fn without_a_folder_nobody_knows() {
        assert!(Family::read(Path::new("/nowhere/proc")).is_err());
    }
}
