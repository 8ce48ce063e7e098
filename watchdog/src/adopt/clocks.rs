//! Whether a process reads another clock than the sidecar: start times in `/proc` are given in the
//! clock of the reader, and a time namespace has its own.

use std::path::Path;

/// Clock ticks per second in `stat`: `USER_HZ` is 100 on every architecture that this runs on.
const TICKS: i128 = 100;
const SECOND: i128 = 1_000_000_000;

/// By how much a start time that the process wrote may differ from the one the sidecar reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offsets {
    /// By one of these offsets, in ticks.
    OneOf(Vec<i64>),
    /// The process is in another time namespace, and its clock offset is unknown.
    Any,
}

impl Offsets {
    /// What the kernel reports about process `pid`.
    pub(super) fn of(pid: i32, root: &Path) -> Self {
        let (theirs, ours) = (root.join(pid.to_string()), root.join("self"));
        let link = |of: &Path| std::fs::read_link(of.join("ns/time")).ok();
        let links = link(&theirs).zip(link(&ours));
        if links.as_ref().is_some_and(|(theirs, ours)| theirs == ours) {
            return Self::OneOf(vec![0]);
        }
        // Readable by anybody, unlike the links. It shows the namespace of the process's children,
        // which is its own unless it has just made one for them.
        let told = boot_clock(&theirs).zip(boot_clock(&ours));
        match (links, told) {
            (None, None) => Self::OneOf(vec![0]),
            (Some(_), None) => Self::Any,
            (Some(_), Some((theirs, ours))) => Self::OneOf(vec![ticks(ours - theirs)]),
            (None, Some((theirs, ours))) if theirs == ours => Self::OneOf(vec![0]),
            (None, Some((theirs, ours))) => Self::OneOf(vec![0, ticks(ours - theirs)]),
        }
    }

    /// The offset that makes `found` the `written` start time, if there is one.
    pub(super) fn fit(&self, found: u64, written: u64) -> Option<i64> {
        let difference = found.cast_signed().wrapping_sub(written.cast_signed());
        match self {
            Self::Any => Some(difference),
            // Each side may lose a fraction of a tick.
            Self::OneOf(known) => known
                .iter()
                .any(|known| difference.abs_diff(*known) <= u64::from(*known != 0))
                .then_some(difference),
        }
    }

    /// The offset to use where none fits.
    pub(super) fn first(&self) -> i64 {
        match self {
            Self::Any => 0,
            Self::OneOf(known) => known.last().copied().unwrap_or_default(),
        }
    }
}

/// What that process's time namespace adds to the boot clock, in nanoseconds.
fn boot_clock(process: &Path) -> Option<i128> {
    let text = std::fs::read(process.join("timens_offsets")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // By name since Linux 5.7; before, by the number of the clock.
    let line = text.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        matches!(fields.next(), Some("boottime" | "7")).then_some(fields)
    });
    let mut fields = line?;
    let (seconds, nanos): (i128, i128) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(seconds.checked_mul(SECOND)?.saturating_add(nanos))
}

fn ticks(nanos: i128) -> i64 {
    i64::try_from(nanos.saturating_mul(TICKS) / SECOND).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of process 7, given the contents of its files and this sidecar's.
    fn told(links: Option<(&str, &str)>, offsets: Option<(&str, &str)>) -> Offsets {
        let root = tempfile::tempdir().unwrap();
        for of in ["7", "self"] {
            std::fs::create_dir_all(root.path().join(of).join("ns")).unwrap();
        }
        if let Some((theirs, ours)) = links {
            std::os::unix::fs::symlink(theirs, root.path().join("7/ns/time")).unwrap();
            std::os::unix::fs::symlink(ours, root.path().join("self/ns/time")).unwrap();
        }
        if let Some((theirs, ours)) = offsets {
            std::fs::write(root.path().join("7/timens_offsets"), theirs).unwrap();
            std::fs::write(root.path().join("self/timens_offsets"), ours).unwrap();
        }
        Offsets::of(7, root.path())
    }

    const NONE: &str = "monotonic           0         0\nboottime            0         0\n";
    const AHEAD: &str = "monotonic        1000         0\nboottime          100 250000000\n";

    #[test]
    fn one_namespace_is_one_clock_and_another_is_as_far_ahead_as_the_kernel_says() {
        let one = Some(("time:[1]", "time:[1]"));
        assert_eq!(told(one, Some((AHEAD, NONE))), Offsets::OneOf(vec![0]), "made for its children");
        assert_eq!(told(None, None), Offsets::OneOf(vec![0]), "Linux before 5.6");
        assert_eq!(told(None, Some((NONE, NONE))), Offsets::OneOf(vec![0]));
        let two = Some(("time:[2]", "time:[1]"));
        assert_eq!(told(two, None), Offsets::Any);
        let ahead = told(two, Some((AHEAD, NONE)));
        assert_eq!(ahead, Offsets::OneOf(vec![-10_025]));
        assert_eq!(ahead.fit(1_000, 11_025), Some(-10_025));
        assert_eq!(ahead.fit(1_000, 11_026), Some(-10_026), "a part of a tick");
        assert_eq!(ahead.fit(1_000, 11_027), None, "another start");
        assert_eq!(ahead.fit(1_000, 1_000), None);
    }

    #[test]
    fn where_the_namespaces_are_hidden_both_readings_are_possible() {
        let hidden = told(None, Some((AHEAD, NONE)));
        assert_eq!((hidden.fit(1_000, 1_000), hidden.fit(1_000, 11_025)), (Some(0), Some(-10_025)));
        assert_eq!(hidden.fit(1_000, 1_001), None, "in one clock there are no parts of a tick");
    }

    #[test]
    fn what_is_no_file_of_the_kernel_tells_nothing() {
        for garbage in ["", "boottime", "boottime x 0", "monotonic 1 0"] {
            assert_eq!(told(Some(("a", "b")), Some((garbage, NONE))), Offsets::Any, "{garbage:?}");
        }
        let huge = format!("boottime {} 0\n", i128::MAX);
        assert_eq!(told(Some(("a", "b")), Some((&huge, NONE))), Offsets::Any);
    }

    #[test]
    fn this_process_reads_its_own_clock() {
        let own = std::process::id().cast_signed();
        assert_eq!(Offsets::of(own, Path::new("/proc")), Offsets::OneOf(vec![0]));
    }
}
