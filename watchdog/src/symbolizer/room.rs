//! How much memory the stacks of a dump may take.
//!
//! The process is in the cgroup of its sidecar. If that runs out of memory, the kernel may kill the
//! sidecar with it: Kubernetes and systemd see to that, for the whole cgroup. So no more is taken
//! than the cgroup and the machine leave free, and some of it stays free.

use std::io::Read as _;
use std::path::Path;

use crate::probe::cgroup;

/// With less, it is not tried. The stacks of a small program without debug information take 20 MiB.
pub const LEAST: u64 = 32 << 20;
/// No more is taken, however much is free. Debug information of a large program takes 600 MiB.
const MOST: u64 = 1 << 30;
/// At most this many bytes of a file are read; `memory.stat` has about 60 lines.
const LONGEST: u64 = 16 << 10;

/// What the process whose folder in `/proc` is `own` may take, in bytes: three quarters of what is
/// free in each of its cgroups and on the machine, of which `meminfo` tells.
pub fn for_stacks(own: &Path, meminfo: &Path) -> u64 {
    let levels = cgroup::memory_levels(own, own);
    let free = levels.iter().filter_map(|level| free_in(level));
    let free = free.chain(field(&read(meminfo), "MemAvailable:").map(|kib| kib.saturating_mul(1_024)));
    free.min().map_or(MOST, |free| free / 4 * 3).min(MOST)
}

/// What one cgroup leaves free; `None` if it has no limit. Files in memory count as free, as far as
/// nobody has used them for long: the kernel drops them first.
fn free_in(level: &Path) -> Option<u64> {
    let number = |name: &str| read(&level.join(name)).trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = read(&level.join("memory.stat"));
    let files = field(&stat, "inactive_file").or_else(|| field(&stat, "total_inactive_file"));
    Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Empty if it cannot be read.
fn read(path: &Path) -> String {
    let mut text = String::new();
    let _ = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_cgroup_leaves_what_it_may_have_and_has_not_or_could_drop() {
        let level = tempfile::tempdir().unwrap();
        let set = |name: &str, text: String| std::fs::write(level.path().join(name), text).unwrap();
        assert_eq!(free_in(level.path()), None);
        set("memory.current", format!("{}\n", 100 * MIB));
        set("memory.max", "max\n".to_owned());
        assert_eq!(free_in(level.path()), None);
        set("memory.max", format!("{}\n", 128 * MIB));
        assert_eq!(free_in(level.path()), Some(28 * MIB));
        set("memory.stat", format!("anon 5\ninactive_file {}\n", 60 * MIB));
        assert_eq!(free_in(level.path()), Some(88 * MIB));
    }

    #[test]
    fn the_machine_limits_it_too_and_there_is_a_most() {
        let folder = tempfile::tempdir().unwrap();
        let meminfo = folder.path().join("meminfo");
        std::fs::write(&meminfo, "MemTotal: 8000000 kB\nMemAvailable:  40960 kB\n").unwrap();
        assert_eq!(for_stacks(folder.path(), &meminfo), 30 * MIB);
        assert_eq!(for_stacks(folder.path(), &folder.path().join("none")), MOST);
    }
}
